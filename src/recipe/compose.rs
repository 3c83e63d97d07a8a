//! Compose files: loaded, interpolated, merged and typed, as `docker stack deploy` would take them.

mod at;
mod budget;
mod environment;
mod interpolate;
mod lines;
mod merge;
mod normalize;
mod omit;
mod resolve;
pub(in crate::recipe) mod scalar;
mod schema;
mod service;
pub mod template;
mod typed;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use self::at::At;
use self::budget::{Budget, FILES};
use self::lines::Source;
pub(crate) use self::lines::Sources;
use self::schema::NEWEST;
use super::env::AppEnv;
use super::route;
use super::stack::{Service, Stack};
use super::tree::{Tree, inside};

/// The compose files of an app, as one.
#[derive(Clone, Debug)]
pub struct Compose {
    pub stack: Stack,
    /// The merged document with every variable replaced, in compose's long forms.
    pub document: Value,
    /// The variables in each secret's `name`, before they were replaced: one of them declares the secret.
    pub secret_variables: BTreeMap<String, Vec<String>>,
    /// Each service's image before variables were replaced, where there are any, with their names.
    pub images: BTreeMap<String, (String, Vec<String>)>,
    /// Where each part of the document is written.
    pub(crate) sources: Sources,
}

impl Compose {
    /// Where the rules of Traefik's routers are written, as `compose.yml` line 21, by service and label.
    pub(super) fn rules_at(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let place = |service: &str, label: &str| {
            let path = ["services", service, "deploy", "labels", label].map(str::to_owned);
            let (file, line) = self.sources.place(&self.document, &path);
            (label.to_owned(), format!("`{file}` line {line}"))
        };
        let of_service = |(name, service): (&String, &Service)| {
            let rules = service.deploy.labels.keys().filter(|label| route::is_rule(label));
            (name.clone(), rules.map(|label| place(name, label)).collect())
        };
        self.stack.services.iter().map(of_service).collect()
    }
}

/// Loads the files that the environment's `COMPOSE_FILE` names. Variables are looked up in `env` alone.
pub fn load(tree: &Tree, env: &AppEnv) -> Result<Compose> {
    let files = env.compose_files(tree)?;
    let (mut merged, mut version): (Option<Value>, Option<String>) = (None, None);
    let (mut notes, mut secret_variables) = (BTreeSet::new(), BTreeMap::new());
    let (mut sources, mut images) = (Sources::default(), BTreeMap::new());
    let (budget, values) = (Budget::default(), env.iter().collect::<BTreeMap<&str, &str>>());
    let lookup = |name: &str| values.get(name).map(|value| (*value).to_owned());
    let bytes = files.iter().map(|file| tree.text(file).map(str::len)).sum::<Result<usize>>()?;
    if bytes > FILES {
        bail!("the compose files have {bytes} bytes together: at most {FILES} are read");
    }
    for file in &files {
        let (raw, lines) = yaml::parse(tree.text(file)?).with_context(|| format!("failed to read `{file}`"))?;
        let raw = Value::Object(raw);
        secret_variables.extend(variables_of_secrets(&raw));
        images.extend(variables_of_images(&raw));
        let own = version_of(&raw);
        if version.as_ref().is_some_and(|version| *version != own) {
            bail!(
                "`{file}`: version `{own}` differs from `{}` of `{}`: one is needed",
                version.unwrap_or_default(),
                files[0]
            );
        }
        let source = Source { file: file.clone(), raw, normal: Value::Null, lines };
        let source = one_file(source, &own, &Given { tree, env, lookup: &lookup, budget: &budget }, &mut notes)?;
        version = Some(own);
        let document = source.normal.clone();
        sources.0.push(source);
        match &mut merged {
            None => merged = Some(document),
            Some(base) => merge::merge(base, document),
        }
    }
    let mut document = merged.context("no compose file")?;
    omit::empty_values(&mut document);
    config_files(&document, &sources, tree)?;
    let label = files.join("` + `");
    let mut stack = typed::stack(&At::top(&label, &document), env.stack(), tree, &budget)?;
    stack.notes = notes.into_iter().collect();
    Ok(Compose { stack, document, secret_variables, images, sources })
}

const LACKING_LONG_FORMS: [&str; 8] = ["3.0", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7"];

/// A document as text for `docker stack deploy -c`, which replaces variables itself: every `$` is doubled. Older versions
/// of the format do not have the long forms, and every docker of the last years knows 3.8.
pub fn for_stack_deploy(document: &Value) -> Result<String> {
    let mut document = document.clone();
    double_dollars(&mut document);
    omit::repetitions(&mut document);
    if document["version"].as_str().is_some_and(|version| LACKING_LONG_FORMS.contains(&version)) {
        document["version"] = "3.8".into();
    }
    serde_json::to_string_pretty(&document).context("failed to write the compose document")
}

/// The file of a config stands in the recipe: an absolute path, a way out of it or a link is refused, whatever the
/// policy says.
fn config_files(document: &Value, sources: &Sources, tree: &Tree) -> Result<()> {
    for (key, config) in document.get("configs").and_then(Value::as_object).into_iter().flatten() {
        let Some(file) = config["file"].as_str().filter(|_| config["external"] != true) else { continue };
        let read = inside(file).and_then(|path| tree.file(&path).map(drop));
        read.with_context(|| {
            let (source, line) = sources.place(document, &["configs".into(), key.clone(), "file".into()]);
            format!("`{source}` line {line}: `configs.{key}.file`")
        })?;
    }
    Ok(())
}

/// What a compose file is read with.
struct Given<'a> {
    tree: &'a Tree,
    env: &'a AppEnv,
    lookup: interpolate::Lookup<'a>,
    budget: &'a Budget,
}

fn one_file(mut source: Source, version: &str, given: &Given<'_>, notes: &mut BTreeSet<String>) -> Result<Source> {
    let file = source.file.clone();
    let minor = version.strip_prefix("3.").and_then(|minor| minor.parse().ok()).filter(|minor| *minor <= NEWEST);
    let Some(minor) = minor.filter(|minor: &u32| format!("3.{minor}") == version) else {
        bail!("`{file}`: version `{version}` is not supported: expected `3`, or `3.0` to `3.{NEWEST}`");
    };
    let replaced = interpolate::document(&mut source.raw, given.lookup, given.budget);
    for (place, surprise) in replaced.with_context(|| format!("`{file}`"))? {
        notes.insert(format!("`{file}`: `{place}`: {surprise}"));
    }
    source.normal = normalize::file(&At::top(&file, &source.raw), minor, notes)?;
    let mut document = source.normal.clone();
    let services = document.get_mut("services").and_then(Value::as_object_mut);
    for (name, service) in services.into_iter().flatten() {
        environment::resolve(service, given.tree, given.env, given.budget).with_context(|| {
            let path = ["services", name, "env_file"].map(str::to_owned);
            let (_, line) = Sources(vec![source.clone()]).place(&source.normal, &path);
            format!("`{file}` line {line}: `services.{name}.env_file`")
        })?;
        home_of_binds(service, given.env);
    }
    source.normal = document;
    Ok(source)
}

/// Docker replaces the `~` of a bind mount by `HOME`, once per mount.
fn home_of_binds(service: &mut Value, env: &AppEnv) {
    let mounts = service.get_mut("volumes").and_then(Value::as_array_mut);
    for mount in mounts.into_iter().flatten().filter(|mount| mount["type"] == "bind") {
        let rest = mount["source"].as_str().and_then(|source| source.strip_prefix('~'));
        if let (Some(rest), Some(home)) = (rest, env.get("HOME")) {
            mount["source"] = format!("{home}{rest}").into();
        }
    }
}

/// The version as it is written, before variables are replaced; `3` and no version at all mean the newest.
fn version_of(raw: &Value) -> String {
    let newest = || format!("3.{NEWEST}");
    match raw.get("version") {
        None => newest(),
        Some(Value::String(text)) if text.is_empty() || text == "3" => newest(),
        Some(Value::Number(number)) if number.to_string() == "3" => newest(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn variables_of_secrets(raw: &Value) -> BTreeMap<String, Vec<String>> {
    let secrets = raw.get("secrets").and_then(Value::as_object);
    let variables = |secret: &Value| interpolate::variables(secret["name"].as_str().unwrap_or_default());
    secrets.into_iter().flatten().map(|(key, secret)| (key.clone(), variables(secret))).collect()
}

fn variables_of_images(raw: &Value) -> BTreeMap<String, (String, Vec<String>)> {
    let services = raw.get("services").and_then(Value::as_object);
    let image = |(name, service): (&String, &Value)| {
        let written = service["image"].as_str()?;
        Some((name.clone(), (written.to_owned(), interpolate::variables(written))))
    };
    services.into_iter().flatten().filter_map(image).collect()
}

fn double_dollars(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('$', "$$"),
        Value::Array(list) => list.iter_mut().for_each(double_dollars),
        Value::Object(map) => map.values_mut().for_each(double_dollars),
        _ => {}
    }
}

#[cfg(test)]
#[path = "compose/tests.rs"]
pub(in crate::recipe) mod tests;

#[cfg(test)]
#[path = "compose/docker_tests.rs"]
mod docker_tests;
