//! Stands in for abra in the tests: its command line, layouts and output shapes, and the habits of its that mislead.
//!
//! It really deploys to the Swarm of this machine. It proves that the harness copes with what is known of abra, and
//! nothing about abra itself: its version says what it is.
//!
//! The harness starts it with an environment of its own, so what it should do is read from `fake.json` beside the
//! program, and what it was asked is written to `calls.log` there.

mod app;
mod backup;
mod docker;
mod lint;

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use harness::recipe::env::stack_name;
use serde::Deserialize;

/// What the fake should do beside what it always does.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fake {
    /// Habits, by name: see `docs/abra.md`.
    quirks: BTreeSet<String>,
}

/// One call.
struct Call {
    fake: Fake,
    /// The directory of the program.
    beside: PathBuf,
    /// `$ABRA_DIR`
    home: PathBuf,
    words: Vec<String>,
    flags: BTreeSet<String>,
    options: Vec<(String, String)>,
}

fn main() -> ExitCode {
    let call = call();
    let quietly = call.as_ref().is_ok_and(|call| call.quirk("exits-0-after-fata"));
    match call.and_then(|call| run(&call)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not to standard error: that is where abra puts it.
            say(&format!("FATA {error:#}"));
            if quietly { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// abra talks to people on standard output.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn call() -> Result<Call> {
    let beside = std::env::current_exe()?.parent().context("no directory")?.to_owned();
    let fake = match std::fs::read(beside.join("fake.json")) {
        Ok(json) => serde_json::from_slice(&json).context("fake.json")?,
        Err(_) => Fake::default(),
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(beside.join("calls.log"))?;
    writeln!(log, "{}", arguments.join(" "))?;
    let (mut words, mut flags, mut options) = (Vec::new(), BTreeSet::new(), Vec::new());
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        match (argument.split_once('='), argument.as_str()) {
            (_, "-s") => options.push(("snapshot".to_owned(), rest.next().context("flag needs an argument: -s")?)),
            (Some((key, value)), _) if key.starts_with("--") => options.push((key[2..].to_owned(), value.to_owned())),
            (_, flag) if flag.starts_with('-') => _ = flags.insert(flag.to_owned()),
            _ => words.push(argument),
        }
    }
    let home = std::env::var_os("ABRA_DIR").map(PathBuf::from).context("ABRA_DIR is not set")?;
    Ok(Call { fake, beside, home, words, flags, options })
}

fn run(call: &Call) -> Result<()> {
    if call.has("--version") {
        say("abra version 0.13.0-stand-in");
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        bail!("inappropriate ioctl for device");
    }
    if !call.has("-n") {
        bail!("this would ask a question, and nobody is there to answer");
    }
    let words: Vec<&str> = call.words.iter().map(String::as_str).collect();
    if words.iter().any(|word| call.quirk(&format!("hangs-at-{word}"))) {
        say("INFO waiting for godot");
        loop {
            std::thread::park();
        }
    }
    match words.as_slice() {
        ["app", "new", recipe] => app::new(call, recipe),
        ["app", "secret", "generate", domain] => app::generate(call, domain),
        ["app", "secret", "insert", domain, name, version, file] => app::insert(domain, name, version, Path::new(file)),
        ["app", "deploy", domain] => app::deploy(call, domain, None),
        ["app", "deploy", domain, version] => app::deploy(call, domain, Some(version)),
        ["app", "undeploy", domain] => app::undeploy(call, domain),
        ["app", "backup", "create", domain] => backup::create(call, domain),
        ["app", "backup", "download", domain] => backup::download(call, domain),
        ["recipe", "lint", recipe] => lint::lint(call, recipe),
        ["app", "restore", domain] => backup::restore(call, domain),
        _ => bail!("unknown command \"{}\" for \"abra\"", words.join(" ")),
    }
}

impl Call {
    fn has(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    fn option(&self, key: &str) -> Result<&str> {
        let found = self.options.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str()).with_context(|| format!("required flag \"{key}\" not set"))
    }

    /// The stack's name, which abra cuts off when it is too long.
    fn stack(&self, domain: &str) -> String {
        let longest = if self.quirk("truncates") { 15 } else { 45 };
        stack_name(domain).chars().take(longest).collect()
    }

    fn quirk(&self, name: &str) -> bool {
        self.fake.quirks.contains(name)
    }
}
