//! What hangs: a keeper, an operation, a hook, an assertion. Each ends within its own deadline in a verdict that names
//! it, and is torn down.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::process::Run;
use rustix::process::{Signal, kill_process};

use crate::runner::{Ended, World, finish};
use crate::running::{Running, wait};

/// Ten pings of 300 ms: what is silent for longer than three seconds is given up.
const PING: (&str, &str) = ("RECIPE_HARNESS_TEST_PING", "300:10");
const GIVEN_UP: &str = "its process lived and answered none of 10 pings, each within 300ms, so it was killed";

/// A run of the recipe `whole` with a short patience, stopped by the keeper's own hand after its seventh record.
fn halted(world: &World) -> (Running, rustix::process::Pid) {
    let run = world.command(&["--recipe", "whole"]).env(PING.0, PING.1).env("RECIPE_HARNESS_TEST_HALT", "after:7");
    let mut command = harness::process::command(&run.program);
    command.args(&run.args);
    let running = Running::start(command, &run);
    let mut keeper = None;
    wait("the keeper to stop at its record", || {
        keeper = crate::crash::stopped_keeper(world);
        keeper.is_some()
    });
    (running, keeper.unwrap())
}

#[test]
fn a_keeper_that_lives_and_answers_nothing_is_killed_and_its_run_is_swept() {
    let world = World::of_test_data();
    let (mut running, _) = halted(&world);
    let start = Instant::now();
    assert_eq!(running.end(), 3, "{}", running.said.lock().unwrap());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(world.leftovers(), Vec::<String>::new());
    let results: serde_json::Value = serde_json::from_str(&world.file_of_run("results.json")).unwrap();
    let trouble = "harness trouble, not the recipe's fault: the keeper does not answer";
    assert_eq!(results["verdict"], "error");
    assert_eq!(results["reason"], format!("tier::install: {trouble}: {GIVEN_UP}"));
    assert_eq!(results["teardown"]["leftovers"], serde_json::json!([]));

    // The reason stands where it was noticed, and with that tier's operation; nobody else repeats it.
    let tiers = results["tiers"].as_array().unwrap().iter();
    let trials: Vec<_> = tiers.flat_map(|tier| tier["trials"].as_array().unwrap()).collect();
    let said = |text: &str| -> Vec<&str> {
        let says = trials.iter().filter(|trial| trial["message"].as_str().unwrap().contains(text));
        says.map(|trial| trial["name"].as_str().unwrap()).collect()
    };
    let whole = said(GIVEN_UP);
    assert!(whole.len() <= 2 && whole.contains(&"tier::install"), "{whole:?}");
    let short = |name: &&str| format!("{trouble}: see `{name}`");
    let pointing: Vec<&str> = whole.iter().flat_map(|name| said(&short(name))).collect();
    assert_eq!((whole.len() + pointing.len(), pointing.len() > 10), (said(trouble).len(), true), "{pointing:?}");
    let one_line = |trial: &&str| {
        trials.iter().any(|it| it["name"] == **trial && whole.iter().any(|of| it["message"] == short(of)))
    };
    assert!(pointing.iter().all(one_line), "{trials:?}");
}

/// It answers every ping, so that nothing but the limit of its teardown tells.
#[test]
fn a_keeper_that_hangs_in_its_teardown_alone_is_killed_and_its_run_is_swept() {
    let world = World::of_test_data();
    let run = world.command(&["--recipe", "no-backup", "--tiers", "install"]).env(PING.0, PING.1);
    let run = run.env("RECIPE_HARNESS_TEST_HALT", "hang:teardown").env("RECIPE_HARNESS_TEST_TEARDOWN", "6s");
    let start = Instant::now();
    let ended = finish(&run);
    assert_eq!((ended.code, ended.with_outcome("FAILED")), (3, vec!["tier::teardown"]), "{ended}");
    assert!(start.elapsed() >= Duration::from_secs(6), "{ended}");
    let message = ended.message("tier::teardown");
    let expected = "teardown left something behind:\n  the keeper was given up: it did not end its teardown within TIME, so \
                    it was killed; its log is `";
    assert!(message.contains(expected), "{message}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
}

#[test]
fn a_keeper_that_is_paused_for_a_moment_goes_on() {
    let world = World::of_test_data();
    let (mut running, keeper) = halted(&world);
    let start = Instant::now();
    wait("half of the patience", || start.elapsed() >= Duration::from_millis(1500));
    kill_process(keeper, Signal::CONT).unwrap();
    assert_eq!(running.end(), 0, "{}", running.said.lock().unwrap());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// As a laptop that sleeps: nobody could have pinged, so nothing is held against the keeper.
#[test]
fn a_run_that_is_paused_as_a_whole_goes_on_however_long_it_was() {
    let world = World::of_test_data();
    let (mut running, keeper) = halted(&world);
    running.signal(Signal::STOP);
    let start = Instant::now();
    wait("three times the patience", || start.elapsed() >= Duration::from_secs(9));
    running.signal(Signal::CONT);
    kill_process(keeper, Signal::CONT).unwrap();
    assert_eq!(running.end(), 0, "{}", running.said.lock().unwrap());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// `cargo harness down RUN` of a run that was kept.
fn down(world: &World, before: impl FnOnce(&str)) -> Ended {
    let ended = world.run(&["--recipe", "no-backup", "--keep", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    let run = ended.stderr.lines().find_map(|line| line.strip_prefix("remove   cargo harness down ")).unwrap();
    before(run);
    let command = Run::new(env!("CARGO_BIN_EXE_harness-command"), ["down", run]);
    finish(&command.env("HARNESS_STATE", world.state()).env(PING.0, PING.1).deadline(Duration::from_secs(100)))
}

#[test]
fn down_gives_up_a_keeper_that_is_stopped_and_sweeps_its_run() {
    let world = World::of_test_data();
    let ended = down(&world, |_| {
        let keeper = world.processes().into_iter().find(|process| process.contains("__keeper")).unwrap();
        let pid = keeper.split(' ').next().unwrap().parse().unwrap();
        kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    });
    assert_eq!(ended.code, 0, "{ended}");
    let note = format!("note: the keeper was given up: {GIVEN_UP}; its log is `");
    assert!(ended.stderr.starts_with(&note), "{ended}");
    assert!(ended.stderr.contains("is torn down, nothing is left"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn down_asks_a_keeper_that_answers_and_says_so_of_one_that_is_done() {
    let world = World::of_test_data();
    let mut torn_down = String::new();
    let ended = down(&world, |run| torn_down = run.to_owned());
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.stderr.trim(), format!("run `{torn_down}` is torn down, nothing is left"));
    assert_eq!(world.leftovers(), Vec::<String>::new());
    let command = Run::new(env!("CARGO_BIN_EXE_harness-command"), ["down", &torn_down]);
    let again = finish(&command.env("HARNESS_STATE", world.state()));
    assert_eq!(again.code, 2, "{again}");
    assert_eq!(again.stderr.trim(), format!("error: run `{torn_down}` is not up"));
}

#[test]
fn down_says_that_a_run_is_in_use_and_tears_it_down_all_the_same() {
    let hangs = ("test_install_page.sh", "exec sleep 600\n");
    let (world, _root) = with_overlay("no-backup", &[("recipe.toml", "[deadlines]\nassertion = \"8s\"\n"), hangs]);
    let mut running = world.start(&["--recipe", "no-backup"]);
    running.wait_for("install  done in");
    let run = std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap().file_name();
    let run = run.to_str().unwrap();
    let command = Run::new(env!("CARGO_BIN_EXE_harness-command"), ["down", run]);
    let down = finish(&command.env("HARNESS_STATE", world.state()).deadline(Duration::from_secs(100)));
    let expected = format!(
        "note: run `{run}` is in use by process {}: it is torn down all the same, and what that process still has to show \
         fails\nrun `{run}` is torn down, nothing is left\n",
        running.id()
    );
    assert_eq!((down.code, down.stderr.as_str()), (0, expected.as_str()), "{down}");
    assert_eq!(running.end(), 3, "{}", running.said.lock().unwrap());
    assert_eq!(world.leftovers(), Vec::<String>::new());
    // Whoever still had something to show says what became of the run, and blames nobody for it.
    let results: serde_json::Value = serde_json::from_str(&world.file_of_run("results.json")).unwrap();
    let trouble = "infrastructure trouble, not the recipe's fault: the run was torn down meanwhile, asked for with \
                   `harness down`: ";
    assert_eq!(results["verdict"], "error", "{results:#}");
    assert!(results["reason"].as_str().unwrap().contains(trouble), "{}", results["reason"]);
}

/// A world with one recipe of the test data, and an overlay for it.
pub fn with_overlay(recipe: &str, files: &[(&str, &str)]) -> (World, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let data = crate::runner::checkout().join("tests/data");
    std::fs::copy(data.join("harness.toml"), root.path().join("harness.toml")).unwrap();
    let from = Path::new("recipes").join(recipe);
    crate::runner::copy(&data.join(&from), &root.path().join(&from));
    let overlay = root.path().join("overlays").join(recipe);
    std::fs::create_dir_all(&overlay).unwrap();
    for (name, text) in files {
        std::fs::write(overlay.join(name), text).unwrap();
    }
    (World::new(root.path().to_owned()), root)
}

const HANGS: &str = "echo waiting for nothing\nexec sleep 600\n";
const SOON: &str = "[deadlines]\nassertion = \"4s\"\ncall = \"4s\"\nbackup = \"4s\"\ndeploy = \"8s\"\n";

/// Runs a recipe of which something hangs; what the trial says of it.
fn hangs(recipe: &str, files: &[(&str, &str)], trial: &str) -> String {
    let (world, _root) = with_overlay(recipe, &[&[("recipe.toml", SOON)], files].concat());
    let start = Instant::now();
    let ended = world.run(&["--recipe", recipe]);
    assert_eq!(ended.code, 101, "{ended}");
    assert_eq!(ended.with_outcome("FAILED"), [trial], "{ended}");
    assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}: {ended}", start.elapsed());
    ended.message(trial)
}

#[test]
fn install_steps_that_hang_are_named_and_ended() {
    let message = hangs("no-backup", &[("install_steps.sh", HANGS)], "tier::install");
    assert!(message.contains("/overlays/no-backup/install_steps.sh` did not end within TIME"), "{message}");
    assert!(message.contains("waiting for nothing"), "{message}");
}

#[test]
fn a_hook_that_hangs_is_named_and_ended() {
    let message = hangs("no-backup", &[("before_upgrade.sh", HANGS)], "tier::upgrade");
    assert!(message.contains("before_upgrade"), "{message}");
    assert!(message.contains("did not end within TIME"), "{message}");
}

#[test]
fn a_test_that_hangs_is_named_and_ended_and_the_rest_goes_on() {
    let trial = "overlays::no_backup::upgrade::test_upgrade_page";
    let message = hangs("no-backup", &[("test_upgrade_page.sh", HANGS)], trial);
    assert!(message.contains("did not end within TIME"), "{message}");
}

#[test]
fn an_operation_that_hangs_is_named_and_ended() {
    // Its health check never passes, and has its time to do so.
    let (world, root) = with_overlay("no-backup", &[("recipe.toml", SOON)]);
    let compose = root.path().join("recipes/no-backup/head/compose.yml");
    let text = std::fs::read_to_string(&compose).unwrap();
    let check = "    image: nginx:1.27.5\n    healthcheck: { test: [\"CMD\", \"false\"], start_period: 20m }\n";
    std::fs::write(&compose, text.replace("    image: nginx:1.27.5\n", check)).unwrap();
    let ended = world.run(&["--recipe", "no-backup"]);
    assert_eq!(ended.with_outcome("FAILED"), ["tier::upgrade"], "{ended}");
    let message = ended.message("tier::upgrade");
    assert!(message.starts_with("gave up waiting for the stack `"), "{message}");
    assert!(message.contains("` to converge after TIME"), "{message}");
    assert!(message.contains("; last seen: service `app` is updating: task `"), "{message}");
    assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
}

#[test]
fn a_backup_whose_hook_hangs_is_named_and_ended() {
    let (world, root) = with_overlay("failing-hook", &[("recipe.toml", SOON)]);
    for version in std::fs::read_dir(root.path().join("recipes/failing-hook")).unwrap().flatten() {
        let compose = version.path().join("compose.yml");
        let text = std::fs::read_to_string(&compose).unwrap();
        let hangs = text.replace("echo the database is away >&2; exit 3", "sleep 600");
        std::fs::write(&compose, hangs).unwrap();
    }
    let ended = world.run(&["--recipe", "failing-hook"]);
    assert_eq!(ended.with_outcome("FAILED"), ["tier::backup"], "{ended}");
    let message = ended.message("tier::backup");
    assert!(message.contains("backupbot.backup.pre-hook"), "{message}");
    assert!(message.contains("did not end within TIME"), "{message}");
    assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
}

#[test]
fn a_hook_of_a_backup_may_take_longer_than_a_call() {
    let toml = "[deadlines]\ncall = \"3s\"\n";
    let (world, root) = with_overlay("failing-hook", &[("recipe.toml", toml)]);
    for version in std::fs::read_dir(root.path().join("recipes/failing-hook")).unwrap().flatten() {
        let compose = version.path().join("compose.yml");
        let text = std::fs::read_to_string(&compose).unwrap();
        std::fs::write(&compose, text.replace("echo the database is away >&2; exit 3", "sleep 4")).unwrap();
    }
    let ended = world.run(&["--recipe", "failing-hook", "--exact", "tier::backup"]);
    assert_eq!(ended.outcome("tier::backup"), Some("ok"), "{ended}");
}
