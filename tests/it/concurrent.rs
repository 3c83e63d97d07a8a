//! Runs at the same time: none sees another's checkout, domain, network, journal or results, whatever sweeps beside them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::process::Run;

use crate::runner::{Ended, World, checkout, copy, finish, tell};
use crate::running::wait;

#[test]
fn ten_runs_of_one_recipe_at_ten_commits_do_not_meet() {
    let root = tempfile::tempdir().unwrap();
    let versions = ten_versions(root.path());
    let world = World::new(root.path().to_owned());
    let runs = versions.iter().map(|version| vec!["--recipe", "no-backup", "--ref", version.as_str()]).collect();
    let ended = at_once(&world, runs, "ten commits of one recipe");
    let commits: BTreeSet<String> = results(&world).iter().map(|run| text(run, "commit")).collect();
    assert_eq!(commits.len(), 10, "{commits:?}");
    for (version, ended) in versions.iter().zip(&ended) {
        let header = ended.stderr.lines().find(|line| line.starts_with("versions ")).unwrap();
        assert!(header.contains(&format!("{version} (")), "the head must be {version}: {header}");
    }
    // What was published is what ran: each version names itself in a file that its container wrote.
    for run in results(&world) {
        let dir = world.state().join("runs").join(text(&run, "run_id"));
        let said = std::fs::read_to_string(dir.join("logs/app.log")).unwrap();
        let number = text(&run, "head").split('+').next().unwrap().to_owned();
        let own = format!("this is {number}");
        let strangers: Vec<&str> = said.lines().filter(|line| line.contains("this is ")).collect();
        let base = run["base"].as_str().map(|base| format!("this is {}", base.split('+').next().unwrap()));
        let known = |line: &&str| line.ends_with(&own) || base.as_ref().is_some_and(|base| line.ends_with(base));
        assert!(!strangers.is_empty() && strangers.iter().all(known), "{own}, {base:?}: {strangers:?}");
    }
}

#[test]
fn ten_runs_of_five_recipes_and_two_of_each_commit_do_not_meet() {
    let world = World::of_test_data();
    let recipes = ["whole", "no-backup", "first-release", "runs-once", "brings-tests"];
    let runs = (0..10).map(|number| vec!["--recipe", recipes[number % 5]]).collect();
    let ended = at_once(&world, runs, "five recipes, each twice");
    for (number, ended) in ended.iter().enumerate() {
        assert!(ended.stderr.contains(&format!("recipe   {} from", recipes[number % 5])), "{ended}");
    }
    let commits: BTreeSet<String> = results(&world).iter().map(|run| text(run, "commit")).collect();
    assert_eq!(commits.len(), 5, "two runs have each of the commits: {commits:?}");
}

/// Starts these runs at once, with sweeps beside them all the time, and checks that each saw nothing but itself.
fn at_once(world: &World, runs: Vec<Vec<&str>>, what: &str) -> Vec<Ended> {
    let over = AtomicBool::new(false);
    let (ended, sweeps, peak) = std::thread::scope(|scope| {
        let runs: Vec<_> = runs.into_iter().map(|run| scope.spawn(move || world.run(&run))).collect();
        let sweeping = scope.spawn(|| sweep_until(world, &over));
        let watching = scope.spawn(|| Peak::until(world, &over));
        let ended: Vec<Ended> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        (ended, sweeping.join().unwrap(), watching.join().unwrap())
    });
    for ended in &ended {
        assert_eq!(ended.code, 0, "{ended}");
        assert!(ended.stderr.contains("; deployed once"), "{ended}");
    }
    assert!(sweeps > 0, "nothing was swept beside them");
    no_cross_talk(world, ended.len());
    assert_eq!(world.leftovers(), Vec::<String>::new());
    tell(&format!("embedded: {} runs at once ({what}), {sweeps} sweeps beside them: {peak}", ended.len()));
    ended
}

/// What `cargo harness sweep` does, again and again. A run that lives has nothing to be swept.
fn sweep_until(world: &World, over: &AtomicBool) -> usize {
    let mut sweeps = 0;
    while !over.load(Ordering::Relaxed) {
        let command = Run::new(env!("CARGO_BIN_EXE_harness-command"), ["sweep"]);
        let swept = finish(&command.env("HARNESS_STATE", world.state()));
        assert_eq!((swept.code, swept.stderr.as_str()), (0, "no dead run has left anything\n"), "{swept}");
        sweeps += 1;
    }
    sweeps
}

/// The ids, domains and directories of each run stand in its own journal and results, and in no other's.
fn no_cross_talk(world: &World, runs: usize) {
    let results = results(world);
    assert_eq!(results.len(), runs);
    let own = |run: &serde_json::Value| [text(run, "run_id"), text(run, "domain")];
    let all: BTreeSet<String> = results.iter().flat_map(own).collect();
    assert_eq!(all.len(), 2 * runs, "every run has an id and a domain of its own");
    for run in &results {
        assert_eq!(run["verdict"], "passed", "{run}");
        let dir = world.state().join("runs").join(text(run, "run_id"));
        for file in ["events.jsonl", "results.json", "keeper.log", "run.json"] {
            let written = std::fs::read_to_string(dir.join(file)).unwrap();
            let strangers: Vec<&String> =
                all.iter().filter(|name| !own(run).contains(name) && written.contains(*name)).collect();
            assert_eq!(strangers, Vec::<&String>::new(), "in `{}`", dir.join(file).display());
        }
    }
}

fn results(world: &World) -> Vec<serde_json::Value> {
    let runs = std::fs::read_dir(world.state().join("runs")).unwrap().flatten();
    let read = |run: std::fs::DirEntry| std::fs::read(run.path().join("results.json")).unwrap();
    runs.map(|run| serde_json::from_slice(&read(run)).unwrap()).collect()
}

fn text(run: &serde_json::Value, key: &str) -> String {
    run[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {run}")).to_owned()
}

/// The recipe `no-backup` in ten versions, of which each says its number.
fn ten_versions(root: &Path) -> Vec<String> {
    let data = checkout().join("tests/data");
    std::fs::copy(data.join("harness.toml"), root.join("harness.toml")).unwrap();
    let (from, to) = (data.join("recipes/no-backup/1.0.0+1.27.4"), root.join("recipes/no-backup"));
    copy(&data.join("recipes/no-backup/head"), &to.join("head"));
    let versions = (0..10).map(|number| {
        let version = format!("1.{number}.0+1.27.4");
        copy(&from, &to.join(&version));
        let compose = to.join(&version).join("compose.yml");
        let text = std::fs::read_to_string(&compose).unwrap();
        let line = format!(
            "    image: nginx:1.27.4\n    command: [\"/bin/sh\", \"-c\", \"echo this is 1.{number}.0; exec static-web\"]"
        );
        let text = text.replace("    image: nginx:1.27.4", &line).replace("1.0.0+1.27.4", &version);
        std::fs::write(&compose, text).unwrap();
        version
    });
    versions.collect()
}

/// The most that any process of a kind took while runs went on.
#[derive(Default)]
struct Peak {
    runner: Use,
    keeper: Use,
}

#[derive(Default)]
struct Use {
    kilobytes: u64,
    files: usize,
}

impl Peak {
    fn until(world: &World, over: &AtomicBool) -> Peak {
        let mut peak = Peak::default();
        wait("the runs to end", || {
            for process in world.processes() {
                let (pid, command) = process.split_once(' ').unwrap();
                match command {
                    _ if command.contains("__keeper") => peak.keeper.see(pid),
                    _ if command.contains("--recipe") => peak.runner.see(pid),
                    _ => {}
                }
            }
            over.load(Ordering::Relaxed)
        });
        assert!(peak.keeper.files > 0 && peak.runner.files > 0, "no process was seen");
        peak
    }
}

impl Use {
    /// A process that has just ended shows nothing.
    fn see(&mut self, pid: &str) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        (self.kilobytes, self.files) = (self.kilobytes.max(peak.unwrap_or(0)), self.files.max(files));
    }
}

impl std::fmt::Display for Peak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |it: &Use| format!("{} MiB and {} open files", it.kilobytes.div_ceil(1024), it.files);
        write!(f, "at most {} for a runner, {} for a keeper", of(&self.runner), of(&self.keeper))
    }
}
