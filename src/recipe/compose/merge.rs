//! Several compose files as one, by the rules of `docker stack deploy -c a.yml -c b.yml`.
//!
//! They differ from those of `docker compose`: a volume, network, secret or config of a later file replaces the
//! earlier one as a whole, an empty value never replaces anything, and a list without keys grows.

use serde_json::{Map, Value};

/// Puts a later file, in its long forms, over an earlier one.
pub(super) fn merge(base: &mut Value, over: Value) {
    for (section, entries) in mapping(over) {
        let Value::Object(entries) = entries else { continue };
        let target = base_map(base, &section);
        for (name, entry) in entries {
            match target.get_mut(&name) {
                Some(known) if section == "services" => service(known, entry),
                _ => {
                    target.insert(name, entry);
                }
            }
        }
    }
}

fn service(base: &mut Value, over: Value) {
    for (key, value) in mapping(over) {
        let Some(known) = base.get_mut(&key) else {
            base[key] = value;
            continue;
        };
        match key.as_str() {
            "command" | "entrypoint" => replace(known, value, false),
            "ports" => keyed(known, value, "published"),
            "volumes" => keyed(known, value, "target"),
            "secrets" | "configs" => keyed(known, value, "source"),
            "networks" => mapping(value).into_iter().for_each(|(name, value)| attachment(known, &name, value)),
            "environment" => mapping(value).into_iter().for_each(|(name, value)| match known.get_mut(&name) {
                Some(known) => replace(known, value, false),
                None => known[name] = value,
            }),
            "labels" | "sysctls" | "ulimits" => pairs(known, value),
            "logging" if known["driver"] != value["driver"] && both_drivers(known, &value) => *known = value,
            _ => generic(known, value, false),
        }
    }
}

/// A value that has no rule of its own: mappings grow, lists grow, and what is not empty replaces.
fn generic(base: &mut Value, over: Value, zero_counts: bool) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                // These are pointers in docker's types, so that 0 is a value there.
                let zero_counts = ["replicas", "parallelism", "max_attempts", "retries"].contains(&key.as_str());
                match base.get_mut(&key) {
                    Some(known) if key == "labels" || key == "options" => pairs(known, value),
                    Some(known) => generic(known, value, zero_counts),
                    None => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(base), Value::Array(over)) => base.extend(over),
        (base, over) => replace(base, over, zero_counts),
    }
}

fn pairs(base: &mut Value, over: Value) {
    for (key, value) in mapping(over) {
        base[key] = value;
    }
}

/// A list whose entries are known by a key: a later entry replaces the one with the same key.
fn keyed(base: &mut Value, over: Value, key: &str) {
    let (Value::Array(base), Value::Array(over)) = (base, over) else { return };
    let id = |entry: &Value| entry.get(key).cloned().unwrap_or(Value::Null);
    // Docker keeps these in a map while it merges, so of two entries with one key in one file the last is left.
    let mut merged: Vec<Value> = Vec::new();
    for entry in base.drain(..).chain(over) {
        match merged.iter_mut().find(|known| id(known) == id(&entry)) {
            Some(known) => *known = entry,
            None => merged.push(entry),
        }
    }
    merged.sort_by(|a, b| {
        let order = |value: &Value| (value.as_u64(), value.as_str().map(str::to_owned));
        order(&id(a)).cmp(&order(&id(b)))
    });
    *base = merged;
}

/// A network of a service: aliases of the later file replace the earlier ones, addresses only when given.
fn attachment(base: &mut Value, name: &str, over: Value) {
    let Some(known) = base.get_mut(name).and_then(Value::as_object_mut).filter(|_| over != Value::Object(Map::new()))
    else {
        if base.get(name).is_none() {
            base[name] = over;
        }
        return;
    };
    known.remove("aliases");
    known.extend(mapping(over).into_iter().filter(|(key, _)| key != "driver_opts"));
}

fn both_drivers(base: &Value, over: &Value) -> bool {
    [base, over].into_iter().all(|value| value["driver"].as_str().is_some_and(|driver| !driver.is_empty()))
}

/// A scalar or a command: only what is not empty replaces.
fn replace(base: &mut Value, over: Value, zero_counts: bool) {
    let empty = match &over {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0) && !zero_counts,
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    if !empty {
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
