//! One file, checked against the known keys and brought into its long forms, so that merging and typing see one shape.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::at::At;
use super::scalar;
use super::schema::{ATTACHMENT, FILE, FILE_MOUNT, FORBIDDEN, IGNORED, Key, Kind, MOUNT, PORT, ULIMIT};
use crate::recipe::suggest::did_you_mean;

/// A file in its long forms; keys that a Swarm ignores are told in `notes`.
pub(super) fn file(at: &At<'_>, notes: &mut BTreeSet<String>) -> Result<Value> {
    for (name, service) in
        at.get("services").map(|at| at.entries().map(Vec::from_iter)).transpose()?.unwrap_or_default()
    {
        for (key, instead) in FORBIDDEN {
            if let Some(at) = service.get(key) {
                bail!(at.error(format!("`docker stack deploy` refuses it: {instead}")));
            }
        }
        for key in IGNORED.iter().filter(|key| service.get(key).is_some()) {
            notes.insert(format!("service `{name}`: Swarm ignores `{key}`"));
        }
    }
    let normal = extensible(at, FILE)?;
    if let Some(version) = normal.get("version").and_then(Value::as_str).filter(|version| !version.is_empty())
        && version != "3"
        && !version.starts_with("3.")
    {
        bail!(at.error(format!("version `{version}` is not supported: expected `3` or `3.x`")));
    }
    Ok(normal)
}

/// A mapping with known keys, and `x-…` keys for the file's own use.
fn extensible(at: &At<'_>, keys: &[Key]) -> Result<Value> {
    known_keys(at, keys, |key| key.starts_with("x-"))
}

/// A mapping with known keys only.
fn object(at: &At<'_>, keys: &[Key]) -> Result<Value> {
    known_keys(at, keys, |_| false)
}

/// `null` values are dropped: they say nothing.
fn known_keys(at: &At<'_>, keys: &[Key], skip: impl Fn(&str) -> bool) -> Result<Value> {
    let mut out = Map::new();
    for (key, at) in at.entries()?.filter(|(key, _)| !skip(key)) {
        let Some((_, kind)) = keys.iter().find(|(known, _)| *known == key) else {
            let hint = did_you_mean(key, keys.iter().map(|(known, _)| *known));
            bail!(at.error(format!("the key is not known{hint}")));
        };
        if !at.value.is_null() {
            out.insert(key.to_owned(), value(&at, kind)?);
        }
    }
    Ok(Value::Object(out))
}

fn value(at: &At<'_>, kind: &Kind) -> Result<Value> {
    let same = || at.value.clone();
    Ok(match kind {
        Kind::Text => at.text().map(|_| same())?,
        Kind::Bool => at.bool().map(|_| same())?,
        Kind::Int => at.int::<i64>().map(|_| same())?,
        Kind::Number => at.float().map(|_| same())?,
        Kind::TextOrNumber => plain(at)?.into(),
        Kind::Duration => scalar::duration(at.text()?).map(|_| same()).map_err(|error| at.error(error))?,
        Kind::Size => scalar::size(at.text()?).map(|_| same()).map_err(|error| at.error(error))?,
        Kind::Texts => {
            unique(at)?;
            at.texts()?.into()
        }
        Kind::TextOrTexts => {
            if at.value.is_string() {
                json!([at.value])
            } else {
                at.texts()?.into()
            }
        }
        Kind::TextsAndNumbers => at.list()?.iter().map(plain).collect::<Result<Vec<_>>>()?.into(),
        Kind::Command if at.value.is_string() => scalar::words(at.text()?).map_err(|error| at.error(error))?.into(),
        Kind::Command => at.texts()?.into(),
        Kind::Pairs => pairs(at, false)?,
        Kind::Environment => pairs(at, true)?,
        Kind::Hosts => hosts(at)?,
        Kind::Options => pairs_of(at)?,
        Kind::HealthTest if at.value.is_string() => json!(["CMD-SHELL", at.value]),
        Kind::HealthTest => at.texts()?.into(),
        Kind::Ports => ports(at)?,
        Kind::Mounts => at.list()?.iter().map(mount).collect::<Result<Vec<_>>>()?.into(),
        Kind::Files => at.list()?.iter().map(file_mount).collect::<Result<Vec<_>>>()?.into(),
        Kind::Attachments => attachments(at)?,
        Kind::Ulimits => ulimits(at)?,
        Kind::Build if at.value.is_string() => json!({"context": at.value}),
        Kind::Build => at.map().map(|_| same())?,
        Kind::External => external(at)?,
        Kind::Object(keys) => object(at, keys)?,
        Kind::Named { entry, nullable } => named(at, entry, *nullable)?,
        Kind::Objects => {
            for item in at.list()? {
                item.map()?;
            }
            same()
        }
    })
}

/// A section: names to objects.
fn named(at: &At<'_>, entry: &[Key], nullable: bool) -> Result<Value> {
    let mut out = Map::new();
    for (name, at) in at.entries()? {
        let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(known) {
            bail!(at.error("expected a name of letters, digits, `.`, `_` and `-`"));
        }
        let mut normal = if at.value.is_null() && nullable { json!({}) } else { extensible(&at, entry)? };
        // The deprecated `external: {name: …}` is `external: true` with a name.
        if let Some(name) = normal["external"].get("name").cloned() {
            if normal.get("name").is_some() {
                bail!(at.error("both `external.name` and `name` are given: `name` is enough"));
            }
            normal["name"] = name;
        }
        if normal.get("external").is_some_and(Value::is_object) {
            normal["external"] = true.into();
        }
        out.insert(name.to_owned(), normal);
    }
    Ok(out.into())
}

fn external(at: &At<'_>) -> Result<Value> {
    if at.value.is_boolean() { Ok(at.value.clone()) } else { object(at, &[("name", Kind::Text)]) }
}

/// A scalar as text, as Go prints it.
fn plain(at: &At<'_>) -> Result<String> {
    match at.value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => float.to_string(),
            None => number.to_string(),
        }),
        Value::Bool(value) => {
            Err(at.error(format!("expected text or a number, seen the boolean `{value}`: put it in quotes")))
        }
        _ => Err(at.expected("text or a number")),
    }
}

/// `key=value` lists and mappings, as a mapping to text. A key without a value is empty, or `null` where that means
/// something.
fn pairs(at: &At<'_>, nullable: bool) -> Result<Value> {
    let missing = || if nullable { Value::Null } else { "".into() };
    let mut out = Map::new();
    if at.value.is_array() {
        unique(at)?;
        for item in at.texts()? {
            match item.split_once('=') {
                Some((key, value)) => out.insert(key.to_owned(), value.into()),
                None => out.insert(item, missing()),
            };
        }
        return Ok(out.into());
    }
    for (key, at) in at.entries()? {
        out.insert(key.to_owned(), if at.value.is_null() { missing() } else { plain(&at)?.into() });
    }
    Ok(out.into())
}

fn pairs_of(at: &At<'_>) -> Result<Value> {
    at.map()?;
    pairs(at, false)
}

/// `name:address` in a list; a mapping, and `=` in place of the colon, are other ways to write it.
fn hosts(at: &At<'_>) -> Result<Value> {
    let mut list = Vec::new();
    if at.value.is_array() {
        for item in at.list()? {
            let text = item.text()?;
            let Some((host, address)) = text.split_once('=').or_else(|| text.split_once(':')) else {
                bail!(item.error(format!("expected `name:address`, seen `{}`", text.escape_debug())));
            };
            list.push((host.to_owned(), address.to_owned()));
        }
    } else {
        for (host, at) in at.entries()? {
            list.push((host.to_owned(), plain(&at)?));
        }
        list.sort();
    }
    let bare = |address: String| match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.to_owned(),
        None => address,
    };
    Ok(list.into_iter().map(|(host, address)| format!("{host}:{}", bare(address))).collect::<Vec<_>>().into())
}

fn ports(at: &At<'_>) -> Result<Value> {
    let mut out = Vec::new();
    for item in at.list()? {
        match item.value {
            Value::Object(_) => out.push(object(&item, PORT)?),
            Value::Number(number) => out.extend(scalar::ports(&number.to_string()).map_err(|error| item.error(error))?),
            _ => out.extend(scalar::ports(item.text()?).map_err(|error| item.error(error))?),
        }
    }
    Ok(out.into())
}

fn mount(at: &At<'_>) -> Result<Value> {
    if at.value.is_string() {
        return scalar::mount(at.text()?).map_err(|error| at.error(error));
    }
    let mount = object(at, MOUNT)?;
    for key in ["type", "target"] {
        if mount.get(key).is_none() {
            bail!(at.error(format!("`{key}` is missing")));
        }
    }
    Ok(mount)
}

fn file_mount(at: &At<'_>) -> Result<Value> {
    let mount = if at.value.is_string() { json!({"source": at.value}) } else { object(at, FILE_MOUNT)? };
    if mount.get("source").is_none() {
        bail!(at.error("`source` is missing"));
    }
    Ok(mount)
}

fn attachments(at: &At<'_>) -> Result<Value> {
    let mut out = Map::new();
    if at.value.is_array() {
        unique(at)?;
        out.extend(at.texts()?.into_iter().map(|name| (name, json!({}))));
        return Ok(out.into());
    }
    for (name, at) in at.entries()? {
        out.insert(name.to_owned(), if at.value.is_null() { json!({}) } else { object(&at, ATTACHMENT)? });
    }
    Ok(out.into())
}

fn ulimits(at: &At<'_>) -> Result<Value> {
    let mut out = Map::new();
    for (name, at) in at.entries()? {
        let limit = if at.value.is_object() { object(&at, ULIMIT)? } else { at.int::<i64>()?.into() };
        if limit.is_object() && !(limit.get("soft").is_some() && limit.get("hard").is_some()) {
            bail!(at.error("both `soft` and `hard` are needed"));
        }
        out.insert(name.to_owned(), limit);
    }
    Ok(out.into())
}

/// A list in which nothing stands twice, as docker's schema asks.
fn unique(at: &At<'_>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for item in at.list()? {
        if !seen.insert(item.text()?) {
            bail!(item.error(format!("`{}` stands here twice", item.text()?.escape_debug())));
        }
    }
    Ok(())
}
