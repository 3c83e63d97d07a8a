//! Compose files: loaded, interpolated, merged and typed, as `docker stack deploy` would take them.

mod at;
mod interpolate;
mod merge;
mod normalize;
mod scalar;
mod schema;
mod service;
pub mod template;
mod typed;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use self::at::At;
use super::env::AppEnv;
use super::stack::Stack;
use super::tree::{Tree, inside};

/// The compose files of an app, as one.
#[derive(Clone, Debug)]
pub struct Compose {
    pub stack: Stack,
    /// The merged document with every variable replaced, in compose's long forms.
    pub document: Value,
    /// The variables in each secret's `name`, before they were replaced: one of them declares the secret.
    pub secret_variables: BTreeMap<String, Vec<String>>,
}

/// Loads the files that the environment's `COMPOSE_FILE` names. Variables are looked up in `env` alone.
pub fn load(tree: &Tree, env: &AppEnv) -> Result<Compose> {
    let files = env.compose_files(tree)?;
    let (mut merged, mut version): (Option<Value>, Option<String>) = (None, None);
    let (mut notes, mut secret_variables) = (BTreeSet::new(), BTreeMap::new());
    for file in &files {
        let raw = Value::Object(yaml::parse(tree.text(file)?).with_context(|| format!("failed to read `{file}`"))?);
        secret_variables.extend(variables_of_secrets(&raw));
        let document = one_file(file, raw, tree, env, &mut notes)?;
        let own = version_of(&document);
        if version.as_ref().is_some_and(|version| *version != own) {
            bail!(
                "`{file}`: version `{own}` differs from `{}` of `{}`: one is needed",
                version.unwrap_or_default(),
                files[0]
            );
        }
        version = Some(own);
        match &mut merged {
            None => merged = Some(document),
            Some(base) => merge::merge(base, document),
        }
    }
    let document = merged.context("no compose file")?;
    let label = files.join("` + `");
    let mut stack = typed::stack(&At::top(&label, &document), env.stack(), tree)?;
    stack.notes = notes.into_iter().collect();
    Ok(Compose { stack, document, secret_variables })
}

impl Compose {
    /// The document as text for `docker stack deploy -c`, which replaces variables itself: every `$` is doubled.
    pub fn for_stack_deploy(&self) -> Result<String> {
        let mut document = self.document.clone();
        double_dollars(&mut document);
        serde_json::to_string_pretty(&document).context("failed to write the compose document")
    }

    /// Carries labels and environment of the stack's services over into the document, after they were added to.
    pub fn update_document(&mut self) {
        for (name, service) in &self.stack.services {
            let target = &mut self.document["services"][name];
            if !service.environment.is_empty() {
                for (key, value) in &service.environment {
                    target["environment"][key] = value.as_str().into();
                }
            }
            for (key, value) in &service.deploy.labels {
                target["deploy"]["labels"][key] = value.as_str().into();
            }
        }
    }
}

fn one_file(file: &str, mut raw: Value, tree: &Tree, env: &AppEnv, notes: &mut BTreeSet<String>) -> Result<Value> {
    let lookup = |name: &str| env.get(name).map(str::to_owned);
    let beyond = interpolate::document(&mut raw, &lookup).with_context(|| format!("`{file}`"))?;
    for place in beyond {
        notes.insert(format!("`{file}`: `{place}` uses a form of variables that `docker stack deploy` does not know"));
    }
    let mut document = normalize::file(&At::top(file, &raw), notes)?;
    let services = document.get_mut("services").and_then(Value::as_object_mut);
    for (name, service) in services.into_iter().flatten() {
        environment(service, tree, env).with_context(|| format!("`{file}`: `services.{name}.env_file`"))?;
    }
    Ok(document)
}

/// Puts the variables of `env_file` below those of `environment`, and gives those without a value the app's own.
fn environment(service: &mut Value, tree: &Tree, env: &AppEnv) -> Result<()> {
    let files = service.as_object_mut().and_then(|service| service.shift_remove("env_file"));
    let mut variables = serde_json::Map::new();
    for file in files.iter().flat_map(|files| files.as_array().into_iter().flatten()) {
        let text = tree.text(&inside(file.as_str().unwrap_or_default())?)?;
        for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once('=') {
                Some((key, value)) => variables.insert(key.to_owned(), value.into()),
                None => variables.insert(line.trim_end().to_owned(), Value::Null),
            };
        }
    }
    if let Some(Value::Object(own)) = service.get("environment") {
        variables.extend(own.clone());
    }
    for (key, value) in &mut variables {
        // Docker's loader looks an empty value up as well.
        if let (true, Some(own)) = (value.as_str().is_none_or(str::is_empty), env.get(key)) {
            *value = own.into();
        }
    }
    if !variables.is_empty() {
        service["environment"] = variables.into();
    }
    Ok(())
}

/// `3` and no version at all mean the newest.
fn version_of(document: &Value) -> String {
    let version = document.get("version").and_then(Value::as_str).unwrap_or_default();
    if version.is_empty() || version == "3" { "3.13".into() } else { version.to_owned() }
}

fn variables_of_secrets(raw: &Value) -> BTreeMap<String, Vec<String>> {
    let secrets = raw.get("secrets").and_then(Value::as_object);
    let variables = |secret: &Value| interpolate::variables(secret["name"].as_str().unwrap_or_default());
    secrets.into_iter().flatten().map(|(key, secret)| (key.clone(), variables(secret))).collect()
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
mod tests;
