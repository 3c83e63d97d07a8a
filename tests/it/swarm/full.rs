//! A Docker whose disk is really full: one of the tests' own, in namespaces of its own, on a small file system that is
//! filled to the last byte while a run goes on.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use harness::process::command;
use rustix::process::{Pid, Signal, kill_process};

use super::docker::named_at;
use crate::crash::{halted, sweep};
use crate::runner::{Ended, World, finish, tell};
use crate::running::{fill_disk, wait};
use crate::sample::all;

pub const CASES: &[crate::Case] =
    &[("a_disk_that_fills_up_below_docker_is_never_the_recipes_fault", fills_up_below_docker)];

/// Why no Docker can be started here; `None` when one can.
pub fn missing() -> Option<String> {
    let tried =
        command("unshare").args(["--net", "--mount", "sh", "-ec", "ip link set lo up; dockerd --version"]).output();
    match tried {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).trim().replace('\n', " ")),
        Err(error) => Some(format!("`unshare` cannot be run: {error}")),
    }
    .map(|why| format!("no Docker of its own can be started, which takes root, `ip` and `dockerd`: {why}"))
}

/// As the runner says it of what is neither the recipe's fault nor an assertion's.
const BLAMES: &str = "infrastructure trouble, not the recipe's fault: ";

/// Where the disk fills up, by what the journal says then: with the network there and no service, with a base that
/// runs, in the middle of the upgrade, and before a backup and a restore of an app that runs. Only the last may be done
/// well without room: what it empties first is enough for what it puts back.
const POINTS: [&str; 5] = [
    "\"event\":\"creating\",\"kind\":\"service\"",
    "\"event\":\"operation_finished\",\"tier\":\"install\"",
    "\"event\":\"operation_started\",\"tier\":\"upgrade\"",
    "\"event\":\"operation_finished\",\"tier\":\"upgrade\"",
    "\"event\":\"operation_finished\",\"tier\":\"backup\"",
];

fn fills_up_below_docker() {
    let docker = SmallDocker::start();
    let whole = World::of_test_data().on("swarm");
    // With room it is as green as elsewhere.
    let ended = docker.run(&whole, None);
    assert_eq!(ended.code, 0, "{ended}");
    let records = whole.file_of_run("events.jsonl");
    let number = |point: &str| records.lines().position(|line| line.contains(point)).unwrap() + 1;
    let points = if all() { &POINTS[..] } else { &POINTS[..2] };
    for point in points {
        fills_up_at(&docker, point, number(point));
    }
    tell(&format!("swarm: Docker's disk fills up at each of {} records, with zero leftovers", points.len()));
}

fn fills_up_at(docker: &SmallDocker, point: &str, record: usize) {
    let world = World::of_test_data().on("swarm");
    let ended = std::thread::scope(|scope| {
        let run = scope.spawn(|| docker.run(&world, Some(record)));
        let keeper = halted(&world, || run.is_finished());
        fill_disk(&docker.seen_from_here());
        kill_process(keeper.unwrap_or_else(|| panic!("no keeper stopped at {point}")), Signal::CONT).unwrap();
        // Docker removes old containers meanwhile, which would leave room.
        wait("the run to end on a full disk", || {
            fill_disk(&docker.seen_from_here());
            run.is_finished()
        });
        run.join().unwrap()
    });
    let goes_well = point == POINTS[4] && ended.code == 0;
    assert!(ended.code == 3 || goes_well, "{point}: nothing can be written, and nobody noticed: {ended}");
    assert_eq!(ended.stdout.matches("\ntest result: ").count(), 1, "{point}: one verdict: {ended}");
    let failed = ended.with_outcome("FAILED");
    for trial in failed.iter().filter(|trial| **trial != "tier::teardown") {
        let message = ended.message(trial);
        assert!(message.contains(BLAMES), "{point}: `{trial}` blames the recipe: {message}");
    }
    docker.empty();
    wait("a sweep to find everything gone", || {
        let swept = sweep(&world);
        assert!(swept.iter().all(|run| run.leftovers.is_empty()), "{point}: {swept:?}: {ended}");
        world.leftovers().is_empty()
    });
    let stack = world.domain().replace('.', "_");
    assert_eq!(named_at(Some(&docker.host()), &stack), Vec::<String>::new(), "{point}: {ended}");
}

/// A Swarm of one node whose everything lies on a file system of half a gigabyte, until this is dropped.
struct SmallDocker {
    dir: tempfile::TempDir,
    daemon: Child,
}

impl SmallDocker {
    fn start() -> SmallDocker {
        let dir = tempfile::tempdir().unwrap();
        let script = "mkdir data exec; mount -t tmpfs -o size=500m tmpfs data; ip link set lo up; \
                      exec dockerd --data-root \"$PWD/data\" --exec-root \"$PWD/exec\" --pidfile \"$PWD/pid\" \
                      --host \"unix://$PWD/docker.sock\" --bridge none >log 2>&1";
        let mut unshare = command("unshare");
        unshare.args(["--net", "--mount", "--propagation", "private", "sh", "-ec", script]);
        // In a group of its own, so that Ctrl-C leaves its end to whoever drops this.
        let daemon = unshare.current_dir(&dir).stdin(Stdio::null()).process_group(0).spawn().unwrap();
        let mut docker = SmallDocker { dir, daemon };
        wait("the small Docker to answer", || {
            let log = || std::fs::read_to_string(docker.dir.path().join("log")).unwrap_or_default();
            assert!(docker.daemon.try_wait().unwrap().is_none(), "it ended: {}", log());
            docker.ask("docker -H \"$HOST\" version").is_ok()
        });
        docker.ask("docker -H \"$HOST\" swarm init --advertise-addr 127.0.0.1").unwrap();
        docker.ask("docker save nginx:1.27.4 nginx:1.27.5 | docker -H \"$HOST\" load").unwrap();
        docker
    }

    fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.dir.path().display())
    }

    fn ask(&self, line: &str) -> Result<(), String> {
        let mut bash = command("bash");
        let ended = bash.args(["-ec", &format!("set -o pipefail; {line}")]).env("HOST", self.host()).output().unwrap();
        if ended.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ended.stderr).into_owned()) }
    }

    /// A whole run whose processes are where the daemon is: only there do its containers have addresses, and is its disk.
    /// Its keeper stops itself after a record, if one is given.
    fn run(&self, world: &World, stops_after: Option<usize>) -> Ended {
        let mut run = world.command(&["--recipe", "whole"]).env("DOCKER_HOST", self.host());
        if let Some(record) = stops_after {
            run = run.env("RECIPE_HARNESS_TEST_HALT", format!("after:{record}"));
        }
        let pid = self.daemon.id().to_string();
        let inside = ["--target", &pid, "--net", "--mount", "--"].map(Into::into);
        let program = std::mem::replace(&mut run.program, "nsenter".into());
        run.args = inside.into_iter().chain([program]).chain(std::mem::take(&mut run.args)).collect();
        finish(&run)
    }

    /// The small file system, past the namespace that it is mounted in.
    fn seen_from_here(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.daemon.id()));
        root.join(self.dir.path().strip_prefix("/").unwrap()).join("data")
    }

    fn empty(&self) {
        std::fs::remove_file(self.seen_from_here().join("filler")).unwrap();
    }
}

impl Drop for SmallDocker {
    fn drop(&mut self) {
        // Asked to, it ends its containers and its containerd; killed, it would leave them.
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        let _ = self.daemon.wait();
    }
}
