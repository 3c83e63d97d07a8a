//! Keeps secret values out of everything people read. A net, not a boundary: it knows values and their usual encodings.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use anyhow::{Context as _, Result};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// Shorter values are not masked: they would blot out ordinary text and hide nothing that cannot be guessed.
pub const SHORTEST: usize = 6;

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// A set of values to mask.
#[derive(Default)]
pub struct Masks {
    automaton: Option<AhoCorasick>,
}

impl Masks {
    /// Masks every value with its encoded forms. Where values overlap, all of them are masked as one.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut patterns: Vec<String> = values.into_iter().flat_map(forms).collect();
        patterns.sort();
        patterns.dedup();
        if patterns.is_empty() {
            return Ok(Masks { automaton: None });
        }
        // A table for every byte would take longer to make than most texts to search.
        let kind = Some(AhoCorasickKind::ContiguousNFA);
        let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).kind(kind).build(&patterns);
        Ok(Masks { automaton: Some(automaton.context("failed to prepare the masks")?) })
    }

    /// The text with every secret replaced.
    pub fn mask(&self, text: &str) -> String {
        let mut stream = self.stream();
        let mut masked = stream.push(text.as_bytes());
        masked.extend(stream.finish());
        String::from_utf8_lossy(&masked).into_owned()
    }

    /// Whether a secret stands in the text.
    pub fn finds(&self, text: &str) -> bool {
        self.finds_bytes(text.as_bytes())
    }

    /// Whether a secret stands in these bytes.
    pub fn finds_bytes(&self, bytes: &[u8]) -> bool {
        self.automaton.as_ref().is_some_and(|automaton| automaton.is_match(bytes))
    }

    /// Whether a secret stands in these bytes that does not end before the given place.
    pub fn finds_behind(&self, bytes: &[u8], at: usize) -> bool {
        let found = |automaton: &AhoCorasick| automaton.find_overlapping_iter(bytes).any(|found| found.end() > at);
        self.automaton.as_ref().is_some_and(found)
    }

    /// Masks what comes in pieces, however a secret is cut: the result is that of the whole.
    pub fn stream(&self) -> MaskStream<'_> {
        MaskStream { masks: self, pending: Vec::new(), base: 0, open: 0 }
    }

    /// The length of the longest form: so much has to be seen before a byte is known to begin none.
    pub fn longest(&self) -> usize {
        self.automaton.as_ref().map_or(1, |automaton| automaton.max_pattern_len().max(1))
    }
}

/// A text that is masked while it comes in. What might be the beginning of a secret is held back.
pub struct MaskStream<'a> {
    masks: &'a Masks,
    /// What is not decided yet.
    pending: Vec<u8>,
    /// Where that begins in the whole text.
    base: usize,
    /// Up to where the text is covered by a mask that is written already.
    open: usize,
}

impl MaskStream<'_> {
    /// Takes the next piece, and gives what is decided by now.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(piece);
        // Whatever begins before this point ends within what is here.
        let decided = (self.pending.len() + 1).saturating_sub(self.masks.longest());
        self.decide(decided)
    }

    /// Gives the rest.
    pub fn finish(mut self) -> Vec<u8> {
        self.decide(self.pending.len())
    }

    /// Writes the first `length` bytes of what is pending, masked.
    fn decide(&mut self, length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(length);
        let mut written = 0;
        for (start, end) in self.matches(length) {
            let open = self.open.saturating_sub(self.base);
            if start >= open {
                out.extend_from_slice(&self.pending[written.max(open).min(start)..start]);
                out.extend_from_slice(MASK.as_bytes());
                written = start;
            }
            self.open = self.open.max(self.base + end);
        }
        let open = self.open.saturating_sub(self.base);
        out.extend_from_slice(&self.pending[written.max(open).min(length)..length]);
        self.pending.drain(..length);
        self.base += length;
        out
    }

    /// Matches that begin in the first `length` bytes, by their beginning.
    fn matches(&self, length: usize) -> Vec<(usize, usize)> {
        let Some(automaton) = &self.masks.automaton else { return Vec::new() };
        let matches = automaton.find_overlapping_iter(&self.pending).map(|found| (found.start(), found.end()));
        let mut matches: Vec<(usize, usize)> = matches.filter(|(start, _)| *start < length).collect();
        matches.sort_unstable();
        matches
    }
}

/// A value and each of its lines, as they are and in every encoding that usually happens to a value: JSON, addresses and
/// forms, XML and HTML, a shell's quotes, base64 (at each of three offsets, so that it is found inside of a longer text,
/// and without padding, whatever follows) and hexadecimal.
pub fn forms(value: &str) -> Vec<String> {
    let lines = value.lines().map(str::trim).filter(|line| *line != value);
    let mut forms: Vec<String> = std::iter::once(value).chain(lines).flat_map(forms_of_one).collect();
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

fn forms_of_one(value: &str) -> Vec<String> {
    if value.len() < SHORTEST {
        return Vec::new();
    }
    let bytes = value.as_bytes();
    let json = serde_json::Value::from(value).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let xml = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let percent = percent(bytes, HEXUPPER.encode(bytes));
    let mut forms = vec![
        value.to_owned(),
        json.replace('/', "\\/"),
        json,
        percent.replace("%20", "+"),
        percent,
        self::percent(bytes, HEXLOWER.encode(bytes)),
        xml.replace('"', "&quot;").replace('\'', "&#39;"),
        xml.replace('"', "&#34;").replace('\'', "&apos;"),
        xml,
        value.replace('\'', "'\\''"),
        HEXLOWER.encode(bytes),
        HEXUPPER.encode(bytes),
    ];
    for offset in 0..3 {
        forms.extend(base64_at(offset, bytes, &BASE64_NOPAD));
        forms.extend(base64_at(offset, bytes, &BASE64URL_NOPAD));
    }
    forms
}

/// What of a value's base64 does not depend on what stands before it, with `offset` bytes of that: the end of a text,
/// and without the last digit, which something that follows would share.
fn base64_at(offset: usize, value: &[u8], encoding: &data_encoding::Encoding) -> [String; 2] {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(value);
    let text = encoding.encode(&bytes);
    let (first, end) = ((offset * 8).div_ceil(6), bytes.len() * 8 / 6);
    [text[first..].to_owned(), text[first..end].to_owned()]
}

/// Percent-encoding with the given hexadecimal digits of the bytes.
fn percent(bytes: &[u8], hex: String) -> String {
    let digits = |index: usize| &hex[2 * index..2 * index + 2];
    let byte = |(index, byte): (usize, &u8)| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(*byte).to_string(),
        _ => format!("%{}", digits(index)),
    };
    bytes.iter().enumerate().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64;
    use proptest::prelude::*;

    const SECRET: &str = "s3cr\"t/va+l'u<e> &é";

    #[test]
    fn a_secret_and_its_encoded_forms_are_masked() {
        let masks = Masks::new([SECRET]).unwrap();
        for form in forms(SECRET) {
            assert_eq!(masks.mask(&format!("before {form} after")), "before *** after", "{form}");
            assert!(masks.finds(&form));
        }
    }

    #[test]
    fn base64_of_a_longer_text_is_masked_wherever_the_secret_stands_in_it() {
        let masks = Masks::new(["correct-horse-battery"]).unwrap();
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "x", "xy", "\n"] {
                let encoded = BASE64.encode(format!("{before}correct-horse-battery{after}").as_bytes());
                assert!(masks.finds(&encoded), "{before:?} {after:?}");
            }
        }
    }

    #[test]
    fn every_line_of_a_secret_is_one() {
        let masks = Masks::new(["-----BEGIN-----\nMIIEvQIBADANBg\nab\n"]).unwrap();
        assert_eq!(masks.mask("x MIIEvQIBADANBg y\nab"), "x *** y\nab");
    }

    #[test]
    fn overlapping_secrets_are_masked_as_one() {
        let masks = Masks::new(["hunter22", "hunter22-and-more", "more-to-come"]).unwrap();
        assert_eq!(masks.mask("x hunter22-and-more y"), "x *** y");
        assert_eq!(masks.mask("x hunter22-and-more-to-come y"), "x *** y");
        assert_eq!(masks.mask("hunter22hunter22"), "******");
    }

    #[test]
    fn ordinary_text_and_short_values_are_left_alone() {
        let masks = Masks::new(["abc"]).unwrap();
        assert_eq!(masks.mask("abc of it"), "abc of it");
        assert!(!Masks::new([SECRET]).unwrap().finds("nothing here"));
    }

    fn in_pieces(masks: &Masks, pieces: &[&[u8]]) -> String {
        let mut stream = masks.stream();
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| stream.push(piece)).collect();
        out.extend(stream.finish());
        String::from_utf8(out).unwrap()
    }

    /// Not a sample: every form of the secret, cut at every byte, and at every pair of bytes.
    #[test]
    fn every_split_of_every_encoding_is_masked() {
        let secret = "pa55-wörd/<&>'\"+=%20";
        let masks = Masks::new([secret]).unwrap();
        for form in forms(secret) {
            let text = format!("<{form}>");
            let bytes = text.as_bytes();
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(in_pieces(&masks, &pieces), "<***>", "{form} at {first} and {second}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            secrets in proptest::collection::vec("[ab]{6,9}|\\PC{6,12}", 1..4),
            words in proptest::collection::vec("[ab]{0,12}|\\PC{0,8}", 0..8),
            picks in proptest::collection::vec((0usize..4, 0usize..40), 0..6),
            cuts in proptest::collection::vec(0usize..400, 0..10),
        ) {
            let masks = Masks::new(secrets.iter().map(String::as_str)).unwrap();
            let mut text = words.concat();
            for (secret, form) in picks {
                let forms = forms(&secrets[secret % secrets.len()]);
                text += &forms[form % forms.len()];
                text.push_str(words.first().map_or("", String::as_str));
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (text.len() + 1)).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let masked = in_pieces(&masks, &pieces);
            prop_assert_eq!(&masked, &masks.mask(&text));
            let left: String = masked.split(MASK).collect::<Vec<_>>().join("\u{0}");
            prop_assert!(!secrets.iter().any(|secret| left.contains(secret.as_str())));
        }
    }
}
