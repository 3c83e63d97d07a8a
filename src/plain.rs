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

/// The same for the output of a CI job, whose runner looks through every line for commands to itself: GitHub's `::name::`
/// behind any blanks and `##[name]` anywhere, `##vso[` of Azure Pipelines, `##teamcity[` of TeamCity.
pub fn plain_in_ci(text: &str) -> String {
    let text = plain(text);
    let mut lines = text.split('\n').map(|line| {
        let line = split_markers(line);
        if line.trim_start().starts_with("::") { format!("| {line}") } else { line }
    });
    let first = lines.next().unwrap_or_default();
    lines.fold(first, |text, line| text + "\n" + &line)
}

/// Puts a blank into every `##word[`.
fn split_markers(line: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(line.len()), line);
    while let Some(at) = rest.find("##") {
        let after = &rest[at + 2..];
        let word = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
        let is_marker = after[word..].starts_with('[');
        // The second `#` may be the first of a marker.
        let done = if is_marker { at + 2 } else { at + 1 };
        out.push_str(&rest[..done]);
        out.push_str(if is_marker { " " } else { "" });
        rest = &rest[done..];
    }
    out + rest
}

/// Whether this is a job of a CI, by the variable that all of them set.
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Text for standard output and standard error: [`plain`], and in a job of a CI without commands to its runner.
pub fn printed(text: &str) -> String {
    if is_ci() { plain_in_ci(text) } else { plain(text) }
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

    #[test]
    fn a_ci_is_given_no_commands() {
        for (text, expected) in [
            ("::add-mask::x", "| ::add-mask::x"),
            ("a\n  ::stop-commands::x\n\t::b", "a\n|   ::stop-commands::x\n| \t::b"),
            ("\u{3000}::set-output name=a::b", "| \u{3000}::set-output name=a::b"),
            ("std::fs::read", "std::fs::read"),
            ("log: ##[add-mask]x", "log: ## [add-mask]x"),
            ("###[group]x ##VSO[task.complete]", "### [group]x ## VSO[task.complete]"),
            ("##teamcity[testFailed]", "## teamcity[testFailed]"),
            ("## A heading [link]", "## A heading [link]"),
            ("####", "####"),
        ] {
            assert_eq!(plain_in_ci(text), expected);
        }
    }

    proptest! {
        #[test]
        fn no_line_for_a_ci_is_a_command(text in "[ \\t\\n:#\\[\\]a\u{3000}]{0,30}") {
            for line in plain_in_ci(&text).lines() {
                prop_assert!(!line.trim_start().starts_with("::") && !line.contains("##[") && !line.contains("##a["), "{line}");
            }
        }
        #[test]
        fn nothing_that_acts_is_left(text in "\\PC*|[\\x00-\\u{2100}]{0,40}") {
            let plain = plain(&text);
            prop_assert!(plain.chars().all(|c| matches!(c, '\n' | '\t') || !(c.is_control() || turns_direction(c))));
        }
    }
}
