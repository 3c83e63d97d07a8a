//! Colour on standard error, where a person reads it.

use std::io::IsTerminal as _;

/// What a text wants to be seen as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Good,
    Bad,
    /// Not as in production, or not proven.
    Doubtful,
}

/// Whether standard error is a terminal that shows colours and nobody has asked for none.
pub fn is_wanted() -> bool {
    suits(std::io::stderr().is_terminal(), |key| std::env::var(key).ok())
}

fn suits(terminal: bool, env: impl Fn(&str) -> Option<String>) -> bool {
    terminal && env("NO_COLOR").is_none_or(|value| value.is_empty()) && env("TERM").is_none_or(|term| term != "dumb")
}

/// A text that was made harmless, in a colour if it is `wanted`.
pub fn paint(text: &str, colour: Colour, wanted: bool) -> String {
    let number = match colour {
        Colour::Good => 32,
        Colour::Bad => 31,
        Colour::Doubtful => 33,
    };
    if wanted { format!("\x1b[{number}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_shows_colours_gets_them_and_nobody_who_refuses() {
        let env = |set: &'static [(&'static str, &'static str)]| {
            move |key: &str| set.iter().find(|(name, _)| *name == key).map(|(_, value)| value.to_string())
        };
        assert!(suits(true, env(&[])) && suits(true, env(&[("TERM", "xterm"), ("NO_COLOR", "")])));
        assert!(!suits(false, env(&[])));
        assert!(!suits(true, env(&[("NO_COLOR", "1")])) && !suits(true, env(&[("TERM", "dumb")])));
        assert_eq!(paint("x", Colour::Bad, true), "\x1b[31mx\x1b[0m");
        assert_eq!(paint("x", Colour::Bad, false), "x");
    }
}
