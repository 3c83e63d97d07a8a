//! Keeps secret values out of everything people read. A net, not a boundary: it knows values and their usual encodings.

use aho_corasick::{AhoCorasick, MatchKind};
use anyhow::{Context as _, Result};
use data_encoding::{BASE64, HEXLOWER};

/// Shorter values are not masked: they would blot out ordinary text and hide nothing that cannot be guessed.
pub const SHORTEST: usize = 6;

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// A set of values to mask.
pub struct Masks {
    automaton: Option<AhoCorasick>,
}

impl Masks {
    /// Masks every value with its encoded forms, longest match first.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut patterns: Vec<String> = values.into_iter().filter(|it| it.len() >= SHORTEST).flat_map(forms).collect();
        patterns.sort();
        patterns.dedup();
        if patterns.is_empty() {
            return Ok(Masks { automaton: None });
        }
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns);
        Ok(Masks { automaton: Some(automaton.context("failed to prepare the masks")?) })
    }

    /// The text with every secret replaced.
    pub fn mask(&self, text: &str) -> String {
        match &self.automaton {
            Some(automaton) => {
                let mut masked = String::with_capacity(text.len());
                automaton.replace_all_with(text, &mut masked, |_, _, out| {
                    out.push_str(MASK);
                    true
                });
                masked
            }
            None => text.to_owned(),
        }
    }

    /// Whether a secret stands in the text.
    pub fn finds(&self, text: &str) -> bool {
        self.automaton.as_ref().is_some_and(|automaton| automaton.is_match(text))
    }
}

/// A value as it is, and as it looks in JSON, in an address, in base64 (without padding, so that it is found whatever
/// follows) and in hexadecimal.
fn forms(value: &str) -> Vec<String> {
    let json = serde_json::Value::from(value).to_string();
    let percent: String = value
        .bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect();
    let base64 = BASE64.encode(value.as_bytes());
    vec![
        value.to_owned(),
        json[1..json.len() - 1].to_owned(),
        percent,
        base64.trim_end_matches('=').to_owned(),
        HEXLOWER.encode(value.as_bytes()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr\"t/va+lue";

    #[test]
    fn a_secret_and_its_encoded_forms_are_masked() {
        let masks = Masks::new([SECRET]).unwrap();
        for form in forms(SECRET) {
            assert_eq!(masks.mask(&format!("before {form} after")), "before *** after");
            assert!(masks.finds(&form));
        }
    }

    #[test]
    fn the_longest_of_overlapping_secrets_is_masked_whole() {
        let masks = Masks::new(["hunter22", "hunter22-and-more"]).unwrap();
        assert_eq!(masks.mask("x hunter22-and-more y"), "x *** y");
    }

    #[test]
    fn ordinary_text_and_short_values_are_left_alone() {
        let masks = Masks::new(["abc"]).unwrap();
        assert_eq!(masks.mask("abc of it"), "abc of it");
        assert!(!Masks::new([SECRET]).unwrap().finds("nothing here"));
    }
}
