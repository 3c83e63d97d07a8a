//! abra's command line and what it prints: the one place that knows either.
//!
//! What stands here was read in documentation and in programs that drive abra. Where it was only recalled, the function
//! says so, and its answer is checked when it is used: what is not as expected is an error that says what was.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Abra, AbraSpec, locked};
use crate::mask::Masks;
use crate::process::Run;
use crate::recipe::secret::SecretValue;

/// A command that only reads or writes files and talks to Docker once.
const SHORT: Duration = Duration::from_secs(120);

const UNDEPLOY: Duration = Duration::from_secs(15);

/// It was seen to take less than a second.
const LINT: Duration = Duration::from_secs(60);

/// The beginnings of versions that these commands were seen to work with.
pub(super) const KNOWN: &[&str] = &["0.13."];

/// The variables that abra needs beside the usual few: a Docker context may lead through ssh and its agent.
const ENVIRONMENT: [&str; 4] = ["DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "SSH_AUTH_SOCK"];

/// abra with one `$ABRA_DIR`.
pub(super) struct Program<'a> {
    pub(super) spec: &'a AbraSpec,
    pub(super) home: &'a Path,
}

impl Abra {
    /// `app new`. It moves the checkout, so the caller checks out again.
    pub(super) async fn app_new(&self, recipe: &str) -> Result<()> {
        let (domain, server) = (format!("--domain={}", self.domain), format!("--server={}", self.spec.server));
        self.checked(&["app", "new", recipe, "-n", &domain, &server, "-C", "-o"], SHORT).await.map(|_| ())
    }

    /// `app secret insert … -f`: the value goes by file, never by argument.
    pub(super) async fn insert_secret(&self, name: &str, version: &str, value: &SecretValue) -> Result<()> {
        let file = tempfile::NamedTempFile::new_in(&self.dir).context("failed to create a file for a secret")?;
        std::fs::write(file.path(), value.expose()).context("failed to write a secret to its file")?;
        self.watch([value]);
        let path = file.path().to_str().context("the run's directory has a name that is no text")?;
        let arguments = ["app", "secret", "insert", &self.domain, name, version, path, "-f", "-n", "-C", "-o"];
        self.checked(&arguments, SHORT).await.map(|_| ())
    }

    /// `app secret generate --all`. With `-m` the values are in the answer and in no log; what that answer looks like
    /// is recalled, so a value that is not found there is missing, and the caller says so.
    pub(super) async fn generate_secrets(&self) -> Result<Vec<(String, SecretValue)>> {
        let arguments = ["app", "secret", "generate", &self.domain, "-a", "-m", "-n", "-C", "-o"];
        let said = self.program().run_in(&arguments, SHORT, &self.dir).await?;
        let values = secret_values(&said.text);
        self.watch(values.iter().map(|(_, value)| value));
        if said.failed() {
            bail!(
                "`abra app secret generate` exited with code {}: {}",
                said.code,
                self.masked(said.clone())?.complaint()
            );
        }
        Ok(values)
    }

    /// `app deploy`: a published version pinned, or what the checkout holds as chaos. `-D`: whether a domain leads here
    /// is asked by the harness itself.
    pub(super) async fn app_deploy(&self, version: Option<&str>, again: bool, deadline: Duration) -> Result<Said> {
        let mut arguments = vec!["app", "deploy", self.domain.as_str()];
        arguments.extend(version);
        arguments.extend(["-n", "-D", "-o"]);
        if version.is_none() {
            arguments.push("-C");
        }
        if again {
            arguments.push("-f");
        }
        self.run(&arguments, deadline).await
    }

    /// `app undeploy`. What it does not do, teardown does all the same, so that it gets little time.
    pub(super) async fn undeploy(&self) -> Result<()> {
        self.checked(&["app", "undeploy", &self.domain, "-n", "-C", "-o"], UNDEPLOY).await.map(|_| ())
    }

    /// `app backup create`. Its exit code says nothing about hooks; its output names the snapshot.
    pub(super) async fn backup_create(&self, deadline: Duration) -> Result<String> {
        let said = self.checked(&["app", "backup", "create", &self.domain, "-n", "-C", "-o"], deadline).await?;
        said.check_bot("backup create")?;
        match snapshot_id(&said.text) {
            Some(id) => Ok(id),
            None => bail!("`abra app backup create` names no snapshot (`snapshot_id`), it says: {}", said.last_lines()),
        }
    }

    /// `app backup download`, recalled: it leaves `backup.tar.gz` in the working directory.
    pub(super) async fn backup_download(&self, snapshot: &str, dir: &Path, deadline: Duration) -> Result<()> {
        let arguments = ["app", "backup", "download", &self.domain, "-s", snapshot, "-n", "-C", "-o"];
        let said = self.masked(self.program().run_in(&arguments, deadline, dir).await?)?;
        if said.failed() || !dir.join(DOWNLOADED).is_file() {
            bail!(
                "`abra app backup download` was expected to leave `{DOWNLOADED}` in its working directory, exited with \
                 code {}, and says: {}",
                said.code,
                said.complaint()
            );
        }
        Ok(())
    }

    /// `app restore -s <snapshot>`; the flag is recalled.
    pub(super) async fn app_restore(&self, snapshot: &str, deadline: Duration) -> Result<()> {
        let arguments = ["app", "restore", &self.domain, "-s", snapshot, "-n", "-C", "-o"];
        self.checked(&arguments, deadline).await?.check_bot("restore")
    }

    async fn checked(&self, arguments: &[&str], deadline: Duration) -> Result<Said> {
        let said = self.run(arguments, deadline).await?;
        if said.failed() {
            bail!(
                "`abra {}` exited with code {}: {}",
                arguments[..3.min(arguments.len())].join(" "),
                said.code,
                said.complaint()
            );
        }
        Ok(said)
    }

    async fn run(&self, arguments: &[&str], deadline: Duration) -> Result<Said> {
        self.masked(self.program().run_in(arguments, deadline, &self.dir).await?)
    }

    /// From now on these values do not stand in what abra is quoted with.
    fn watch<'a>(&self, values: impl IntoIterator<Item = &'a SecretValue>) {
        locked(&self.secrets).extend(values.into_iter().cloned());
    }

    fn masked(&self, said: Said) -> Result<Said> {
        let masks = Masks::new(locked(&self.secrets).iter().map(SecretValue::expose))?;
        Ok(Said { text: masks.mask(&said.text), ..said })
    }

    fn program(&self) -> Program<'_> {
        Program { spec: &self.spec, home: &self.dir }
    }
}

impl Program<'_> {
    /// `recipe lint`. It refuses to work without a terminal, and exits with 0 whatever it finds.
    pub(super) async fn recipe_lint(&self, recipe: &str) -> Result<Said> {
        self.run_in(&["recipe", "lint", recipe, "-n", "-C", "-o"], LINT, self.home).await
    }

    async fn run_in(&self, arguments: &[&str], deadline: Duration, dir: &Path) -> Result<Said> {
        let run = Run::new(&self.spec.program, arguments).deadline(deadline).env("ABRA_DIR", self.home);
        let mut run = run.cwd(dir);
        for key in ENVIRONMENT {
            if let Some(value) = std::env::var_os(key) {
                run = run.env(key, value);
            }
        }
        let output = run.on_terminal().await.context("failed to run abra")?;
        Ok(Said { code: output.code, text: String::from_utf8_lossy(&output.stdout).into_owned() })
    }
}

/// The file that `app backup download` leaves.
pub(super) const DOWNLOADED: &str = "backup.tar.gz";

/// What abra answered.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) text: String,
}

impl Said {
    /// Whether abra gave up: it says so with `FATA`, on standard output, and by its exit code.
    pub(super) fn failed(&self) -> bool {
        self.code != 0 || self.text.lines().any(is_fatal)
    }

    /// The backup bot only logs that a hook has failed, and everybody is content. How it marks such a line is recalled,
    /// so every usual mark counts that stands where a log line has its level.
    fn check_bot(&self, command: &str) -> Result<()> {
        let is_level =
            |word: &str| ["ERRO", "ERROR", "CRITICAL"].contains(&word.trim_matches(|c: char| !c.is_alphabetic()));
        let is_error = |line: &&str| line.split_whitespace().take(5).any(is_level);
        match self.text.lines().find(is_error) {
            Some(line) => bail!("`abra app {command}` exited with code {}, but says: {}", self.code, line.trim()),
            None => Ok(()),
        }
    }

    /// abra's own words for why it gave up, else the last it said.
    pub(super) fn complaint(&self) -> String {
        let mut lines = self.text.lines().skip_while(|line| !is_fatal(line)).map(str::trim).peekable();
        if lines.peek().is_none() {
            return self.last_lines();
        }
        lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn last_lines(&self) -> String {
        let lines: Vec<&str> = self.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(5)..];
        if last.is_empty() { "nothing".into() } else { last.join(" | ") }
    }
}

fn is_fatal(line: &str) -> bool {
    line.trim_start().starts_with("FATA")
}

/// What `abra --version` says: `abra version 0.13.0-beta-06a57de`.
pub(super) fn version(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("abra version "))?;
    Some(line.trim().to_owned()).filter(|version| !version.is_empty())
}

/// Names and values in a machine-readable answer: objects with a `name` and a `value`, wherever they stand in it.
fn secret_values(text: &str) -> Vec<(String, SecretValue)> {
    let mut values = Vec::new();
    if let Some(json) = json(text) {
        collect(&json, &mut values);
    }
    values
}

fn collect(json: &Value, values: &mut Vec<(String, SecretValue)>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| collect(item, values)),
        Value::Object(fields) => {
            match (fields.get("name").and_then(Value::as_str), fields.get("value").and_then(Value::as_str)) {
                (Some(name), Some(value)) => values.push((name.to_owned(), SecretValue::new(value))),
                _ => fields.values().for_each(|field| collect(field, values)),
            }
        }
        _ => {}
    }
}

/// The first JSON in an answer, log lines before and after it left out.
fn json(text: &str) -> Option<Value> {
    let starts = text.match_indices('\n').map(|(at, _)| at + 1);
    [0].into_iter()
        .chain(starts)
        .filter(|at| text[*at..].starts_with(['[', '{']))
        .find_map(|at| serde_json::Deserializer::from_str(&text[at..]).into_iter().next()?.ok())
}

/// The snapshot that a backup made: restic says `"snapshot_id":"…"` in a line of JSON, or `snapshot … saved`.
fn snapshot_id(text: &str) -> Option<String> {
    let hex = |text: &str| {
        let id: String = text.chars().take_while(char::is_ascii_hexdigit).collect();
        (id.len() >= 8).then_some(id)
    };
    let after = |mark: &str| {
        let found = text.rfind(mark)?;
        hex(text[found + mark.len()..].trim_start_matches([':', ' ', '"', '\'', '=']))
    };
    after("snapshot_id\"").or_else(|| after("snapshot_id")).or_else(|| after("snapshot "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i32, text: &str) -> Said {
        Said { code, text: text.into() }
    }

    #[test]
    fn a_fatal_line_is_a_failure_whatever_the_exit_code_and_its_words_are_kept() {
        let fatal = said(0, "INFO deploying\nFATA secret not generated: db_password\n  see abra app secret\n");
        assert!(fatal.failed());
        assert_eq!(fatal.complaint(), "FATA secret not generated: db_password see abra app secret");
        assert!(said(1, "").failed() && said(1, "").complaint() == "nothing");
        assert!(!said(0, "WARN critical errors present").failed());
        assert_eq!(said(1, "one\n\ntwo\n").complaint(), "one | two");
    }

    #[test]
    fn an_error_in_the_backup_bots_log_is_one_whatever_the_exit_code() {
        for line in ["ERRO hook failed", "2024-10-01 10:00:00,000 - ERROR - hook failed", "[ERROR] hook failed"] {
            let error = said(0, &format!("INFO all is well\n{line}\n")).check_bot("restore").unwrap_err().to_string();
            assert_eq!(error, format!("`abra app restore` exited with code 0, but says: {line}"));
        }
        for line in ["INFO 0 errors", "no ERRORS here", "INFO a file of this snapshot is named ERROR.txt and ERROR"] {
            assert!(said(0, line).check_bot("restore").is_ok(), "{line}");
        }
    }

    #[test]
    fn secrets_are_found_beside_log_lines_and_nowhere_else() {
        let text = "WARN old\n[ {\"name\":\"db\",\"value\":\"s3cret\"},\n {\"name\":\"none\"} ]\nINFO done";
        let found = secret_values(text);
        assert_eq!(found, [("db".to_owned(), SecretValue::new("s3cret"))]);
        assert!(secret_values("INFO nothing to do").is_empty());
        assert!(secret_values("[not json").is_empty());
    }

    #[test]
    fn the_snapshot_is_the_last_one_that_was_named() {
        let json = r#"{"message_type":"summary","snapshot_id":"4f2a9c01aa"}"#;
        assert_eq!(snapshot_id(json).as_deref(), Some("4f2a9c01aa"));
        assert_eq!(snapshot_id("snapshot 4f2a9c01 saved").as_deref(), Some("4f2a9c01"));
        assert_eq!(snapshot_id("snapshot_id: deadbeef99").as_deref(), Some("deadbeef99"));
        assert_eq!(snapshot_id("nothing was saved"), None);
    }

    #[test]
    fn a_version_is_read_and_anything_else_is_none() {
        assert_eq!(version("abra version 0.13.0-beta-06a57de\n").as_deref(), Some("0.13.0-beta-06a57de"));
        assert_eq!(version("abra: command not found"), None);
    }
}
