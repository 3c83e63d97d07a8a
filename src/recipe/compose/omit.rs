//! What docker leaves out of a merged document: values that say no more than their absence.

use std::collections::BTreeSet;

use serde_json::Value;

use super::schema::{self, ATTACHMENT, BUILD, FILE, FILE_MOUNT, Key, Kind, LOGGING, MOUNT, PORT, SERVICE};

/// Leaves empty values out of a document in its long forms.
pub(super) fn empty_values(document: &mut Value) {
    object(FILE, document);
}

/// Leaves out what merging made stand twice in a list: docker's own loader accepts that of several files, but refuses it
/// in one.
pub(super) fn repetitions(document: &mut Value) {
    for service in document["services"].as_object_mut().into_iter().flat_map(|services| services.values_mut()) {
        repetitions_in(SERVICE, service);
    }
}

fn repetitions_in(keys: &'static [Key], object: &mut Value) {
    for (key, value) in object.as_object_mut().into_iter().flatten() {
        match (schema::find(keys, key).map(|(_, kind)| kind), value) {
            (Some(Kind::Build), build) => repetitions_in(BUILD, build),
            (Some(Kind::Unique | Kind::TextOrUnique | Kind::TextsAndNumbers | Kind::Hosts), Value::Array(list)) => {
                let mut seen = BTreeSet::new();
                list.retain(|item| seen.insert(item.to_string()));
            }
            _ => {}
        }
    }
}

fn object(keys: &'static [Key], value: &mut Value) {
    let Value::Object(map) = value else { return };
    map.retain(|key, value| match schema::find(keys, key) {
        Some((_, kind)) => {
            inner(kind, value);
            matches!(kind, Kind::Kept(_) | Kind::Logging) || !is_zero(kind, value)
        }
        None => true,
    });
}

/// Leaves out what is empty inside of a value.
fn inner(kind: &'static Kind, value: &mut Value) {
    match kind {
        Kind::Object(keys) => object(keys, value),
        Kind::Build => object(BUILD, value),
        Kind::Logging => object(LOGGING, value),
        Kind::Objects(keys) => items(keys, value),
        Kind::Ports => items(PORT, value),
        Kind::Mounts => items(MOUNT, value),
        Kind::Files => items(FILE_MOUNT, value),
        Kind::Attachments => entries(ATTACHMENT, value),
        Kind::Named { entry, .. } => entries(entry, value),
        Kind::Kept(kind) | Kind::Nullable(kind) | Kind::Since(_, kind) => inner(kind, value),
        _ => {}
    }
}

fn items(keys: &'static [Key], value: &mut Value) {
    value.as_array_mut().into_iter().flatten().for_each(|item| object(keys, item));
}

fn entries(keys: &'static [Key], value: &mut Value) {
    value.as_object_mut().into_iter().flat_map(|map| map.values_mut()).for_each(|entry| object(keys, entry));
}

/// Whether it is the zero value of its type in Go; durations and sizes are numbers there.
pub(super) fn is_zero(kind: &Kind, value: &Value) -> bool {
    match value {
        Value::String(text) if matches!(kind, Kind::Duration) => text == "0s",
        Value::String(text) if matches!(kind, Kind::Size) => text == "0",
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
