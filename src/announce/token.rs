//! The token: from a file or a variable, never from an argument, which every user of a machine can read.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// The variable that holds it.
pub const VARIABLE: &str = "HARNESS_FORGE_TOKEN";
/// No token is nearly as long.
const LONGEST: u64 = 4096;

/// A token, and where it came from. It is never shown.
pub struct Token {
    value: String,
    pub from: String,
}

impl Token {
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token from {}", self.from)
    }
}

/// The token of the file that was named, else of the variable.
pub fn find(file: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<Token> {
    let (value, from) = match file {
        Some(path) => (read(path)?, format!("the file `{}`", path.display())),
        None => match env(VARIABLE) {
            Some(value) => (value, VARIABLE.to_owned()),
            None => bail!(
                "there is no token for the forge: name a file with it by `--token-file FILE`, or set {VARIABLE}; an argument \
                 could be read by every user of this machine"
            ),
        },
    };
    let value = value.trim().to_owned();
    ensure!(!value.is_empty(), "{from} holds no token: it is empty");
    ensure!(
        value.chars().all(|c| c.is_ascii_graphic()),
        "{from} holds no token: those have no blanks and no line breaks"
    );
    Ok(Token { value, from })
}

fn read(path: &Path) -> Result<String> {
    let failed = || format!("failed to read the token from `{}`", path.display());
    let file = std::fs::File::open(path).with_context(failed)?;
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text).with_context(failed)?;
    ensure!(text.len() as u64 <= LONGEST, "`{}` holds no token: it has more than {LONGEST} bytes", path.display());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(file: Option<&Path>, value: Option<&str>) -> String {
        format!("{:#}", find(file, &|key| value.filter(|_| key == VARIABLE).map(str::to_owned)).unwrap_err())
    }

    #[test]
    fn a_file_comes_before_the_variable_and_blanks_around_it_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "abc\n").unwrap();
        let token = find(Some(&path), &|_| Some("other".into())).unwrap();
        assert_eq!((token.value(), token.from.clone()), ("abc", format!("the file `{}`", path.display())));
        assert_eq!(find(None, &|_| Some("other".into())).unwrap().value(), "other");
        assert!(!format!("{token:?}").contains("abc"), "{token:?}");
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(refusal(None, None).starts_with("there is no token for the forge: name a file"));
        assert_eq!(refusal(None, Some(" ")), "HARNESS_FORGE_TOKEN holds no token: it is empty");
        let two = refusal(None, Some("abc def"));
        assert_eq!(two, "HARNESS_FORGE_TOKEN holds no token: those have no blanks and no line breaks");
        assert!(refusal(Some(&path), None).starts_with("failed to read the token from `"));
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(refusal(Some(&path), None).ends_with("holds no token: it has more than 4096 bytes"));
    }
}
