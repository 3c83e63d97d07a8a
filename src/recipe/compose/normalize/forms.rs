//! The several ways to write one thing: pairs and hosts as lists or mappings, numbers as text, limits.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use super::super::at::At;
use super::super::schema::{Key, ULIMIT};
use super::super::{resolve, scalar};
use crate::recipe::suggest::listed;

/// A scalar as text, as Go prints it.
pub(super) fn plain(at: &At<'_>) -> Result<String> {
    match at.value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => scalar::float_text(float),
            None => number.to_string(),
        }),
        Value::Bool(value) => {
            Err(at.error(format!("expected text or a number, seen the boolean `{value}`: put it in quotes")))
        }
        value => resolve::date(value).map(str::to_owned).ok_or_else(|| at.expected("text or a number")),
    }
}

/// `key=value` lists and mappings, as a mapping to text. A key without a value is empty, or `null` where that means
/// something.
pub(super) fn pairs(at: &At<'_>, nullable: bool) -> Result<Value> {
    let missing = || if nullable { Value::Null } else { "".into() };
    let mut out = Map::new();
    if at.value.is_array() {
        for item in texts(at)? {
            let (key, value) = item.split_once('=').map_or((item.as_str(), None), |(key, value)| (key, Some(value)));
            if key.is_empty() {
                bail!(at.error(format!("`{}` has no name", item.escape_debug())));
            }
            out.insert(key.to_owned(), value.map_or_else(missing, Value::from));
        }
        return Ok(out.into());
    }
    for (key, at) in at.entries()? {
        if key.is_empty() {
            bail!(at.error("it has no name"));
        }
        out.insert(key.to_owned(), if at.value.is_null() { missing() } else { plain(&at)?.into() });
    }
    Ok(out.into())
}

/// A mapping to text; `null` stands for an empty text where it may stand.
pub(super) fn options(at: &At<'_>, nullable: bool) -> Result<Value> {
    let text = |at: At<'_>| if at.value.is_null() && nullable { Ok(String::new()) } else { plain(&at) };
    let pairs = at.entries()?.map(|(key, at)| Ok((key.to_owned(), text(at)?.into())));
    Ok(pairs.collect::<Result<Map<_, _>>>()?.into())
}

/// `name:address` in a list; a mapping, and `=` in place of the colon, are other ways to write it. Docker drops what
/// has no address.
pub(super) fn hosts(at: &At<'_>, notes: &mut BTreeSet<String>) -> Result<Value> {
    let mut list = Vec::new();
    if at.value.is_array() {
        unique(at)?;
        for item in at.list()? {
            match item.text()?.split_once('=').or_else(|| item.text().ok()?.split_once(':')) {
                Some((host, address)) => list.push(format!("{host}:{address}")),
                None => {
                    notes.insert(format!("{}docker drops a host without an address", item.place()));
                }
            }
        }
    } else {
        for (host, at) in at.entries()?.filter(|(_, at)| !at.value.is_null()) {
            list.push(format!("{host}:{}", at.value.as_str().ok_or_else(|| at.expected("an address as text"))?));
        }
        list.sort();
    }
    Ok(list.iter().map(|entry| bare(entry)).collect::<Vec<_>>().into())
}

/// The address of a host without the brackets around it.
fn bare(entry: &str) -> String {
    let (host, address) = entry.split_once(':').unwrap_or((entry, ""));
    let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|inner| !inner.is_empty());
    format!("{host}:{}", inner.unwrap_or(address))
}

pub(super) fn ulimit(at: &At<'_>, object: impl FnOnce(&At<'_>, &'static [Key]) -> Result<Value>) -> Result<Value> {
    // Docker fails on `2.0` here, where it takes it elsewhere.
    if !at.value.is_object() {
        return Ok(at.int::<i64>()?.into());
    }
    let limit = object(at, ULIMIT)?;
    let (Some(soft), Some(hard)) = (at.get("soft"), at.get("hard")) else {
        bail!(at.error("both `soft` and `hard` are needed"));
    };
    for limit in [soft, hard] {
        limit.int::<i64>()?;
    }
    Ok(limit)
}

/// One of a closed set of words.
pub(super) fn word<'a>(at: &At<'a>, words: &[&str]) -> Result<&'a str> {
    let text = at.text()?;
    if !words.contains(&text) {
        let known = listed(words.iter().copied(), 9);
        bail!(at.error(format!("`{}` is not known: possible are {known}", text.escape_debug())));
    }
    Ok(text)
}

/// A whole number, which may be written as a fraction of zero: `2.0`.
pub(super) fn whole(at: &At<'_>) -> Result<i64> {
    let fraction = at.value.as_f64().filter(|float| at.value.is_f64() && float.fract() == 0.0 && float.abs() < 9e18);
    fraction.map_or_else(|| at.int(), |float| Ok(float as i64))
}

/// A list of texts in which nothing stands twice, as docker's schema asks.
pub(super) fn texts(at: &At<'_>) -> Result<Vec<String>> {
    unique(at)?;
    at.texts()
}

/// Refuses a list in which something stands twice.
pub(super) fn unique(at: &At<'_>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for item in at.list()? {
        if !seen.insert(item.value.to_string()) {
            let shown = item.value.as_str().map_or_else(|| item.value.to_string(), str::to_owned);
            bail!(item.error(format!("`{}` stands here twice", shown.escape_debug())));
        }
    }
    Ok(())
}
