//! Several compose files as one, by the rules of `docker stack deploy -c a.yml -c b.yml`.
//!
//! They differ from those of `docker compose`: a volume, network, secret or config of a later file replaces the
//! earlier one as a whole, an empty value never replaces anything, and a list without keys grows. Some rules are
//! accidents of docker's code, which a recipe meets all the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::omit::is_zero;
use super::schema::{self, BUILD, Key, Kind, SERVICE};

/// Puts a later file, in its long forms, over an earlier one.
pub(super) fn merge(base: &mut Value, over: Value) {
    for (section, entries) in mapping(over) {
        let Value::Object(entries) = entries else { continue };
        let target = base_map(base, &section);
        for (name, entry) in entries {
            match target.get_mut(&name).and_then(Value::as_object_mut) {
                Some(known) if section == "services" => object(SERVICE, known, mapping(entry)),
                _ => {
                    target.insert(name, entry);
                }
            }
        }
    }
}

fn object(keys: &'static [Key], base: &mut Map<String, Value>, mut over: Map<String, Value>) {
    // Also what only the earlier file has: docker sorts and thins out its lists that are known by a key.
    for (key, known) in base.iter_mut() {
        if let Some((_, kind)) = schema::find(keys, key) {
            value(kind, known, over.shift_remove(key));
        }
    }
    // Appended to nothing, an empty list is nothing still: a third file does not meet a list then.
    base.extend(over.into_iter().filter(|(_, value)| value.as_array().is_none_or(|list| !list.is_empty())));
}

fn value(kind: &'static Kind, base: &mut Value, over: Option<Value>) {
    let key = match kind {
        Kind::Ports => "published",
        Kind::Mounts => "target",
        Kind::Files => "source",
        _ => {
            if let Some(over) = over {
                unkeyed(kind, base, over);
            }
            return;
        }
    };
    keyed(base, over.unwrap_or(Value::Array(Vec::new())), key);
}

fn unkeyed(kind: &'static Kind, base: &mut Value, over: Value) {
    match kind {
        Kind::Object(keys) => objects(keys, base, over),
        Kind::Build => objects(BUILD, base, over),
        Kind::Kept(inner) => match inner {
            // A pointer to a number is set whenever it is given; others only when they are not zero.
            Kind::Count | Kind::Truncated => *base = over,
            inner => unkeyed(inner, base, over),
        },
        Kind::Nullable(inner) | Kind::Since(_, inner) => unkeyed(inner, base, over),
        Kind::Environment => mapping(over).into_iter().for_each(|(name, value)| variable(base, name, value)),
        Kind::Pairs | Kind::Ulimits => pairs(base, over),
        Kind::Attachments => mapping(over).into_iter().for_each(|(name, value)| attachment(base, name, value)),
        Kind::Logging => logging(base, over),
        Kind::Command => replace(kind, base, over),
        _ => match (base, over) {
            (Value::Array(base), Value::Array(over)) => base.extend(over),
            (base, over) => replace(kind, base, over),
        },
    }
}

fn objects(keys: &'static [Key], base: &mut Value, over: Value) {
    if let Value::Object(base) = base {
        object(keys, base, mapping(over));
    }
}

/// A list whose entries are known by a key: a later entry replaces the one with the same key. Docker keeps the entries
/// in a map while it merges, so of several with one key the last is left, even of one file, and they come out sorted.
fn keyed(base: &mut Value, over: Value, key: &str) {
    let (Value::Array(base), Value::Array(over)) = (base, over) else { return };
    let id = |entry: &Value| {
        let value = entry.get(key);
        (value.and_then(Value::as_u64).unwrap_or(0), value.and_then(Value::as_str).unwrap_or("").to_owned())
    };
    let merged: BTreeMap<_, Value> = base.drain(..).chain(over).map(|entry| (id(&entry), entry)).collect();
    *base = merged.into_values().collect();
}

/// An empty value replaces nothing but another empty one.
fn variable(base: &mut Value, name: String, over: Value) {
    let empty = |value: &Value| value.as_str().is_none_or(str::is_empty);
    match base.get_mut(&name) {
        Some(known) if empty(&over) && !empty(known) => {}
        _ => base[name] = over,
    }
}

fn pairs(base: &mut Value, over: Value) {
    for (key, value) in mapping(over) {
        base[key] = value;
    }
}

/// A network of a service: aliases of the later file replace the earlier ones, addresses only when given, and options
/// of the driver never. Nothing at all keeps what is there.
fn attachment(base: &mut Value, name: String, over: Value) {
    match (base.get_mut(&name).and_then(Value::as_object_mut), over) {
        (Some(_), Value::Null) => {}
        (Some(known), over) => {
            known.remove("aliases");
            let given = |(key, value): &(String, Value)| key != "driver_opts" && value.as_str() != Some("");
            known.extend(mapping(over).into_iter().filter(given));
        }
        (None, over) => base[name] = over,
    }
}

/// Another driver replaces the whole; options of the same one are merged, but only into options.
fn logging(base: &mut Value, over: Value) {
    let driver = |value: &Value| value["driver"].as_str().unwrap_or_default().to_owned();
    match (driver(base).as_str(), driver(&over).as_str()) {
        (ours, theirs) if ours != theirs && !ours.is_empty() && !theirs.is_empty() => {
            *base = over;
            return;
        }
        ("", theirs) => base["driver"] = theirs.into(),
        _ => {}
    }
    if base.get("options").is_some() {
        pairs(&mut base["options"], over.get("options").cloned().unwrap_or_default());
    }
}

/// A scalar or a command: only what is not empty replaces.
fn replace(kind: &Kind, base: &mut Value, over: Value) {
    if !is_zero(kind, &over) {
        *base = over;
    }
}

fn mapping(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

/// The mapping under a key, made when it is missing.
fn base_map<'a>(base: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !base[key].is_object() {
        base[key] = Value::Object(Map::new());
    }
    match &mut base[key] {
        Value::Object(map) => map,
        _ => unreachable!("made a mapping above"),
    }
}
