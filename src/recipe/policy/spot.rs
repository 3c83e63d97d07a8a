//! A place in the merged compose document, and how it is called in messages.

use serde_json::Value;

/// A value of the merged document, and the way to it.
#[derive(Clone)]
pub(super) struct Spot<'a> {
    pub(super) value: &'a Value,
    pub(super) path: Vec<String>,
}

impl<'a> Spot<'a> {
    pub(super) fn top(value: &'a Value) -> Self {
        Spot { value, path: Vec::new() }
    }

    /// The value of a key, unless it is missing or says nothing.
    pub(super) fn get(&self, key: &str) -> Option<Spot<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(self.below(key, value))
    }

    fn below(&self, key: &str, value: &'a Value) -> Spot<'a> {
        Spot { value, path: self.path.iter().cloned().chain([key.to_owned()]).collect() }
    }

    /// The entries of a section of the document.
    pub(super) fn section(&self, key: &str) -> impl Iterator<Item = Spot<'a>> + use<'a> {
        self.get(key).into_iter().flat_map(|section| section.parts())
    }

    /// The entries of a mapping or a list.
    pub(super) fn parts(&self) -> Vec<Spot<'a>> {
        match self.value {
            Value::Object(map) => map.iter().map(|(key, value)| self.below(key, value)).collect(),
            Value::Array(list) => {
                list.iter().enumerate().map(|(index, value)| self.below(&index.to_string(), value)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The last part of the way: a name in a section, or a key.
    pub(super) fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// The value as text.
    pub(super) fn text(&self) -> String {
        self.value.as_str().map_or_else(|| self.value.to_string(), str::to_owned)
    }

    /// The value for a message: on one line, and not endless.
    pub(super) fn shown(&self) -> String {
        let text: String = self.text().chars().take(200).collect();
        text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
    }

    /// `services.app.cap_add[0]`
    pub(super) fn key(&self) -> String {
        let mut key = String::new();
        for (depth, part) in self.path.iter().enumerate() {
            // Only lists have numbers below a key of the format itself; names of objects stand at the second place.
            let index = depth > 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            key += &match (index, depth) {
                (true, _) => format!("[{part}]"),
                (false, 0) => part.escape_debug().to_string(),
                (false, _) => format!(".{}", part.escape_debug()),
            };
        }
        key
    }
}
