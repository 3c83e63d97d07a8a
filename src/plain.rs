//! Text of recipes and apps, made harmless for a terminal and for lines of a log.

use std::fmt::Write as _;

/// The text with every character shown that would otherwise do something: escape sequences, other controls, and marks
/// that turn the direction of what is read. Line breaks and tabs stay.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if acts(c) => {
                let _ = write!(out, "{}", c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

/// Whether a character would do something where it is shown, instead of being seen.
pub fn acts(c: char) -> bool {
    c.is_control() || turns_direction(c)
}

/// Bidirectional controls, line and paragraph separators, and what has no width.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_would_do_something_is_shown_instead() {
        assert_eq!(plain("a\tb\nc"), "a\tb\nc");
        assert_eq!(plain("\u{1b}[2Jgone\r\u{7}"), "\\u{1b}[2Jgone\\u{d}\\u{7}");
        assert_eq!(plain("\u{9b}31m \u{202e}txt.exe \u{0}"), "\\u{9b}31m \\u{202e}txt.exe \\u{0}");
        assert_eq!(plain("Grüße, 東京"), "Grüße, 東京");
    }

    proptest! {
        #[test]
        fn nothing_that_acts_is_left(text in "\\PC*|[\\x00-\\u{2100}]{0,40}") {
            let plain = plain(&text);
            prop_assert!(plain.chars().all(|c| matches!(c, '\n' | '\t') || !(c.is_control() || turns_direction(c))));
        }
    }
}
