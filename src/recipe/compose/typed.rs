//! The merged document as a [`Stack`]: final names, typed values, and every reference checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::at::At;
use super::budget::Budget;
use super::scalar;
use crate::recipe::stack::{FileObject, Network, Stack, Volume};
use crate::recipe::tree::{Tree, inside};

/// Types a merged document. `name` is the stack's name; configs are read from `tree`.
pub(super) fn stack(at: &At<'_>, name: &str, tree: &Tree, budget: &Budget) -> Result<Stack> {
    let mut stack = Stack { name: name.to_owned(), ..Stack::default() };
    for (key, at) in section(at, "networks")? {
        stack.networks.insert(key.to_owned(), network(&at, name, key)?);
    }
    for (key, at) in section(at, "volumes")? {
        stack.volumes.insert(key.to_owned(), volume(&at, name, key)?);
    }
    for (key, at) in section(at, "secrets")? {
        stack.secrets.insert(key.to_owned(), object(&at, name, key)?);
    }
    for (key, at) in section(at, "configs")? {
        let object = object(&at, name, key)?;
        stack.configs.insert(key.to_owned(), FileObject { content: config_content(&at, tree, budget)?, ..object });
    }
    for (key, at) in section(at, "services")? {
        let service = super::service::service(&at, &stack)?;
        if service.networks.contains_key(DEFAULT) && !stack.networks.contains_key(DEFAULT) {
            let network = Network { name: format!("{name}_{DEFAULT}"), ..Network::default() };
            stack.networks.insert(DEFAULT.into(), network);
        }
        stack.services.insert(key.to_owned(), service);
    }
    if stack.services.is_empty() {
        bail!(at.error("no service is defined"));
    }
    Ok(stack)
}

/// The network of services that name none.
pub(super) const DEFAULT: &str = "default";

fn section<'a>(at: &At<'a>, key: &str) -> Result<Vec<(&'a str, At<'a>)>> {
    Ok(at.get(key).map(|at| at.entries().map(Vec::from_iter)).transpose()?.unwrap_or_default())
}

/// The name in Docker: the given one, else the key of an external object, else `<stack>_<key>`.
fn final_name(at: &At<'_>, stack: &str, key: &str) -> Result<String> {
    let given = text(at, "name")?.filter(|name| !name.is_empty());
    Ok(given.unwrap_or_else(|| {
        if flag(at, "external").unwrap_or(false) { key.to_owned() } else { format!("{stack}_{key}") }
    }))
}

fn network(at: &At<'_>, stack: &str, key: &str) -> Result<Network> {
    Ok(Network {
        name: final_name(at, stack, key)?,
        external: flag(at, "external")?,
        internal: flag(at, "internal")?,
        driver: text(at, "driver")?,
    })
}

fn volume(at: &At<'_>, stack: &str, key: &str) -> Result<Volume> {
    let external = flag(at, "external")?;
    if let Some(other) = ["driver", "driver_opts", "labels"].into_iter().find(|key| external && at.get(key).is_some()) {
        bail!(at.error(format!("`external` and `{other}` exclude each other")));
    }
    Ok(Volume {
        name: final_name(at, stack, key)?,
        external,
        driver: text(at, "driver")?,
        driver_opts: pairs(at, "driver_opts")?,
        labels: pairs(at, "labels")?,
    })
}

fn object(at: &At<'_>, stack: &str, key: &str) -> Result<FileObject> {
    if !flag(at, "external")? && ["file", "driver"].into_iter().all(|key| at.get(key).is_none()) {
        bail!(at.error("it has neither `file` nor `external`"));
    }
    Ok(FileObject {
        name: final_name(at, stack, key)?,
        external: flag(at, "external")?,
        content: None,
        file: text(at, "file")?.map(PathBuf::from),
        template_driver: text(at, "template_driver")?,
    })
}

/// The file of a config, which stands in the recipe: an absolute path, a way out of it or a link is refused.
fn config_content(at: &At<'_>, tree: &Tree, budget: &Budget) -> Result<Option<Vec<u8>>> {
    if flag(at, "external")? {
        return Ok(None);
    }
    let Some(file) = at.get("file") else { return Ok(None) };
    let read = || {
        let path = inside(file.text()?)?;
        let content = tree.file(&path)?;
        budget.take(content.len())?;
        anyhow::Ok(content.to_vec())
    };
    read().map(Some).with_context(|| file.place().trim_end_matches(": ").to_owned())
}

pub(super) fn text(at: &At<'_>, key: &str) -> Result<Option<String>> {
    at.get(key).map(|at| at.text().map(str::to_owned)).transpose()
}

pub(super) fn texts(at: &At<'_>, key: &str) -> Result<Option<Vec<String>>> {
    at.get(key).map(|at| at.texts()).transpose()
}

pub(super) fn flag(at: &At<'_>, key: &str) -> Result<bool> {
    Ok(at.get(key).map(|at| at.bool()).transpose()?.unwrap_or(false))
}

pub(super) fn int<T: TryFrom<i64>>(at: &At<'_>, key: &str) -> Result<Option<T>> {
    at.get(key).map(|at| at.int()).transpose()
}

pub(super) fn duration(at: &At<'_>, key: &str) -> Result<Option<Duration>> {
    let read = |at: At<'_>| scalar::duration(at.text()?).map_err(|error| at.error(error));
    at.get(key).map(read).transpose()
}

pub(super) fn pairs(at: &At<'_>, key: &str) -> Result<BTreeMap<String, String>> {
    let Some(at) = at.get(key) else { return Ok(BTreeMap::new()) };
    at.entries()?.map(|(key, at)| Ok((key.to_owned(), at.text()?.to_owned()))).collect()
}

/// One of a closed set of words.
pub(super) fn word<T: Copy>(at: &At<'_>, key: &str, words: &[(&str, T)]) -> Result<Option<T>> {
    let Some(at) = at.get(key) else { return Ok(None) };
    let text = at.text()?;
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let known =
                crate::recipe::suggest::listed(words.iter().map(|(word, _)| *word).filter(|word| !word.is_empty()), 9);
            bail!(at.error(format!("`{}` is not known: possible are {known}", text.escape_debug())))
        }
    }
}
