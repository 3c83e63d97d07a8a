//! Git as plumbing: no configuration of the user or the machine, no hooks, no filters, no prompts.
//!
//! Local commands go through xshell. Commands that talk to a remote go through [`process::Run`], which gives them a
//! deadline. Every error carries what git said.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use xshell::Shell;

use crate::process;

/// Git on one repository.
#[derive(Clone, Debug)]
pub struct Git {
    place: Place,
    env: Vec<(&'static str, OsString)>,
    config: Vec<OsString>,
}

#[derive(Clone, Debug)]
enum Place {
    /// `--git-dir`: nothing is discovered from the current directory.
    GitDir(PathBuf),
    /// `-C`: git finds the repository that this directory belongs to.
    Inside(PathBuf),
}

/// What a git command answered, whatever its exit code.
#[derive(Clone, Debug)]
pub struct Answer {
    pub ok: bool,
    pub stdout: Vec<u8>,
    /// The last lines of standard error, on one line.
    pub said: String,
}

impl Git {
    /// Git on the repository whose git directory (bare or not) is `dir`.
    pub fn on(dir: impl Into<PathBuf>) -> Self {
        Git { place: Place::GitDir(dir.into()), env: Vec::new(), config: Vec::new() }
    }

    /// Git on the repository that `dir` lies in.
    pub fn inside(dir: impl Into<PathBuf>) -> Self {
        Git { place: Place::Inside(dir.into()), env: Vec::new(), config: Vec::new() }
    }

    /// Sets a variable for every command.
    pub fn env(mut self, key: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((key, value.into()));
        self
    }

    /// Adds a `-c key=value` to every command.
    pub fn config(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        let mut setting = OsString::from(format!("{key}="));
        setting.push(value);
        self.config.push(setting);
        self
    }

    /// Runs a local command and returns its output without the final line break; fails unless it exits with 0.
    pub fn read<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        let output = self.feed(args, b"")?;
        Ok(String::from_utf8_lossy(&output).trim_end_matches('\n').to_owned())
    }

    /// Runs a local command with `stdin`; fails unless it exits with 0.
    pub fn feed<S: AsRef<OsStr>>(&self, args: &[S], stdin: &[u8]) -> Result<Vec<u8>> {
        let answer = self.ask(args, stdin)?;
        if !answer.ok {
            bail!("failed to run `{}` in `{}`: {}", title(args), self.dir().display(), answer.said);
        }
        Ok(answer.stdout)
    }

    /// Runs a local command and returns its answer, whatever its exit code.
    pub fn ask<S: AsRef<OsStr>>(&self, args: &[S], stdin: &[u8]) -> Result<Answer> {
        let shell = Shell::new().context("failed to read the current directory")?;
        let command = shell.cmd("git").env_clear().envs(environment(false)).envs(self.env.iter().cloned());
        let command = command.args(self.prefix()).args(args).quiet().ignore_status();
        let command = if stdin.is_empty() { command } else { command.stdin(stdin) };
        let output = command.output().with_context(|| format!("failed to run `{}`", title(args)))?;
        Ok(Answer { ok: output.status.success(), stdout: output.stdout, said: said(&output.stderr) })
    }

    /// Runs a command that may talk to a remote, within a deadline.
    pub fn remote<S: AsRef<OsStr>>(&self, args: &[S], deadline: Duration) -> Result<Answer> {
        let args: Vec<OsString> =
            self.prefix().into_iter().chain(args.iter().map(|arg| arg.as_ref().to_owned())).collect();
        let mut run = process::Run::new("git", args).deadline(deadline);
        run.env = environment(true);
        run.largest_file = Some(LARGEST_PACK);
        run.env.extend(self.env.iter().map(|(key, value)| (OsString::from(key), value.clone())));
        let output = block_on(async move { run.output().await })?;
        Ok(Answer { ok: output.code == 0, stdout: output.stdout, said: said(&output.stderr) })
    }

    /// A `std` command, for output too large to be held as a whole.
    pub fn command(&self) -> std::process::Command {
        let mut command = process::command("git");
        command.env_clear().envs(environment(false)).envs(self.env.iter().cloned()).args(self.prefix());
        command
    }

    /// Refuses a partial clone: what it lacks would be fetched while it is only looked at, with programs that its own
    /// configuration names; and what is lacking cannot be read without.
    pub fn refuse_partial(&self) -> Result<()> {
        let answer = self.ask(&["config", "--includes", "--name-only", "--get-regexp", PARTIAL], b"")?;
        match String::from_utf8_lossy(&answer.stdout).lines().next() {
            Some(setting) => bail!(
                "`{}` is a partial clone (`{}` in its configuration): it lacks objects, and nothing is fetched while it is \
                 read; clone it anew without `--filter`",
                self.dir().display(),
                setting.escape_debug()
            ),
            None => Ok(()),
        }
    }

    fn dir(&self) -> &Path {
        match &self.place {
            Place::GitDir(dir) | Place::Inside(dir) => dir,
        }
    }

    /// Options that stand before the subcommand.
    fn prefix(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = match &self.place {
            Place::GitDir(dir) => {
                let mut option = OsString::from("--git-dir=");
                option.push(dir);
                vec![option]
            }
            Place::Inside(dir) => vec!["-C".into(), dir.clone().into()],
        };
        for setting in SETTINGS.iter().map(OsString::from).chain(self.config.iter().cloned()) {
            args.extend(["-c".into(), setting]);
        }
        args
    }
}

/// A recipe's whole history takes a few MiB. More is a mistake or an attack, and ends the fetch.
const LARGEST_PACK: u64 = 512 << 20;

/// The settings by which a repository says that git is to fetch what it lacks.
const PARTIAL: &str = r"^(extensions\.partialclone|remote\..*\.(promisor|partialclonefilter))$";

/// Settings of every command; they win over a repository's own configuration.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.quotePath=false",
    // Objects are shared with checkouts, so nothing may ever be collected behind their back.
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.ext.allow=never",
    // Repositories are only read as data here, whoever owns them.
    "safe.directory=*",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "advice.detachedHead=false",
    // What comes from elsewhere is looked at as it comes in: a tree with `..` or `.git` in it never gets here. Old commits
    // with clumsy dates and modes are harmless, and every old forge has some.
    "fetch.fsckObjects=true",
    "fetch.fsck.zeroPaddedFilemode=ignore",
    "fetch.fsck.badTimezone=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    "fetch.fsck.missingEmail=ignore",
    "fetch.fsck.missingNameBeforeEmail=ignore",
    "fetch.fsck.missingSpaceBeforeEmail=ignore",
    "fetch.fsck.missingTaggerEntry=ignore",
];

/// The whole environment of a git command.
fn environment(network: bool) -> Vec<(OsString, OsString)> {
    let inherited: &[&str] = if network {
        &[
            "PATH",
            "HOME",
            "TMPDIR",
            "SSH_AUTH_SOCK",
            "http_proxy",
            "https_proxy",
            "HTTPS_PROXY",
            "all_proxy",
            "ALL_PROXY",
            "no_proxy",
            "NO_PROXY",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "GIT_SSL_CAINFO",
        ]
    } else {
        &["PATH", "TMPDIR"]
    };
    let fixed = [
        ("LC_ALL", "C"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "false"),
        ("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        // A local command fetches nothing. A repository that lacks objects would have git fetch them by the way, with
        // the programs that the repository's own configuration names; a git before 2.45 does not know the second.
        ("GIT_ALLOW_PROTOCOL", if network { "file:https:ssh" } else { "" }),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
    ];
    let inherited = inherited.iter().filter_map(|key| Some((OsString::from(key), std::env::var_os(key)?)));
    inherited.chain(fixed.into_iter().map(|(key, value)| (key.into(), value.into()))).collect()
}

/// Runs a future to its end from synchronous code, also when the caller is itself inside a runtime.
pub(crate) fn block_on<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.context("failed to start a runtime")?.block_on(future)
        });
        thread.join().map_err(|_| anyhow!("the thread of a git command panicked"))?
    })
}

/// `git fetch`, for messages: never the arguments, which may carry credentials.
fn title<S: AsRef<OsStr>>(args: &[S]) -> String {
    let subcommand = args.iter().map(|arg| arg.as_ref().to_string_lossy()).find(|arg| !arg.starts_with('-'));
    format!("git {}", subcommand.unwrap_or_default())
}

/// The last lines of git's standard error, joined; advice and progress are left out.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> =
        text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with("hint:")).collect();
    let last = &lines[lines.len().saturating_sub(5)..];
    if last.is_empty() { "it said nothing".into() } else { last.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_says_what_where_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let error = Git::on(dir.path().join("none")).read(&["rev-parse", "HEAD"]).unwrap_err().to_string();
        assert!(error.starts_with("failed to run `git rev-parse` in `"), "{error}");
        assert!(error.contains("not a git repository"), "{error}");
    }

    #[test]
    fn no_configuration_but_ours_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::inside(dir.path());
        git.read(&["init", "--quiet", "--template="]).unwrap();
        let listed = git.read(&["config", "--list", "--show-scope"]).unwrap();
        assert!(listed.lines().all(|line| line.starts_with("local") || line.starts_with("command")), "{listed}");
    }

    #[test]
    fn hooks_and_fsmonitor_of_a_repository_do_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::inside(dir.path());
        git.read(&["init", "--quiet", "--template="]).unwrap();
        let canary = dir.path().join("ran");
        let script = format!("touch {}", canary.display());
        git.read(&["config", "core.fsmonitor", &script]).unwrap();
        git.read(&["config", "core.sshCommand", &script]).unwrap();
        git.read(&["status", "--porcelain"]).unwrap();
        assert!(!canary.exists());
    }

    #[test]
    fn a_remote_helper_protocol_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::inside(dir.path());
        git.read(&["init", "--quiet", "--template="]).unwrap();
        let canary = dir.path().join("ran");
        let url = format!("ext::touch {}", canary.display());
        let answer = git.remote(&["fetch", &url], Duration::from_secs(20)).unwrap();
        assert!(!answer.ok);
        assert!(answer.said.contains("not allowed"), "{}", answer.said);
        assert!(!canary.exists());
    }

    #[test]
    fn a_remote_that_never_answers_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/r", listener.local_addr().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let error = Git::inside(dir.path()).remote(&["ls-remote", "--", &url], Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.to_string(), "`git` did not end within 300ms");
    }

    #[test]
    fn a_remote_command_works_inside_a_runtime_too() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let answer = runtime.block_on(async { Git::inside(dir.path()).remote(&["version"], Duration::from_secs(20)) });
        assert!(String::from_utf8(answer.unwrap().stdout).unwrap().starts_with("git version"));
    }
}
