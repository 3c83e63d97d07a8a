//! Starts the recipe runner as a user would, in a world of its own, and reads what it says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::process::Run;

/// A run's world: its own state directory, and its own copy of the configuration.
pub struct World {
    pub dir: tempfile::TempDir,
    root: PathBuf,
    user: Option<u32>,
    runner: PathBuf,
    engine: &'static str,
}

/// How a run ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    /// The recipes, overlays and configuration of this checkout.
    pub fn of_checkout() -> Self {
        World::new(checkout())
    }

    /// The recipes under `tests/data`: most of them broken, each in its own way.
    pub fn of_test_data() -> Self {
        World::new(checkout().join("tests/data"))
    }

    /// Another root, with recipes and a configuration of its own.
    pub fn new(root: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Not the first that is usable here: these runs have to be the same on every machine.
        World { dir, root, user: None, runner: env!("CARGO_BIN_EXE_recipe-runner").into(), engine: "embedded" }
    }

    /// The same on another engine.
    pub fn on(mut self, engine: &'static str) -> Self {
        self.engine = engine;
        self
    }

    /// The same as an ordinary user; `None` when these tests do not run as root, where every run is an ordinary
    /// user's anyway.
    pub fn for_ordinary_user(mut self) -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            return None;
        }
        const NOBODY: u32 = 65534;
        // The checkout may lie where only root can look: the user gets copies of what is read at run time.
        let own = self.dir.path().join("checkout");
        for name in ["harness.toml", "recipes", "overlays"] {
            copy(&self.root.join(name), &own.join(name));
        }
        let runner = self.dir.path().join("recipe-runner");
        std::fs::copy(&self.runner, &runner).unwrap();
        give(self.dir.path(), NOBODY);
        (self.root, self.runner, self.user) = (own, runner, Some(NOBODY));
        Some(self)
    }

    /// The directory below which this world's runs keep everything.
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A command line of the runner, ready to start.
    pub fn command(&self, arguments: &[&str]) -> Run {
        let run = match self.user {
            None => Run::new(&self.runner, arguments),
            Some(user) => {
                let user = user.to_string();
                let runner = self.runner.to_str().unwrap();
                let prefix = ["--reuid", &user, "--regid", &user, "--clear-groups", runner];
                Run::new("setpriv", prefix.iter().chain(arguments))
            }
        };
        let run =
            run.env("HARNESS_ROOT", &self.root).env("HARNESS_STATE", self.state()).env("HARNESS_ENGINE", self.engine);
        // A browser for each of them would take longer than most of these runs.
        let run = run.env("HARNESS_SCREENSHOTS", "0");
        run.cwd(self.dir.path()).deadline(Duration::from_secs(300))
    }

    /// Runs the runner to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        finish(&self.command(arguments))
    }

    /// What is left of the runs in this world: anything but their records.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for run in std::fs::read_dir(self.state().join("runs")).into_iter().flatten().flatten() {
            for entry in std::fs::read_dir(run.path()).unwrap().flatten() {
                let name = entry.file_name().into_string().unwrap();
                let records = ["events.jsonl", "keeper.log", "logs", "pictures", "run.json"];
                if !records.iter().chain(harness::report::files::NAMES).any(|record| *record == name) {
                    left.push(format!("{}/{name}", run.file_name().display()));
                }
            }
        }
        left.extend(self.processes().into_iter().map(|process| format!("process {process}")));
        left.extend(self.control_groups());
        left
    }

    /// Control groups of this world's runs, wherever this machine has them.
    fn control_groups(&self) -> Vec<String> {
        let runs = std::fs::read_dir(self.state().join("runs")).into_iter().flatten().flatten();
        let names: Vec<String> = runs.map(|run| format!("harness-{}-", run.file_name().display())).collect();
        let (mut found, mut open) = (Vec::new(), vec![PathBuf::from("/sys/fs/cgroup")]);
        while let Some(dir) = open.pop() {
            let inside = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            open.extend(inside.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())).map(|it| it.path()));
            let name = dir.file_name().unwrap().to_string_lossy().into_owned();
            found.extend(names.iter().any(|run| name.starts_with(run)).then(|| format!("control group {name}")));
        }
        found
    }

    /// The domain of the only run of this world.
    pub fn domain(&self) -> String {
        let run = std::fs::read_dir(self.state().join("runs")).unwrap().next().unwrap().unwrap();
        let spec = std::fs::read(run.path().join("run.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&spec).unwrap()["domain"].as_str().unwrap().to_owned()
    }

    /// The journal of the only run of this world, as far as it is written.
    pub fn journal(&self) -> String {
        let run = std::fs::read_dir(self.state().join("runs")).into_iter().flatten().flatten().next();
        run.and_then(|run| std::fs::read_to_string(run.path().join("events.jsonl")).ok()).unwrap_or_default()
    }

    /// A file of the only run of this world.
    pub fn file_of_run(&self, name: &str) -> String {
        let run = std::fs::read_dir(self.state().join("runs")).unwrap().next().unwrap().unwrap();
        std::fs::read_to_string(run.path().join(name)).unwrap()
    }

    /// The same of any file.
    pub fn file_of_run_bytes(&self, name: &str) -> Vec<u8> {
        let run = std::fs::read_dir(self.state().join("runs")).unwrap().next().unwrap().unwrap();
        std::fs::read(run.path().join(name)).unwrap()
    }

    /// Files below this world's state directory that hold a text.
    pub fn files_with(&self, text: &str) -> Vec<String> {
        let found = finish(&Run::new("grep", ["-rlF", "--", text, self.state().to_str().unwrap()]));
        assert!(found.code < 2, "{found}");
        found.stdout.lines().map(str::to_owned).collect()
    }

    /// Processes that were started for this world: each names its state directory in its arguments or environment.
    pub fn processes(&self) -> Vec<String> {
        let mark = self.dir.path().to_str().unwrap().to_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned();
            let zombie = String::from_utf8_lossy(&read("stat")).contains(") Z ");
            if pid != std::process::id() && !zombie && text.contains(&mark) {
                found.push(format!("{pid} {}", String::from_utf8_lossy(&read("cmdline")).replace('\0', " ")));
            }
        }
        found
    }
}

/// Says a line on standard error even where libtest holds back what tests print: CI shows what was proven.
pub fn tell(line: &str) {
    use std::io::Write as _;
    // Not with the macro, which libtest captures.
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Runs a command to its end.
pub fn finish(run: &Run) -> Ended {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let output = runtime.block_on(run.output()).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ended {
    /// The outcome libtest printed for a trial: `ok`, `FAILED`, or `ignored (…)`.
    pub fn outcome(&self, trial: &str) -> Option<&str> {
        let line = self.stdout.lines().find(|line| line.starts_with(&format!("test {trial} ")))?;
        Some(line.split_once(" ... ")?.1.trim())
    }

    /// The names of all trials with an outcome.
    pub fn with_outcome(&self, outcome: &str) -> Vec<&str> {
        let lines = self.stdout.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
        lines.filter(|(_, is)| is.trim().starts_with(outcome)).map(|(name, _)| name.trim()).collect()
    }

    /// The exit code that the failed trials ask for: 3 when none of them is about the recipe.
    pub fn code_by_fault(&self) -> i32 {
        let is_trouble = |trial: &&str| {
            *trial == "tier::teardown" || self.message(trial).contains("trouble, not the recipe's fault: ")
        };
        if self.with_outcome("FAILED").iter().all(is_trouble) { 3 } else { 101 }
    }

    /// The line with which a run that cannot begin says so, before anything else.
    pub fn refusal(&self) -> &str {
        let line = self.stderr.lines().next().unwrap_or_default();
        assert!(line.starts_with("error: "), "{self}");
        line
    }

    /// What libtest printed about a failed trial, without what differs from run to run.
    pub fn message(&self, trial: &str) -> String {
        let head = format!("---- {trial} ----\n");
        let start = self.stdout.find(&head).unwrap_or_else(|| panic!("no message of `{trial}` in:\n{self}"));
        let text = &self.stdout[start + head.len()..];
        let end = text.find("\n\n").unwrap_or(text.len());
        steady(&text[..end])
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// Replaces ids, times and lengths of time, which differ from run to run.
pub fn steady(text: &str) -> String {
    let word = |word: &str| {
        let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let unit = core.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let is_time = unit != core && ["ms", "s", "us"].contains(&unit);
        if core.starts_with("http://127.0.0.1:") {
            word.replace(core, "ADDRESS").replace("/:", "").replace(":", "")
        } else if is_time {
            word.replace(core, "TIME")
        } else {
            word.to_owned()
        }
    };
    let lines = text.lines().map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" "));
    // Whether it is `980ms` or `1s 3ms` depends on the machine.
    lines.collect::<Vec<_>>().join("\n").replace("TIME TIME", "TIME")
}

/// A clone as a maintainer has it: a published version, tagged by this command, and changes that are not committed.
pub fn working_copy(dir: &Path, tag: &str) {
    let base = checkout().join("tests/data/recipes/no-backup/1.0.0+1.27.4");
    let script = format!(
        "git init -q '{0}' && cd '{0}' && cp '{1}'/compose.yml '{1}'/.env.sample . && git add -A && \
         git config user.name m && git config user.email m@example.org && git commit -qm 'First release' && \
         {tag} '1.0.0+1.27.4' && sed -i 's/1.27.4/1.27.5/' compose.yml",
        dir.display(),
        base.display()
    );
    let made = finish(&Run::new("sh", ["-ec", &script]));
    assert_eq!(made.code, 0, "{made}");
}

/// The top of this checkout.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Copies a file or a tree, where there is one.
pub fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.exists() {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
}

/// Replaces a text of a file, which has to have it.
pub fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} has no `{from}`", file.display());
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// The trial is red with this text in its message, and everything is torn down.
pub fn is_red(ended: &Ended, trial: &str, message: &str) {
    assert_eq!(ended.code, 101, "{ended}");
    assert_eq!(ended.outcome(trial), Some("FAILED"), "{ended}");
    assert!(ended.message(trial).contains(message), "expected: {message}\n{ended}");
    assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
}

/// Gives a tree to a user.
fn give(path: &Path, user: u32) {
    std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap().flatten() {
            give(&entry.path(), user);
        }
    }
}
