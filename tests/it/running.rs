//! A run that is started and watched while it goes on, to be broken off.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use harness::process;
use rustix::process::{Pid, Signal, kill_process};

use crate::runner::World;

/// A run that is under way.
pub struct Running {
    child: Child,
    /// What it has said on standard error so far.
    pub said: std::sync::Arc<std::sync::Mutex<String>>,
}

impl World {
    /// Starts the runner and goes on.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_with(arguments, &[])
    }

    /// The same with more in its environment.
    pub fn start_with(&self, arguments: &[&str], env: &[(&str, &str)]) -> Running {
        let run = env.iter().fold(self.command(arguments), |run, (key, value)| run.env(key, value));
        let mut command = process::command(&run.program);
        command.args(&run.args);
        Running::start(command, &run)
    }

    /// Waits until nothing is left, and shows what is if something stays.
    pub fn expect_nothing_left(&self) {
        wait("nothing to be left", || self.leftovers().is_empty());
    }
}

impl Running {
    /// Starts a command with the environment of a run.
    pub fn start(mut command: std::process::Command, run: &process::Run) -> Running {
        command.env_clear().envs(run.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn({
            let said = said.clone();
            move || lines.map_while(Result::ok).for_each(|line| *said.lock().unwrap() += &format!("{line}\n"))
        });
        Running { child, said }
    }

    pub fn wait_for(&self, text: &str) {
        wait_saying(text, || {
            let said = self.said.lock().unwrap();
            if said.contains(text) { Ok(()) } else { Err(format!("not among what was said:\n{said}")) }
        });
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has been stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        is_stopped(self.child.id() as i32)
    }

    /// Whether the runner has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn end(&mut self) -> i32 {
        let mut status = None;
        wait("the runner to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        process::exit_code(status.unwrap())
    }

    /// The keeper's process, from the journal of the only run.
    pub fn keeper(&self, world: &World) -> Pid {
        let run = std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap();
        keeper(&run.path())
    }
}

/// The keeper's process, from the journal of a run.
pub fn keeper(run: &std::path::Path) -> Pid {
    let journal = std::fs::read_to_string(run.join("events.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    Pid::from_raw(first["pid"].as_i64().unwrap() as i32).unwrap()
}

/// Whether a process has been stopped by a signal.
pub fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('T'))
}

/// Waits until something is so, for as long as a slow machine may need.
pub fn wait(what: &str, mut until: impl FnMut() -> bool) {
    wait_saying(what, || if until() { Ok(()) } else { Err("not yet".into()) });
}

/// The same, with what is seen for as long as it is not so.
fn wait_saying(what: &str, mut until: impl FnMut() -> Result<(), String>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let poll = harness::poll::Poll::within(Duration::from_secs(240));
    let look = || {
        let look = match until() {
            Ok(()) => harness::poll::Look::Ready(()),
            Err(seen) => harness::poll::Look::NotYet(seen),
        };
        async { Ok(look) }
    };
    if let Err(error) = runtime.block_on(poll.until(what, look)) {
        panic!("{error:#}");
    }
}

/// Takes every byte that is left on a disk, with the file `filler`, which grows if it is there.
pub fn fill_disk(dir: &std::path::Path) {
    use std::io::Write as _;
    let filler = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("filler"));
    let mut file = filler.unwrap();
    let mut size = 1 << 20;
    while size > 0 {
        // Smaller and smaller pieces, until not even one byte fits.
        if file.write_all(&vec![0; size]).is_err() {
            size /= 2;
        }
    }
}
