//! Keys and secrets that only the head's `.env.sample` has: an installed app has no value for them until its operator sets
//! one, and nobody but the release notes can say so.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::abra::Form;
use super::env::AppEnv;
use super::stack::Stack;
use super::tree::{Entry, Tree};
use super::version::Revision;
use super::{AppState, Recipe};

/// Where a recipe tells its operators what a version asks of them.
const NOTES: &str = "release/";

/// One such key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    pub key: String,
    /// The file that tells of it.
    pub told: Option<String>,
    /// What is wrong with an app that has no value for it.
    pub needed: Option<String>,
}

impl Recipe {
    /// What the head's sample has and the installed app has not.
    pub fn fresh(&self, base: &Revision, installed: &AppState, domain: &str, form: &Form) -> Result<Vec<Fresh>> {
        let (tree, old) = (self.mirror.tree(&self.head)?, self.mirror.tree(base)?);
        let mut env = AppEnv::new(&tree, &self.name, domain, &BTreeMap::new())?;
        let keys: Vec<String> =
            env.declared().filter(|key| installed.env.get(key).is_none()).map(str::to_owned).collect();
        env.keep(&installed.env);
        let mut fresh = Vec::new();
        for key in keys {
            let told = told(&tree, &old, &key);
            let whole = AppState::load(&self.name, &tree, domain, env.clone(), form)?;
            let needed = match AppState::load(&self.name, &tree, domain, env.without(&key), form) {
                Ok(state) => difference(&whole.stack, &state.stack),
                Err(error) => Some(format!("the head cannot be deployed: {error:#}")),
            };
            fresh.push(Fresh { key, told, needed });
        }
        Ok(fresh)
    }
}

/// The file below `release/`, new or changed in the head, that has a word of the key, or of the secret behind it.
fn told(tree: &Tree, old: &Tree, key: &str) -> Option<String> {
    let secret = key.strip_prefix("SECRET_").and_then(|rest| rest.strip_suffix("_VERSION")).map(str::to_lowercase);
    let notes = tree.files.iter().filter(|(path, _)| path.starts_with(NOTES));
    for (path, entry) in notes {
        let Entry::File { bytes, .. } = entry else { continue };
        let is_old = matches!(old.files.get(path), Some(Entry::File { bytes: before, .. }) if before == bytes);
        let text = String::from_utf8_lossy(bytes);
        if !is_old && (text.contains(key) || secret.as_ref().is_some_and(|secret| text.contains(secret.as_str()))) {
            return Some(path.clone());
        }
    }
    None
}

/// An image, a router or a secret that is another one without the key.
fn difference(whole: &Stack, without: &Stack) -> Option<String> {
    for (name, service) in &whole.services {
        let Some(other) = without.services.get(name) else { continue };
        if other.image != service.image {
            return Some(format!("the image of service `{name}` is `{}` instead of `{}`", other.image, service.image));
        }
        let routers = service.deploy.labels.iter().filter(|(key, _)| key.starts_with("traefik."));
        for (label, value) in routers {
            let found = other.deploy.labels.get(label).map_or("", String::as_str);
            if found != value {
                return Some(format!("the label `{label}` of service `{name}` is `{found}` instead of `{value}`"));
            }
        }
    }
    let mut secrets = whole.secrets.iter().filter_map(|(key, secret)| Some((key, secret, without.secrets.get(key)?)));
    let (key, secret, other) = secrets.find(|(_, secret, other)| secret.name != other.name)?;
    Some(format!("the secret `{key}` is named `{}` instead of `{}`", other.name, secret.name))
}

/// What a reader should know beforehand of what changes for an operator.
pub fn notes(fresh: &[Fresh], base: &Stack, head: &Stack) -> Vec<String> {
    let of_key = |it: &Fresh| {
        let said = match &it.told {
            Some(file) => format!("`{file}` tells of it"),
            None => "no new file below `release/` has a word of it".to_owned(),
        };
        format!("the head's `.env.sample` has the key `{}`, which the installed app has not: {said}", it.key)
    };
    let mut notes: Vec<String> = fresh.iter().map(of_key).collect();
    for (key, secret) in &head.secrets {
        if let Some(before) = base.secrets.get(key).filter(|before| before.name != secret.name) {
            notes.push(format!(
                "the secret `{key}` is another one in the head, `{}` instead of `{}`: it gets a new value, and what was set up \
                 with the old one has to learn it",
                secret.name, before.name
            ));
        }
    }
    notes
}
