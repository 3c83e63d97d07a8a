//! The script that writes a row through a database's own client, and reads it again: one for each kind of database, with
//! this in front of it.
//!
//! Names and words of a row are the harness's own and arrive as arguments. Passwords never do: they are read inside of
//! the container, from its environment and its secret files, or arrive by standard input. To the clients they go by their
//! environment, or by a file that is a pipe.

use anyhow::{Result, anyhow, bail};

use super::Kind;
use crate::engine::ExecOutput;

/// What is done with the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Write,
    Read,
    /// The table goes, as a planted fault has it.
    Lose,
}

/// What a script ended with.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Of `write` the place of the table, of `read` the word.
    Text(String),
    /// There is no such row any more, for this reason.
    Gone(String),
    /// It keeps nothing, and is not meant to.
    Cache(String),
    /// Nobody can look into it, now or later.
    Closed(String),
}

const CLOSED: i32 = 3;
const CACHE: i32 = 4;
const GONE: i32 = 5;

/// What every script may use.
const PRELUDE: &str = r#"
op=$1 name=$2 word=$3 place=$4
IFS= read -r given || :
fail() { echo "$*" >&2; exit 1; }
none() { echo "$*" >&2; exit 3; }
cache() { echo "$*" >&2; exit 4; }
gone() { echo "$*" >&2; exit 5; }
value() {
    for variable; do
        eval "text=\${$variable-} file=\${${variable}_FILE-}"
        if [ -z "$text" ] && [ -n "$file" ] && [ -r "$file" ]; then text=$(cat "$file"); fi
        [ -z "$text" ] || { printf '%s\n' "$text"; return; }
    done
}
passwords() {
    for one; do value "$one"; done
    [ -z "$given" ] || printf '%s\n' "$given"
    echo
    for secret in /run/secrets/*; do
        case ${secret##*/} in
            *pass* | *PASS* | *pw* | *PW* | *db* | *DB* | *sql* | *SQL* | *redis* | *REDIS*)
                [ ! -r "$secret" ] || { cat "$secret"; echo; } ;;
        esac
    done
}
"#;

/// The command line, for a container that has a shell.
pub fn argv(kind: &Kind, op: Op, name: &str, word: &str, place: &str) -> Vec<String> {
    let op = match op {
        Op::Write => "write",
        Op::Read => "read",
        Op::Lose => "lose",
    };
    let script = format!("{PRELUDE}{}", kind.script);
    ["/bin/sh", "-c", &script, "sh", op, name, word, place].map(str::to_owned).into()
}

/// What came of it. An error may pass: a server that has just been started takes no client yet.
pub fn read(output: &ExecOutput) -> Result<Said> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let said = last_lines(&text(&output.stderr));
    Ok(match output.code {
        0 => Said::Text(text(&output.stdout)),
        CLOSED => Said::Closed(said),
        126 | 127 => Said::Closed(format!("its container has no shell: {said}")),
        CACHE => Said::Cache(said),
        GONE => Said::Gone(said),
        code if said.is_empty() => bail!("its client ended with exit code {code}, and said nothing"),
        _ => return Err(anyhow!("{said}")),
    })
}

/// A client may say much; its reason stands at the end.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> ExecOutput {
        let (stdout, stderr) = (stdout.into(), stderr.into());
        ExecOutput { code, stdout, stderr, truncated: false, task: String::new() }
    }

    #[test]
    fn what_a_client_says_is_read_by_its_exit_code() {
        assert_eq!(read(&output(0, "word\n", "warning\n")).unwrap(), Said::Text("word".into()));
        assert_eq!(read(&output(5, "", "there is no table\n")).unwrap(), Said::Gone("there is no table".into()));
        assert!(matches!(read(&output(127, "", "sh: not found")).unwrap(), Said::Closed(_)));
        let error = read(&output(1, "", "a\nb\n\nc\nd\n")).unwrap_err().to_string();
        assert_eq!(error, "b | c | d");
        assert!(read(&output(2, "", "")).unwrap_err().to_string().contains("exit code 2, and said nothing"));
    }
}
