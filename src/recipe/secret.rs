//! Secret values: made from their declaration, and never shown.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::suggest::listed;

/// The value of a secret. It has no `Serialize`, and its `Debug` hides it: only [`SecretValue::expose`] gives it out.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    pub fn new(value: impl Into<String>) -> Self {
        SecretValue(value.into())
    }

    /// The value itself: for files, standard input and masks, never for arguments or messages.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(***)")
    }
}

/// How a secret is made, as `SECRET_<NAME>_VERSION=v1 # length=64 charset=hex` declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSpec {
    /// The secret's key: of the compose file where one uses it, else the declared name in lower case.
    pub key: String,
    /// The variable that declares it; empty when none does.
    pub variable: String,
    /// `v1`: the last part of its name in Swarm.
    pub version: String,
    /// Characters; [`DEFAULT_LENGTH`] when not declared.
    pub length: Option<u32>,
    pub charset: Charset,
    /// False when an operator has to insert it by hand (`generate=false`).
    pub generate: bool,
}

/// Characters of a secret that declares no length.
pub const DEFAULT_LENGTH: u32 = 32;

/// Docker takes at most 500 KiB; anything near that is a mistake.
const MAX_LENGTH: u32 = 4096;

impl SecretSpec {
    /// A secret of the compose files that no variable declares: made with the defaults.
    pub fn undeclared(key: &str) -> Self {
        let (key, variable, version) = (key.to_owned(), String::new(), "v1".to_owned());
        SecretSpec { key, variable, version, length: None, charset: Charset::default(), generate: true }
    }

    /// Makes a value, from the operating system's randomness.
    pub fn value(&self) -> Result<SecretValue> {
        let length = self.length.unwrap_or(DEFAULT_LENGTH);
        if length == 0 || length > MAX_LENGTH {
            bail!("secret `{}` declares length {length}: expected 1 to {MAX_LENGTH}", self.key);
        }
        let characters = self.charset.characters();
        // `rand::rng` is a cryptographic generator, seeded by the operating system.
        let mut rng = rand::rng();
        let value = (0..length).map(|_| characters[rng.random_range(0..characters.len())] as char).collect::<String>();
        Ok(SecretValue(value))
    }
}

/// A set of characters, as abra names them: one name, or several joined by commas (`default,safespecial`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Charset(String);

const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const DIGITS: &str = "0123456789";
const HEX: &str = "0123456789abcdef";
const SPECIAL: &str = "!@#$%^&*_-+=";
/// Without `$` and `&`, which shells and connection strings take for their own.
const SAFE_SPECIAL: &str = "!@#%^*_-+=";

/// Every name and what it stands for.
const CHARSETS: &[(&str, &[&str])] = &[
    ("default", &[LETTERS, DIGITS]),
    ("alphanumeric", &[LETTERS, DIGITS]),
    ("alphanum", &[LETTERS, DIGITS]),
    ("letters", &[LETTERS]),
    ("digits", &[DIGITS]),
    ("hex", &[HEX]),
    ("special", &[SPECIAL]),
    ("safespecial", &[SAFE_SPECIAL]),
];

impl Charset {
    fn characters(&self) -> Vec<u8> {
        let sets = |name: &str| known(name).unwrap_or(CHARSETS[0].1);
        let mut characters: Vec<u8> = self.0.split(',').flat_map(|name| sets(name).concat().into_bytes()).collect();
        characters.sort_unstable();
        characters.dedup();
        characters
    }

    /// A note for a name that nobody knows. abra goes on with its default then, as far as is recalled, and so does the
    /// harness.
    pub fn note(&self, secret: &str) -> Option<String> {
        let unknown = self.0.split(',').find(|name| known(name).is_none())?;
        let possible = listed(CHARSETS.iter().map(|(known, _)| *known), 20);
        Some(format!(
            "the charset `{}` of the secret `{secret}` is not known (possible are {possible}): it is made with `default`",
            unknown.escape_debug()
        ))
    }
}

/// What a name stands for.
fn known(name: &str) -> Option<&'static [&'static str]> {
    CHARSETS.iter().find(|(known, _)| *known == name).map(|(_, sets)| *sets)
}

impl Default for Charset {
    fn default() -> Self {
        Charset("default".into())
    }
}

impl FromStr for Charset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Charset(text.to_lowercase()))
    }
}

impl TryFrom<String> for Charset {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Charset> for String {
    fn from(charset: Charset) -> String {
        charset.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(length: Option<u32>, charset: &str) -> SecretSpec {
        let charset = charset.parse().unwrap();
        SecretSpec { key: "k".into(), variable: "".into(), version: "v1".into(), length, charset, generate: true }
    }

    #[test]
    fn a_value_has_the_declared_length_and_characters() {
        let check = |length, charset: &str, allowed: &str| {
            let value = spec(length, charset).value().unwrap();
            assert_eq!(value.expose().len(), length.unwrap_or(32) as usize);
            assert!(value.expose().chars().all(|c| allowed.contains(c)), "{charset}");
        };
        check(None, "default", &format!("{LETTERS}{DIGITS}"));
        check(Some(64), "hex", HEX);
        check(Some(10), "Digits", DIGITS);
        check(Some(200), "default,safespecial", &format!("{LETTERS}{DIGITS}{SAFE_SPECIAL}"));
        check(Some(1), "special", SPECIAL);
        check(Some(200), "alnum", &format!("{LETTERS}{DIGITS}"));
    }

    #[test]
    fn every_character_occurs_and_no_two_values_are_equal() {
        let value = spec(Some(4096), "hex").value().unwrap();
        assert!(HEX.chars().all(|c| value.expose().contains(c)));
        assert_ne!(value, spec(Some(4096), "hex").value().unwrap());
    }

    #[test]
    fn a_charset_that_nobody_knows_is_noted() {
        let note = |charset: &str| spec(None, charset).charset.note("db_password");
        let start =
            "the charset `alnum` of the secret `db_password` is not known (possible are `default`, `alphanumeric`";
        assert!(note("hex,alnum").unwrap().starts_with(start), "{:?}", note("hex,alnum"));
        assert_eq!(note("default,safespecial"), None);
    }

    #[test]
    fn an_impossible_length_is_refused() {
        let error = spec(Some(0), "hex").value().unwrap_err().to_string();
        assert_eq!(error, "secret `k` declares length 0: expected 1 to 4096");
        assert!(spec(Some(4097), "hex").value().is_err());
    }

    #[test]
    fn a_value_is_not_shown_by_accident() {
        assert_eq!(format!("{:?}", SecretValue::new("hunter2")), "SecretValue(***)");
    }
}
