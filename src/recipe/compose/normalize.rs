//! One file, checked against the known keys and brought into its long forms, so that merging and typing see one shape.

mod forms;

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::at::At;
use super::scalar;
use super::schema::{self, ATTACHMENT, BUILD, FILE, FILE_MOUNT, FORBIDDEN, IGNORED, Key, Kind, LOGGING, MOUNT, PORT};
use crate::recipe::suggest::did_you_mean;
use forms::{hosts, options, pairs, plain, texts, ulimit, unique, whole, word};

/// A file of version 3.`version` in its long forms. Keys that docker or a Swarm ignores are told in `notes`.
pub(super) fn file(at: &At<'_>, version: u32, notes: &mut BTreeSet<String>) -> Result<Value> {
    if let Some(services) = at.get("services").filter(|at| at.value.is_object()) {
        for (name, service) in services.entries()? {
            known_to_a_swarm(name, &service, notes)?;
        }
    }
    Normalizer { version, notes, ports: 0 }.object(at, FILE)
}

fn known_to_a_swarm(name: &str, service: &At<'_>, notes: &mut BTreeSet<String>) -> Result<()> {
    for (key, instead) in FORBIDDEN {
        if let Some(at) = service.get(key) {
            bail!(at.error(format!("`docker stack deploy` refuses it: {instead}")));
        }
    }
    for key in IGNORED.iter().filter(|key| service.get(key).is_some()) {
        notes.insert(format!("service `{name}`: Swarm ignores `{key}`"));
    }
    Ok(())
}

struct Normalizer<'a> {
    version: u32,
    notes: &'a mut BTreeSet<String>,
    /// Ports of the whole file so far, ranges written out.
    ports: usize,
}

impl Normalizer<'_> {
    /// A mapping with known keys.
    fn object(&mut self, at: &At<'_>, keys: &'static [Key]) -> Result<Value> {
        let mut out = Map::new();
        for (key, at) in at.entries()? {
            let Some((since, kind)) = schema::find(keys, key) else {
                let hint = did_you_mean(key, keys.iter().map(|(known, _)| *known));
                bail!(at.error(format!("the key is not known{hint}")));
            };
            if since > self.version {
                let version = self.version;
                bail!(at.error(format!("the key is known from version 3.{since} on, and the file says 3.{version}")));
            }
            match kind {
                Kind::Nullable(_) if at.value.is_null() => {}
                Kind::Extension if key != "x-cluster-spec" => {}
                Kind::Extension => bail!(at.error("cluster volumes are not supported")),
                Kind::Unknown => self.ignored(&at),
                Kind::Lost(kind) => {
                    self.value(&at, kind)?;
                    self.ignored(&at);
                }
                kind => {
                    out.insert(key.to_owned(), self.value(&at, kind)?);
                }
            }
        }
        Ok(out.into())
    }

    fn ignored(&mut self, at: &At<'_>) {
        self.notes.insert(format!("{}docker ignores this key", at.place()));
    }

    fn value(&mut self, at: &At<'_>, kind: &'static Kind) -> Result<Value> {
        Ok(match kind {
            Kind::Text => at.text()?.into(),
            Kind::Word(words) => word(at, words)?.into(),
            Kind::TextOrInt if at.value.is_string() => at.value.clone(),
            Kind::TextOrInt => whole(at)?.into(),
            Kind::Bool => at.bool()?.into(),
            Kind::Int => whole(at)?.into(),
            Kind::Count => not_negative(at, whole(at)?)?,
            Kind::Truncated => not_negative(at, at.float()?.trunc() as i64)?,
            Kind::Number => single(at.float()?),
            Kind::Duration => {
                let nanos = scalar::nanoseconds(at.text()?).map_err(|error| at.error(error))?;
                scalar::duration_text(nanos).into()
            }
            Kind::Size => scalar::size(at.text()?).map_err(|error| at.error(error))?.to_string().into(),
            Kind::Texts => at.texts()?.into(),
            Kind::Unique => texts(at)?.into(),
            Kind::TextOrUnique if at.value.is_string() => json!([at.value]),
            Kind::TextOrUnique => texts(at)?.into(),
            Kind::TextsAndNumbers => {
                unique(at)?;
                at.list()?.iter().map(plain).collect::<Result<Vec<_>>>()?.into()
            }
            Kind::Command if at.value.is_string() => scalar::words(at.text()?).map_err(|error| at.error(error))?.into(),
            Kind::Command => at.texts()?.into(),
            Kind::Pairs => pairs(at, false)?,
            Kind::Environment => pairs(at, true)?,
            Kind::Hosts => hosts(at, self.notes)?,
            Kind::Options => options(at, false)?,
            Kind::HealthTest if at.value.is_string() => json!(["CMD-SHELL", at.value]),
            Kind::HealthTest => at.texts()?.into(),
            Kind::Logging => self.object(at, LOGGING)?,
            Kind::LogOptions => options(at, true)?,
            Kind::Ports => self.ports(at)?,
            Kind::Mounts => self.mounts(at)?,
            Kind::Files => at.list()?.iter().map(|at| self.file_mount(at)).collect::<Result<Vec<_>>>()?.into(),
            Kind::Attachments => self.attachments(at)?,
            Kind::Ulimits => self.ulimits(at)?,
            Kind::Build if at.value.is_string() => json!({"context": at.value}),
            Kind::Build => self.object(at, BUILD)?,
            Kind::External(_) if at.value.is_boolean() => at.value.clone(),
            Kind::External(keys) => self.object(at, keys)?,
            Kind::Object(keys) => self.object(at, keys)?,
            Kind::Objects(keys) => {
                at.list()?.iter().map(|at| self.object(at, keys)).collect::<Result<Vec<_>>>()?.into()
            }
            Kind::Named { entry, nullable } => self.named(at, entry, *nullable)?,
            Kind::Kept(kind) | Kind::Nullable(kind) | Kind::Since(_, kind) => self.value(at, kind)?,
            Kind::Extension | Kind::Unknown | Kind::Lost(_) => Value::Null,
        })
    }

    /// A section: names to objects.
    fn named(&mut self, at: &At<'_>, entry: &'static [Key], nullable: bool) -> Result<Value> {
        let mut out = Map::new();
        for (name, at) in at.entries()? {
            name_of_section(name, &at)?;
            let mut normal = if at.value.is_null() && nullable { json!({}) } else { self.object(&at, entry)? };
            external(&at, name, &mut normal)?;
            out.insert(name.to_owned(), normal);
        }
        Ok(out.into())
    }

    fn ports(&mut self, at: &At<'_>) -> Result<Value> {
        unique(at)?;
        let mut out = Vec::new();
        for item in at.list()? {
            let before = out.len();
            match item.value {
                Value::Object(_) if self.version >= 2 => out.push(self.object(&item, PORT)?),
                Value::Number(number) => {
                    out.extend(scalar::ports(&number.to_string()).map_err(|error| item.error(error))?)
                }
                _ => out.extend(scalar::ports(item.text()?).map_err(|error| item.error(error))?),
            }
            self.ports += out.len() - before;
            if self.ports > scalar::MOST_PORTS {
                bail!(item.error(format!(
                    "with these the file has more than {} ports, ranges written out",
                    scalar::MOST_PORTS
                )));
            }
        }
        Ok(out.into())
    }

    fn mounts(&mut self, at: &At<'_>) -> Result<Value> {
        if self.version < 2 {
            texts(at)?;
        }
        let mount = |item: &At<'_>| {
            if item.value.is_string() {
                return scalar::mount(item.text()?).map_err(|error| item.error(error));
            }
            let mount = self.object(item, MOUNT)?;
            for key in ["type", "target"] {
                if mount.get(key).is_none() {
                    bail!(item.error(format!("`{key}` is missing")));
                }
            }
            Ok(mount)
        };
        Ok(at.list()?.iter().map(mount).collect::<Result<Vec<_>>>()?.into())
    }

    fn file_mount(&mut self, at: &At<'_>) -> Result<Value> {
        let mount = if at.value.is_string() { json!({"source": at.value}) } else { self.object(at, FILE_MOUNT)? };
        if mount.get("source").is_none() {
            bail!(at.error("`source` is missing"));
        }
        Ok(mount)
    }

    /// Nothing behind a network's name is not the same as an empty mapping: in a later file the first keeps what the
    /// earlier one says, and the second takes its aliases away.
    fn attachments(&mut self, at: &At<'_>) -> Result<Value> {
        let mut out = Map::new();
        if at.value.is_array() {
            out.extend(texts(at)?.into_iter().map(|name| (name, Value::Null)));
            return Ok(out.into());
        }
        for (name, at) in at.entries()? {
            name_of_section(name, &at)?;
            let attachment = if at.value.is_null() { Value::Null } else { self.object(&at, ATTACHMENT)? };
            out.insert(name.to_owned(), attachment);
        }
        Ok(out.into())
    }

    fn ulimits(&mut self, at: &At<'_>) -> Result<Value> {
        let mut out = Map::new();
        for (name, at) in at.entries()? {
            out.insert(name.to_owned(), ulimit(&at, |at, keys| self.object(at, keys))?);
        }
        Ok(out.into())
    }
}

fn name_of_section(name: &str, at: &At<'_>) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || !name.chars().all(known) {
        bail!(at.error("expected a name of letters, digits, `.`, `_` and `-`"));
    }
    Ok(())
}

/// Docker gives an external object its name: the given one, the one of the deprecated `external: {name: …}`, or its
/// key.
fn external(at: &At<'_>, key: &str, normal: &mut Value) -> Result<()> {
    let says = |key| normal.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if says("driver") && says("file") && !matches!(normal.get("external"), Some(Value::Bool(true) | Value::Object(_))) {
        bail!(at.error("`driver` and `file` exclude each other"));
    }
    let given = match normal.get("external") {
        Some(Value::Bool(true)) => None,
        Some(Value::Object(external)) => external.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()),
        _ => return Ok(()),
    };
    let named = says("name");
    if given.is_some() && named {
        bail!(at.error("both `external.name` and `name` are given: `name` is enough"));
    }
    if !named {
        let name = given.unwrap_or(key).to_owned();
        normal["name"] = name.into();
    }
    normal["external"] = true.into();
    Ok(())
}

fn not_negative(at: &At<'_>, number: i64) -> Result<Value> {
    if number < 0 {
        bail!(at.error(format!("`{number}` is out of range")));
    }
    Ok(number.into())
}

/// A fraction as docker keeps it: in single precision.
fn single(number: f64) -> Value {
    (number as f32).to_string().parse::<f64>().unwrap_or(number).into()
}
