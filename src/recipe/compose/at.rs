//! A value together with its place, so that every error names file, service and key.

use std::fmt::Display;

use anyhow::{Error, Result, anyhow};
use serde_json::{Map, Value};

/// A value of a compose file, and where it stands.
#[derive(Clone)]
pub(super) struct At<'a> {
    pub(super) value: &'a Value,
    file: &'a str,
    path: String,
}

impl<'a> At<'a> {
    /// The top of a file.
    pub(super) fn top(file: &'a str, value: &'a Value) -> Self {
        At { value, file, path: String::new() }
    }

    /// An error about this place: `` `compose.yml`: `services.app.image`: … ``.
    pub(super) fn error(&self, what: impl Display) -> Error {
        anyhow!("{}{what}", self.place())
    }

    /// The beginning of a message about this place.
    pub(super) fn place(&self) -> String {
        if self.path.is_empty() { format!("`{}`: ", self.file) } else { format!("`{}`: `{}`: ", self.file, self.path) }
    }

    /// An error that says what was expected here and what stands here.
    pub(super) fn expected(&self, what: &str) -> Error {
        self.error(format!("expected {what}, seen {}", seen(self.value)))
    }

    /// The value of a key; a missing one and `null` are `None`.
    pub(super) fn get(&self, key: &str) -> Option<At<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(self.below(key, value))
    }

    pub(super) fn below(&self, key: &str, value: &'a Value) -> At<'a> {
        let dot = if self.path.is_empty() { "" } else { "." };
        At { value, file: self.file, path: format!("{}{dot}{key}", self.path) }
    }

    pub(super) fn map(&self) -> Result<&'a Map<String, Value>> {
        self.value.as_object().filter(|_| kind(self.value) != "a date").ok_or_else(|| self.expected("a mapping"))
    }

    pub(super) fn entries(&self) -> Result<impl Iterator<Item = (&'a str, At<'a>)> + '_> {
        Ok(self.map()?.iter().map(|(key, value)| (key.as_str(), self.below(key, value))))
    }

    pub(super) fn list(&self) -> Result<Vec<At<'a>>> {
        let list = self.value.as_array().ok_or_else(|| self.expected("a list"))?;
        let item = |(index, value)| At { value, file: self.file, path: format!("{}[{index}]", self.path) };
        Ok(list.iter().enumerate().map(item).collect())
    }

    pub(super) fn text(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.expected("text"))
    }

    pub(super) fn texts(&self) -> Result<Vec<String>> {
        self.list()?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    pub(super) fn bool(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.expected("`true` or `false`"))
    }

    pub(super) fn float(&self) -> Result<f64> {
        self.value.as_f64().ok_or_else(|| self.expected("a number"))
    }

    /// A whole number that fits the wanted type.
    pub(super) fn int<T: TryFrom<i64>>(&self) -> Result<T> {
        let number = self.value.as_i64().ok_or_else(|| self.expected("a whole number"))?;
        T::try_from(number).map_err(|_| self.error(format!("`{number}` is out of range")))
    }
}

/// What kind of value this is, in a reader's words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) if super::resolve::date(value).is_some() => "a date",
        Value::Object(_) => "a mapping",
    }
}

/// A value as an error quotes it: scalars in full (cut when long), the rest by kind.
fn seen(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) | Value::Null => kind(value).to_owned(),
        Value::String(text) => format!("text `{}`", text.chars().take(60).collect::<String>().escape_debug()),
        Value::Bool(_) | Value::Number(_) => format!("{} `{value}`", kind(value)),
    }
}
