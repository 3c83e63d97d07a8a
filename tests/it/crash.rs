//! SIGKILL after every record of a whole run: of the test process, of the keeper, and of both. And a journal that fails
//! from every record on.
//!
//! Wherever it happens there is one verdict at most, nothing is left once the survivor, or the next sweep, is done, and
//! the secret that the recipe was given stands nowhere. Which of the points are tried, `sample.rs` says.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::process::Run;
use rustix::process::{Pid, Signal, kill_process};

use crate::runner::{Ended, World, finish};
use crate::running::{Running, wait};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    Runner,
    Keeper,
    Both,
    /// The whole machine: of the journal only what was synced is there afterwards.
    Machine,
}

const VICTIMS: [Victim; 3] = [Victim::Runner, Victim::Keeper, Victim::Both];

/// As `install_steps.sh` of the overlay gives it.
const SECRET: &str = "canary-secret-that-must-turn-up-nowhere0";

const HALT: &str = "RECIPE_HARNESS_TEST_HALT";

/// Where a run is broken off: `after:7`.
pub type Point = (String, Victim);

/// Breaks a run off, and checks what becomes of it. False: the run ended before it got to the point.
pub fn crash(world: &World, (halt, victim): &Point) -> bool {
    let run = world.command(&["--recipe", "whole"]).env(HALT, halt);
    let mut command = harness::process::command(&run.program);
    command.args(&run.args);
    let mut running = Running::start(command, &run);
    let Some(keeper) = halted(world, || running.has_ended()) else { return false };
    match victim {
        Victim::Runner => {
            running.signal(Signal::KILL);
            running.end();
            kill_process(keeper, Signal::CONT).unwrap();
        }
        Victim::Keeper => {
            kill_process(keeper, Signal::KILL).unwrap();
            let code = running.end();
            assert!([0, 3, 101].contains(&code), "one verdict, not exit code {code}: {}", running.said.lock().unwrap());
            // The runner cleans up after its keeper before it ends.
            assert_eq!(world.leftovers(), Vec::<String>::new(), "{}", running.said.lock().unwrap());
        }
        Victim::Both | Victim::Machine => {
            running.signal(Signal::KILL);
            kill_process(keeper, Signal::KILL).unwrap();
            running.end();
            if *victim == Victim::Machine {
                end_all(world);
                drop_unsynced(world);
            }
            wait("the processes to end", || world.processes().is_empty());
            // A process that is just ending shows no name any more, and may still hold the lock: then the next sweep
            // finds it free.
            wait("a sweep to clean up after the dead run", || {
                let swept = sweep(world);
                assert!(swept.iter().all(|run| run.leftovers.is_empty()), "{swept:?}");
                world.leftovers().is_empty()
            });
        }
    }
    world.expect_nothing_left();
    assert_eq!(world.files_with(SECRET), Vec::<String>::new());
    assert!(!running.said.lock().unwrap().contains(SECRET));
    true
}

/// A run that is dead, with everything that it had: both of its processes are killed once it is installed.
pub fn dead_run(world: &World, arguments: &[&str]) -> Running {
    let mut running = world.start(arguments);
    running.wait_for("install  done in");
    let keeper = running.keeper(world);
    kill_process(keeper, Signal::STOP).unwrap();
    running.signal(Signal::KILL);
    running.end();
    kill_process(keeper, Signal::KILL).unwrap();
    wait("the processes to end", || world.processes().is_empty());
    running
}

/// A machine without power runs nothing: neither the app's processes nor a command that was under way.
fn end_all(world: &World) {
    for process in world.processes() {
        let pid = process.split(' ').next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        // One that ends meanwhile is what is wanted.
        let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
    }
}

/// Events that are synced before anything goes on.
const SYNCED: [&str; 5] = ["run_started", "creating", "created", "deploying", "teardown_finished"];

fn is_synced(line: &str) -> bool {
    SYNCED.iter().any(|event| line.contains(&format!("\"event\":\"{event}\"")))
}

/// Cuts the journal off behind its last synced record, as a power loss may.
fn drop_unsynced(world: &World) {
    let run = std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap();
    let path = run.path().join("events.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    while lines.last().is_some_and(|line| !is_synced(line)) {
        lines.pop();
    }
    std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

/// The records behind which a power loss costs most: the last ones before each that is synced.
pub fn before_each_sync(journal: &str) -> Vec<Point> {
    let lines: Vec<&str> = journal.lines().collect();
    let costs = |at: &usize| !is_synced(lines[*at]) && lines.get(at + 1).is_none_or(|next| is_synced(next));
    (0..lines.len()).filter(costs).map(|at| (format!("after:{}", at + 1), Victim::Machine)).collect()
}

/// Sweeps the dead runs of a world, on a thread of its own: whoever waits is in a runtime already.
pub fn sweep(world: &World) -> Vec<harness::keeper::sweep::Swept> {
    let sweep = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(harness::keeper::sweep::all(&world.state())).unwrap()
    };
    std::thread::scope(|scope| scope.spawn(sweep).join().unwrap())
}

/// The keeper of this world, if it is stopped.
pub fn stopped_keeper(world: &World) -> Option<Pid> {
    let keeper = world.processes().into_iter().find(|process| process.contains("__keeper"))?;
    let pid: i32 = keeper.split(' ').next()?.parse().ok()?;
    crate::running::is_stopped(pid).then(|| Pid::from_raw(pid))?
}

/// Runs whole, and does something while the keeper stands still behind its record. A run may end before it gets there.
pub fn while_halted(world: &World, run: Run, record: usize, meanwhile: impl FnOnce()) -> Ended {
    let run = run.env(HALT, format!("after:{record}"));
    std::thread::scope(|scope| {
        let run = scope.spawn(|| finish(&run));
        if let Some(keeper) = halted(world, || run.is_finished()) {
            meanwhile();
            kill_process(keeper, Signal::CONT).unwrap();
        }
        run.join().unwrap()
    })
}

/// The keeper, once it has stopped itself at its record; `None` when the run ends before it gets there.
pub fn halted(world: &World, mut has_ended: impl FnMut() -> bool) -> Option<Pid> {
    let mut keeper = None;
    wait("the keeper to stop at its record, or the run to end", || {
        keeper = stopped_keeper(world);
        keeper.is_some() || has_ended()
    });
    keeper
}

/// Every point of a run with this many records, each for every victim.
pub fn points(records: usize) -> Vec<Point> {
    (1..=records).flat_map(|record| VICTIMS.map(|victim| (format!("after:{record}"), victim))).collect()
}

/// Breaks a run off at each of the points, several at a time, each in a world of its own, which is checked afterwards;
/// how many got there.
pub fn crash_at_each(
    points: &[Point],
    at_once: usize,
    world: impl Fn() -> World + Sync,
    check: impl Fn(&World) + Sync,
) -> usize {
    let (next, reached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let break_off = std::panic::AssertUnwindSafe(|| {
                        let world = world();
                        let got_there = crash(&world, point);
                        check(&world);
                        got_there
                    });
                    match std::panic::catch_unwind(break_off) {
                        Ok(got_there) => drop(reached.fetch_add(usize::from(got_there), Ordering::Relaxed)),
                        Err(_) => failed.lock().unwrap().push(format!("{point:?}")),
                    }
                }
            });
        }
    });
    // What went wrong at each was printed when it did.
    assert_eq!(failed.into_inner().unwrap(), Vec::<String>::new(), "broken off at these points");
    reached.into_inner()
}

/// The journal of a whole run.
pub fn journal(world: &World) -> String {
    let ended = world.run(&["--recipe", "whole"]);
    assert_eq!(ended.code, 0, "{ended}");
    world.file_of_run("events.jsonl")
}

/// How many records a whole run writes, and which of them say that something was created.
pub fn records(world: &World) -> (usize, Vec<usize>) {
    let journal = journal(world);
    let created = |line: &str| line.contains("\"event\":\"created\"");
    let numbers = journal.lines().enumerate().filter(|(_, line)| created(line)).map(|(at, _)| at + 1);
    (journal.lines().count(), numbers.collect())
}
