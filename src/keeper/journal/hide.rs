//! Secrets in the records of the journal.

use serde_json::Value;

use crate::mask::Masks;

/// Masks the texts of a record. Its keys are the harness's own, whatever a secret may be called.
pub(super) fn mask(value: &mut Value, masks: &Masks) {
    match value {
        Value::String(text) if masks.finds(text) => *text = masks.mask(text),
        Value::Array(list) => list.iter_mut().for_each(|value| mask(value, masks)),
        // The kind of a record is no text of anybody's.
        Value::Object(map) => {
            let texts = map
                .iter_mut()
                .filter(|(key, _)| !["event", "at", "kind", "tier", "outcome", "fault"].contains(&key.as_str()));
            texts.for_each(|(_, value)| mask(value, masks));
        }
        _ => {}
    }
}
