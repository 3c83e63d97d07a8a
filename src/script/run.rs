//! Runs a test or hook in a cage, with the app described to it, and reads its verdict.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::lay_out::{lay_out, lay_out_about};
use super::{Code, Role, Script};
use crate::config::Https;
use crate::engine::embedded::cage::door::Changes;
use crate::engine::embedded::cage::{Cage, Door, Ended, Given, Hatch, How, Limits};
use crate::plain::plain;
use crate::recipe::tree::Tree;
use crate::tier::Tier;

/// How a program says that it could not look, as automake's tests do.
const SKIPPED: i32 = 77;
/// What starts a program, which comes as `$0`.
const EXEC: &str = "exec \"$0\"";
/// Lines of its output that a failure shows.
const SHOWN: usize = 30;
/// How pytest is called: no colours, no cache, reasons of skips, one line of summary.
const PYTEST: [&str; 10] = [
    "python3",
    "-m",
    "pytest",
    "--quiet",
    "-rsx",
    "--no-header",
    "--color=no",
    "--tb=short",
    "-pno:cacheprovider",
    "--rootdir",
];

/// What a program is told about the app, as environment variables and as `/about/app.json`.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    pub recipe: String,
    pub run_id: String,
    pub tier: Tier,
    pub domain: String,
    pub stack: String,
    /// The address inside of the cage; none while nothing is deployed, or where the app has no route.
    pub url: Option<String>,
    /// The address inside of the cage where questions about the app are answered; none for install steps, which run before
    /// there is one.
    pub calls: Option<String>,
    /// Whether the certificate behind an `https` address has to be good.
    pub tls_verify: bool,
    /// The version that was installed first; none when that was the head.
    pub base: Option<String>,
    /// The commit under test.
    pub head: String,
}

/// Everything that running one takes.
pub struct Stage<'a> {
    /// The run's directory.
    pub dir: &'a Path,
    /// The head's files.
    pub tree: &'a Tree,
    pub about: About,
    pub door: Option<Door>,
    pub hatch: Option<Hatch>,
    pub deadline: Duration,
}

/// What a program said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Passed,
    /// It could not look, with its reason.
    Skipped(String),
    Failed(String),
    /// It is no test that could be run: pytest could not even collect it.
    Broken(String),
}

/// The door to an address of the app, and the address inside of the cage. What goes through it is left as it is.
pub async fn door(url: &str, domain: &str, https: &Https) -> Result<(Door, String)> {
    let parsed: reqwest::Url = url.parse().with_context(|| format!("failed to read the address `{url}`"))?;
    let port = parsed.port_or_known_default().context("the app's address has no port")?;
    let encrypted = parsed.scheme() == "https";
    let to = match https.address.filter(|_| encrypted) {
        Some(address) => address,
        None => look_up(parsed.host_str().unwrap_or_default(), port).await?,
    };
    let inside = if encrypted { 443 } else { 80 };
    let door = Door { domain: domain.to_owned(), port: inside, to, changes: Changes::default() };
    Ok((door, format!("{}://{domain}", parsed.scheme())))
}

async fn look_up(host: &str, port: u16) -> Result<SocketAddr> {
    let failed = || format!("failed to find the app's address `{host}:{port}`");
    tokio::net::lookup_host((host, port)).await.with_context(failed)?.next().with_context(failed)
}

/// Runs a script, or one function of it. An error is trouble of this machine.
pub async fn run(script: &Script, function: Option<&str>, stage: &Stage<'_>) -> Result<Said> {
    let place = format!("{}/{}", script.code.target(), script.file);
    let argv = match (&script.role, function) {
        (Role::Functions(_), Some(function)) => PYTEST
            .iter()
            .map(|word| word.to_string())
            .chain([script.code.target().to_owned(), format!("{place}::{function}")])
            .collect(),
        _ if script.file.ends_with(".py") => vec!["python3".to_owned(), place],
        // By way of a shell: that a program cannot be started is then its own failure, and no trouble of the cage.
        _ if script.executable => vec!["/bin/sh".to_owned(), "-c".to_owned(), EXEC.to_owned(), place],
        _ => vec!["/bin/sh".to_owned(), "-eu".to_owned(), place],
    };
    let ended = in_cage(argv, &script.code, stage, Vec::new()).await?;
    Ok(said(&ended, function.is_some()))
}

/// Whether pytest can be had in a cage: on Debian, `python3-pytest`, as a package of the machine.
pub async fn has_pytest(dir: &Path) -> Result<bool> {
    let argv = ["/bin/sh", "-c", "python3 -c 'import pytest'"].map(str::to_owned).to_vec();
    let cage = Cage { argv, working_dir: "/tmp".into(), deadline: Duration::from_secs(60), ..Cage::default() };
    Ok(cage.run(dir).await?.how == How::Exited(0))
}

/// Runs a command with the code and the recipe laid out, and with what else is given.
pub async fn in_cage(argv: Vec<String>, code: &Code, stage: &Stage<'_>, more: Vec<Given>) -> Result<Ended> {
    let dir = stage.dir.join("cage");
    crate::config::state::create_private(&dir)?;
    let dir = tempfile::tempdir_in(&dir).context("failed to create a directory for a cage")?;
    let mut mounts = lay_out(code, stage.tree, dir.path())?;
    let json = serde_json::to_vec_pretty(&stage.about).context("failed to describe the app")?;
    mounts.push(lay_out_about(&json, dir.path())?);
    mounts.extend(more);
    let cage = Cage {
        argv,
        env: stage.about.env(),
        working_dir: "/tmp".into(),
        mounts,
        door: stage.door.clone(),
        hatch: stage.hatch.clone(),
        deadline: stage.deadline,
        limits: Limits::within(stage.deadline),
        ..Cage::default()
    };
    let ended = cage.run(dir.path()).await?;
    dir.close().context("failed to remove a cage's directory")?;
    Ok(Ended { output: plain(&ended.output), ..ended })
}

impl About {
    /// The documented variables, and what keeps programs quiet about a home that they do not have.
    fn env(&self) -> Vec<(String, String)> {
        let verify = if self.tls_verify { "1" } else { "0" };
        let mut env = vec![
            ("RECIPE", self.recipe.clone()),
            ("RUN_ID", self.run_id.clone()),
            ("TIER", self.tier.name().to_owned()),
            ("APP_DOMAIN", self.domain.clone()),
            ("STACK_NAME", self.stack.clone()),
            ("APP_TLS_VERIFY", verify.to_owned()),
            ("APP_JSON", "/about/app.json".to_owned()),
            ("RECIPE_DIR", "/recipe".to_owned()),
            ("BASE_VERSION", self.base.clone().unwrap_or_default()),
            ("HEAD_COMMIT", self.head.clone()),
            ("HOME", "/tmp".to_owned()),
            ("TMPDIR", "/tmp".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            ("PYTHONPATH", "/about".to_owned()),
        ];
        env.extend(self.url.clone().map(|url| ("APP_URL", url)));
        env.extend(self.calls.clone().map(|url| ("APP_CALLS", url)));
        env.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

fn said(ended: &Ended, pytest: bool) -> Said {
    let lines: Vec<&str> = ended.output.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines.last().copied().unwrap_or_default();
    match &ended.how {
        How::Exited(0) if pytest && !last.contains(" passed") => match skip_of_pytest(&lines) {
            Some(reason) => Said::Skipped(reason),
            None if last.contains(" xpassed") => Said::Passed,
            None => Said::Failed(format!("pytest ran no test that passed{}", shown(&lines))),
        },
        How::Exited(code @ 2..=5) if pytest => {
            let why = error_of_pytest(&lines).unwrap_or_else(|| format!("it exited with code {code}"));
            Said::Broken(format!("pytest cannot collect it: {why}{}", shown(&lines)))
        }
        How::Exited(0) => Said::Passed,
        How::Exited(SKIPPED) if !pytest => {
            Said::Skipped(if last.is_empty() { "it gave no reason".into() } else { last.into() })
        }
        How::Exited(126 | 127) if last.contains("exec: ") => Said::Failed(format!(
            "it cannot be started: what its first line names after `#!` is not there, or that line ends in a carriage \
             return{}",
            shown(&lines)
        )),
        how => Said::Failed(format!("it {how}{}", shown(&lines))),
    }
}

/// The error's own line, which pytest marks: `E   SyntaxError: invalid syntax`. Before it may stand where that was.
fn error_of_pytest(lines: &[&str]) -> Option<String> {
    let marked: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("E ")).map(str::trim).collect();
    let is_error = |line: &&&str| {
        let word = line.split([':', ' ']).next().unwrap_or_default();
        word.ends_with("Error") || word.ends_with("Exception")
    };
    marked.iter().find(is_error).or(marked.first()).map(ToString::to_string)
}

/// `SKIPPED [1] test_x.py:3: the reason`, or `XFAIL test_x.py::test_y - the reason`: what was expected to fail, and did,
/// proves nothing either.
fn skip_of_pytest(lines: &[&str]) -> Option<String> {
    if let Some(expected) = lines.iter().rev().find_map(|line| line.strip_prefix("XFAIL ")) {
        let reason = expected.split_once(" - ").map_or_else(String::new, |(_, reason)| format!(": {reason}"));
        return Some(format!("it is expected to fail, and does{reason}"));
    }
    let line = lines.iter().rev().find_map(|line| line.strip_prefix("SKIPPED ["))?;
    Some(line.split_once(": ").map_or(line, |(_, reason)| reason).to_owned())
}

fn shown(lines: &[&str]) -> String {
    if lines.is_empty() {
        return ", and wrote nothing".into();
    }
    let last = &lines[lines.len().saturating_sub(SHOWN)..];
    format!("; its last lines:\n  {}", last.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: i32, output: &str, pytest: bool, expected: Said) {
        check_how(How::Exited(code), output, pytest, expected);
    }

    fn check_how(how: How, output: &str, pytest: bool, expected: Said) {
        assert_eq!(said(&Ended { how, output: output.into(), left: Vec::new() }, pytest), expected);
    }

    #[test]
    fn the_exit_code_is_the_verdict() {
        check(0, "fine\n", false, Said::Passed);
        check(77, "looking\nno mail server here\n", false, Said::Skipped("no mail server here".into()));
        check(77, "", false, Said::Skipped("it gave no reason".into()));
        check(1, "a\nb\n", false, Said::Failed("it exited with code 1; its last lines:\n  a\n  b".into()));
        check(2, "", false, Said::Failed("it exited with code 2, and wrote nothing".into()));
        let late = "it did not end within 5s, and was killed; its last lines:\n  x";
        check_how(How::Late(Duration::from_secs(5)), "x\n", false, Said::Failed(late.into()));
        let greedy = "it used more than 2048 MiB of memory in all, and was killed, and wrote nothing";
        let beyond = How::Beyond("more than 2048 MiB of memory in all".into());
        check_how(beyond, "", true, Said::Failed(greedy.into()));
    }

    #[test]
    fn a_test_that_pytest_cannot_collect_is_broken_and_its_error_comes_first() {
        let output = "ERROR collecting\nE     File \"/overlay/t.py\", line 1\nE       def x(\nE   SyntaxError: '(' was never closed\n";
        for code in [2, 3, 4, 5] {
            let Said::Broken(what) = said(&ended(code, output), true) else { panic!("{code}") };
            assert!(
                what.starts_with("pytest cannot collect it: SyntaxError: '(' was never closed; its last"),
                "{what}"
            );
        }
        let Said::Broken(what) = said(&ended(5, "no tests ran\n"), true) else { panic!() };
        assert!(what.starts_with("pytest cannot collect it: it exited with code 5; its last"), "{what}");
        // What fails is no such thing, nor what is no test of pytest's.
        let Said::Failed(what) = said(&ended(1, "E   assert 1 == 2\n1 failed\n"), true) else { panic!() };
        assert!(what.starts_with("it exited with code 1; its last"), "{what}");
        let Said::Failed(what) = said(&ended(2, output), false) else { panic!() };
        assert!(what.starts_with("it exited with code 2; its last"), "{what}");
    }

    fn ended(code: i32, output: &str) -> Ended {
        Ended { how: How::Exited(code), output: output.into(), left: Vec::new() }
    }

    #[test]
    fn a_skip_of_pytest_is_no_pass() {
        check(0, ".\n1 passed in 0.01s\n", true, Said::Passed);
        check(0, "s\nSKIPPED [1] t.py:3: no mail\n1 skipped in 0.01s\n", true, Said::Skipped("no mail".into()));
        let nothing = Said::Failed("pytest ran no test that passed; its last lines:\n  no tests ran".into());
        check(0, "no tests ran\n", true, nothing);
        let expected = Said::Skipped("it is expected to fail, and does: not yet".into());
        check(0, "x\nXFAIL t.py::test_a - not yet\n1 xfailed in 0.01s\n", true, expected);
        check(
            0,
            "x\nXFAIL t.py::test_a\n1 xfailed in 0.01s\n",
            true,
            Said::Skipped("it is expected to fail, and does".into()),
        );
        check(0, "X\n1 xpassed in 0.01s\n", true, Said::Passed);
        // For pytest 77 is no code of its own.
        check(77, "", true, Said::Failed("it exited with code 77, and wrote nothing".into()));
    }
}
