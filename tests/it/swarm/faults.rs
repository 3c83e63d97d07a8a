//! A Docker that breaks, in every way that the proxy knows: whose fault the verdict says it is, and that nothing stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Signal, kill_process};

use super::docker::named;
use super::proxy::{Fault, Proxy, Rule};
use crate::runner::{Ended, World, finish, tell};
use crate::running::{Running, wait};
use crate::sample::all;

pub const CASES: &[crate::Case] = &[
    ("every_fault_of_the_daemon_ends_in_the_right_verdict", every_fault_ends_in_the_right_verdict),
    ("a_run_killed_between_a_request_and_its_answer_leaves_nothing", killed_between_request_and_answer),
    ("a_daemon_that_goes_away_for_good_fails_the_run_and_is_cleaned_later", gone_for_good),
    ("a_daemon_that_hangs_ends_the_run_in_bounded_time", hangs),
    ("a_daemon_that_is_restarted_is_waited_for", restarted),
    ("a_daemon_without_a_version_is_refused_before_anything", without_a_version),
];

const ALWAYS: usize = usize::MAX;

/// What a run with a broken daemon must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The fault passes, or does not matter.
    Green,
    /// The infrastructure is blamed, by this trial first; teardown finds everything.
    Infrastructure(&'static str),
    /// The same, and teardown cannot do its work: the next sweep does, once the daemon works again.
    NotTornDown(&'static str),
}

use Expected::{Green, Infrastructure, NotTornDown};

/// A row of the matrix: what is broken, from when on, and what must come of it.
struct Row {
    what: &'static str,
    /// The record in the journal that it begins with; from the beginning when empty.
    from: &'static str,
    rule: Rule,
    expected: Expected,
    /// What the failure has to name, beside who is to blame.
    says: &'static str,
}

const fn row(what: &'static str, from: &'static str, rule: Rule, expected: Expected) -> Row {
    Row { what, from, rule, expected, says: "" }
}

impl Row {
    const fn saying(self, says: &'static str) -> Row {
        Row { says, ..self }
    }
}

const fn rule(method: &'static str, path: &'static str, fault: Fault, times: usize) -> Rule {
    Rule { method, path, fault, times }
}

const STARTED: &str = "\"event\":\"operation_started\",\"tier\":\"install\"";
const INSTALLED: &str = "\"event\":\"operation_finished\",\"tier\":\"install\"";
const TAKEN: &str = "rpc error: code = AlreadyExists desc = name conflicts with an existing object";
const UNAVAILABLE: &str = "rpc error: code = Unavailable desc = planted";

const ROWS: [Row; 18] = [
    row("events: none arrives", "", rule("GET", "/events", Fault::Silent, ALWAYS), Green),
    row("events: refused with 500", "", rule("GET", "/events", Fault::Answers(500, "planted"), ALWAYS), Green),
    row("services: 500, five times", STARTED, rule("GET", "/services", Fault::Answers(500, "planted"), 5), Green),
    row("services: 503, five times", INSTALLED, rule("GET", "/services", Fault::Answers(503, "planted"), 5), Green),
    row("tasks: answer cut off, five times", "", rule("GET", "/tasks", Fault::CutsTheBody, 5), Green),
    row(
        "volumes: 409 on removal, three times",
        "",
        rule("DELETE", "/volumes", Fault::Answers(409, "planted"), 3),
        Green,
    ),
    row(
        "networks: 500 on removal, three times",
        "",
        rule("DELETE", "/networks", Fault::Answers(500, "planted"), 3),
        Green,
    ),
    row(
        "services: removed by somebody else",
        "",
        rule("DELETE", "/services", Fault::AnswersInstead(404, "gone"), ALWAYS),
        Green,
    ),
    row(
        "secrets: 503 on creation",
        "",
        rule("POST", "/secrets/create", Fault::Answers(503, "planted"), ALWAYS),
        Infrastructure("tier::install"),
    ),
    row(
        "networks: 500 on creation",
        "",
        rule("POST", "/networks/create", Fault::Answers(500, "planted"), ALWAYS),
        Infrastructure("tier::install"),
    ),
    row(
        "services: 503 on creation by the CLI",
        "",
        rule("POST", "/services/create", Fault::Answers(503, UNAVAILABLE), ALWAYS),
        Infrastructure("tier::install"),
    ),
    row(
        "secrets: 409 on creation",
        "",
        rule("POST", "/secrets/create", Fault::Answers(409, TAKEN), ALWAYS),
        Infrastructure("tier::install"),
    )
    .saying("_token_v1` exists already, although its name is this run's own"),
    row(
        "networks: 409 on creation",
        "",
        rule("POST", "/networks/create", Fault::Answers(409, TAKEN), ALWAYS),
        Infrastructure("tier::install"),
    )
    .saying("_run_proxy` exists already, although its name is this run's own"),
    row(
        "services: 409 on creation by the CLI",
        "",
        rule("POST", "/services/create", Fault::Answers(409, TAKEN), ALWAYS),
        Infrastructure("tier::install"),
    )
    .saying("exists already, although its name is this run's own"),
    row(
        "secrets: answer cut off on creation",
        "",
        rule("POST", "/secrets/create", Fault::CutsTheBody, ALWAYS),
        Infrastructure("tier::install"),
    ),
    row(
        "services: 500 for good",
        INSTALLED,
        rule("GET", "/services", Fault::Answers(500, "planted"), ALWAYS),
        NotTornDown("generic::install::services_are_stable"),
    ),
    row(
        "services: silent for good",
        INSTALLED,
        rule("GET", "/services", Fault::Silent, ALWAYS),
        NotTornDown("generic::install::services_are_stable"),
    ),
    row(
        "volumes: 500 on removal for good",
        "",
        rule("DELETE", "/volumes", Fault::Answers(500, "planted"), ALWAYS),
        NotTornDown("tier::teardown"),
    ),
];

fn every_fault_ends_in_the_right_verdict() {
    // A daemon that stays broken is waited for, and so are these rows: they are left out where not everything is tried.
    let quick = |row: &&Row| all() || !matches!(row.expected, NotTornDown(_));
    let rows: Vec<&Row> = ROWS.iter().filter(quick).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    row.prove();
                    tell(&format!("as expected  {:<40} {:?}", row.what, row.expected));
                }
            });
        }
    });
    tell(&format!("swarm: faults {}/{} with the expected verdict", rows.len(), rows.len()));
}

impl Row {
    fn prove(&self) {
        let world = World::of_test_data().on("swarm");
        let proxy = Arc::new(Proxy::start(if self.from.is_empty() { vec![self.rule.clone()] } else { Vec::new() }));
        let run = world.command(&["--recipe", "whole"]).env("DOCKER_HOST", proxy.host());
        let run = run.deadline(std::time::Duration::from_secs(400));
        let ended = std::thread::scope(|scope| {
            if !self.from.is_empty() {
                scope.spawn(|| {
                    wait("the run to get to where the fault begins", || world.journal().contains(self.from));
                    proxy.set(vec![self.rule.clone()]);
                });
            }
            finish(&run)
        });
        let what = self.what;
        assert!(!proxy.met().is_empty(), "{what}: nothing met the fault: {ended}");
        assert!(
            self.says.is_empty() || ended.stdout.contains(self.says),
            "{what}: `{}` is not said: {ended}",
            self.says
        );
        match self.expected {
            Green => assert_eq!(ended.code, 0, "{what}: {ended}"),
            Infrastructure(trial) => blamed(what, &ended, trial),
            NotTornDown(trial) => {
                blamed(what, &ended, trial);
                assert_eq!(ended.outcome("tier::teardown"), Some("FAILED"), "{what}: {ended}");
                proxy.set(Vec::new());
                sweep(&world);
            }
        }
        assert_eq!(world.leftovers(), Vec::<String>::new(), "{what}: {ended}");
        assert_eq!(named(&world.domain().replace('.', "_")), Vec::<String>::new(), "{what}: {ended}");
    }
}

/// The trial failed, and no failure but teardown's is any other's than the infrastructure's.
fn blamed(what: &str, ended: &Ended, trial: &str) {
    assert_eq!(ended.code, 3, "{what}: {ended}");
    let failed = ended.with_outcome("FAILED");
    assert!(failed.contains(&trial), "{what}: {ended}");
    for trial in failed.into_iter().filter(|trial| *trial != "tier::teardown") {
        let message = ended.message(trial);
        let blames = message.contains("infrastructure trouble, not the recipe's fault: ");
        assert!(blames, "{what}: `{trial}` must blame the infrastructure: {ended}");
    }
}

fn sweep(world: &World) {
    // The lock of a keeper that was killed a moment ago may still be held.
    wait("a sweep to find the dead run", || {
        let swept = crate::crash::sweep(world);
        assert!(swept.iter().all(|run| run.leftovers.is_empty()), "{swept:?}");
        !swept.is_empty()
    });
}

/// What was created, and nobody was told, is found by its name or its label.
fn killed_between_request_and_answer() {
    for path in ["/networks/create", "/secrets/create", "/services/create", "/configs/create"] {
        let world = World::of_checkout().on("swarm");
        // custom-html has a config and no secret.
        let (world, recipe) = match path {
            "/secrets/create" => (World::of_test_data().on("swarm"), "whole"),
            _ => (world, "custom-html"),
        };
        let proxy = Proxy::start(vec![rule("POST", path, Fault::HoldsTheAnswer, ALWAYS)]);
        let run = world.command(&["--recipe", recipe]).env("DOCKER_HOST", proxy.host());
        let mut command = harness::process::command(&run.program);
        command.args(&run.args);
        let mut running = Running::start(command, &run);
        wait("the answer to be held back", || proxy.met().iter().any(|it| it.starts_with("held ")));
        let keeper = running.keeper(&world);
        kill_process(keeper, Signal::STOP).unwrap();
        running.signal(Signal::KILL);
        running.end();
        kill_process(keeper, Signal::KILL).unwrap();
        let stack = world.domain().replace('.', "_");
        assert!(!named(&stack).is_empty(), "{path}: it was created");
        proxy.set(Vec::new());
        // A command of the dead run that goes on would create what is swept: the sweep ends it first.
        sweep(&world);
        assert_eq!(world.processes(), Vec::<String>::new(), "{path}");
        assert_eq!(named(&stack), Vec::<String>::new(), "{path}");
        assert_eq!(world.leftovers(), Vec::<String>::new(), "{path}");
    }
}

fn gone_for_good() {
    let world = World::of_test_data().on("swarm");
    let proxy = Proxy::start(Vec::new());
    let run = world.command(&["--recipe", "whole"]).env("DOCKER_HOST", proxy.host());
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait("the install", || world.journal().contains(INSTALLED));
            proxy.leave();
        });
        finish(&run.deadline(std::time::Duration::from_secs(400)))
    });
    blamed("gone for good", &ended, "tier::teardown");
    assert!(ended.with_outcome("FAILED").len() > 1, "{ended}");
    let stack = world.domain().replace('.', "_");
    assert!(!named(&stack).is_empty(), "nobody could have removed it: {ended}");
    proxy.come_back();
    sweep(&world);
    assert_eq!(named(&stack), Vec::<String>::new());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// A daemon that takes every request and answers none, from two moments on: in the middle of the deployment, where the
/// docker command waits for it, and between two operations. Without a deadline of ours each request would take its own.
fn hangs() {
    std::thread::scope(|scope| {
        for from in ["\"event\":\"creating\",\"kind\":\"service\"", INSTALLED] {
            if from == INSTALLED || all() {
                scope.spawn(move || hangs_from(from));
            }
        }
    });
}

fn hangs_from(from: &str) {
    let world = World::of_test_data().on("swarm");
    let proxy = Proxy::start(Vec::new());
    let run = world.command(&["--recipe", "whole"]).env("DOCKER_HOST", proxy.host());
    let (ended, took) = std::thread::scope(|scope| {
        let hung = scope.spawn(|| {
            wait("the run to get to where the daemon hangs", || world.journal().contains(from));
            proxy.hang();
            std::time::Instant::now()
        });
        let ended = finish(&run.deadline(std::time::Duration::from_secs(400)));
        (ended, hung.join().unwrap().elapsed())
    });
    blamed("hangs", &ended, "tier::teardown");
    assert!(ended.with_outcome("FAILED").len() > 1, "{ended}");
    assert!(took.as_secs() < 150, "it took {took:?}: {ended}");
    tell(&format!("swarm: a daemon that hangs from `{from}` on ends the run after {} s", took.as_secs()));
    proxy.come_back();
    sweep(&world);
    assert_eq!(named(&world.domain().replace('.', "_")), Vec::<String>::new());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// Whatever the restart meets, the recipe is not blamed, and nothing stays.
fn restarted() {
    let world = World::of_test_data().on("swarm");
    let proxy = Proxy::start(Vec::new());
    let run = world.command(&["--recipe", "whole"]).env("DOCKER_HOST", proxy.host());
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait("the install to be under way", || {
                world.journal().contains("\"event\":\"created\",\"kind\":\"service\"")
            });
            proxy.leave();
            let left = std::time::Instant::now();
            wait("the daemon's restart to take its time", || left.elapsed().as_secs() >= 3);
            proxy.come_back();
        });
        finish(&run.deadline(std::time::Duration::from_secs(400)))
    });
    if ended.code != 0 {
        blamed("restarted", &ended, "tier::install");
    }
    assert_eq!(named(&world.domain().replace('.', "_")), Vec::<String>::new());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn without_a_version() {
    let world = World::of_test_data().on("swarm");
    let proxy = Proxy::start(vec![rule("GET", "/version", Fault::Answers(500, "planted"), ALWAYS)]);
    let ended = finish(&world.command(&["--recipe", "whole"]).env("DOCKER_HOST", proxy.host()));
    assert_eq!(ended.code, 3, "{ended}");
    let start = "error: failed to use the engine `swarm`: failed to connect to Docker at `unix://";
    assert!(ended.stderr.starts_with(start) && ended.stderr.contains("planted"), "{ended}");
}
