//! Whole runs under nextest, where every trial is a process of its own: deployed once, in order, torn down each time.

use harness::process::{self, Run};
use harness::report::results::{Outcome, Results, Verdict};
use rustix::process::Signal;

use crate::Case;
use crate::runner::{Ended, World, checkout, finish};
use crate::running::{Running, wait};

pub const CASES: &[Case] = &[
    ("nextest::a_whole_run_deploys_once_and_gives_the_same_reports", a_whole_run),
    ("nextest::one_filtered_trial_deploys_what_it_needs_and_is_torn_down", one_filtered_trial),
    ("nextest::what_cannot_be_proven_is_skipped_before_it_runs", what_cannot_be_proven),
    ("nextest::after_a_failure_the_rest_is_cancelled_and_torn_down", fail_fast),
    ("nextest::a_repeated_trial_meets_the_same_deployment", retries),
    ("nextest::a_trial_that_is_killed_at_its_time_out_harms_no_other", time_out),
    ("nextest::a_failed_operation_is_told_by_every_trial_after_it", a_failed_operation),
    ("nextest::a_secret_in_a_report_fails_the_last_trial", a_secret_in_a_report),
    ("nextest::ctrl_c_tears_down", ctrl_c),
    ("nextest::sigkill_of_nextest_tears_down", sigkill),
    ("nextest::without_the_group_the_first_trial_refuses_in_one_line", without_the_group),
    ("nextest::without_priorities_late_trials_say_what_is_missing", without_priorities),
];

/// nextest on the recipe runner of this checkout, in a world of its own.
fn command(world: &World, recipe: &str, arguments: &[&str]) -> Run {
    // The whole workspace, so that cargo chooses the features that `cargo test` has built with, and builds nothing.
    // nextest reads the metadata of all features, so that cargo may have to fetch crates that no build has asked for.
    let fixed = ["nextest", "run", "--locked", "--workspace", "--test", "recipe", "--color", "never"];
    let mut run = Run::new("cargo", fixed.iter().chain(arguments));
    for key in ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"] {
        if let Some(value) = std::env::var_os(key) {
            run = run.env(key, value);
        }
    }
    let known = world.command(&[]);
    run.env.extend(known.env.into_iter().filter(|(key, _)| key.to_string_lossy().starts_with("HARNESS_")));
    run.env("RECIPE", recipe).cwd(checkout()).deadline(std::time::Duration::from_secs(400))
}

fn run(world: &World, recipe: &str, arguments: &[&str]) -> Ended {
    finish(&command(world, recipe, arguments))
}

/// The results of the only run, once it is over and nothing is left of it: the keeper may end after nextest.
fn results(world: &World) -> Results {
    world.expect_nothing_left();
    let mut results = None;
    wait("the results of the run", || {
        let run = std::fs::read_dir(world.state().join("runs")).into_iter().flatten().flatten().next();
        let json = run.and_then(|run| std::fs::read(run.path().join("results.json")).ok());
        results = json.and_then(|json| serde_json::from_slice(&json).ok());
        results.is_some()
    });
    let results: Results = results.unwrap();
    assert_eq!(std::fs::read_dir(world.state().join("runs")).unwrap().count(), 1, "there must be one run");
    assert_eq!(results.deploys, 1);
    assert_eq!(results.teardown.as_ref().unwrap().leftovers, Vec::<String>::new());
    results
}

fn outcome(results: &Results, name: &str) -> Outcome {
    results.trials().find(|(_, trial)| trial.name == name).unwrap().1.outcome
}

/// How many trials the recipe has. A list, which reads no recipe, names those about ports beside that of the page as well.
fn trials(world: &World) -> usize {
    let listed = world.run(&["--recipe", "custom-html", "--list"]);
    assert_eq!(listed.code, 0, "{listed}");
    listed.stdout.lines().filter(|line| line.ends_with(": test") && !line.contains("::ports_answer")).count()
}

fn a_whole_run() {
    let world = World::of_checkout();
    let junit = world.dir.path().join("junit.xml");
    let summary = world.dir.path().join("summary.md");
    let run = command(&world, "custom-html", &[]);
    let ended = finish(&run.env("HARNESS_JUNIT", &junit).env("GITHUB_STEP_SUMMARY", &summary));
    assert_eq!(ended.code, 0, "{ended}");
    let all = trials(&world);
    assert!(ended.stderr.contains(&format!("{all} tests run: {all} passed, 0 skipped")), "{ended}");
    // What stands in for what, and what became of it, are shown as under `cargo test`, and once each.
    for said in
        ["\n    images   `nginx:1.27.5` is not what runs: ", "   PASSED, level 4 of 5 (", "\n    report   file://"]
    {
        assert_eq!(ended.stderr.matches(said).count(), 1, "`{said}` once in {ended}");
    }
    // Teardown is a trial: it was over before nextest was.
    assert_eq!(world.leftovers(), Vec::<String>::new());
    let results = results(&world);
    assert_eq!((results.verdict, results.level.reached), (Verdict::Passed, 4));
    assert_eq!(results.counts.not_run, 0, "{:?}", results.counts);
    super::junit::is_valid(&junit);
    // The same file as from one process: suites, cases and how each ended.
    let alone = World::of_checkout();
    let file = alone.dir.path().join("junit.xml");
    let ended = alone.run(&["--recipe", "custom-html", "--junit", file.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(shape(&junit), shape(&file));
    assert!(shape(&file).len() > all, "{:?}", shape(&file));
    assert!(std::fs::read_to_string(&summary).unwrap().starts_with("### custom-html "));
}

/// What a JUnit file says of a run but for its times: suites with their counts, cases with their names, and failures.
fn shape(file: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let elements = text.lines().map(str::trim).filter(|line| {
        ["<testsuite ", "<testcase ", "<failure ", "<error ", "<skipped "].iter().any(|start| line.starts_with(start))
    });
    let steady = |line: &str| {
        let attributes = line.split("\" ").filter(|it| !it.starts_with("time"));
        attributes.collect::<Vec<_>>().join("\" ").trim_end_matches(['/', '>']).to_owned()
    };
    elements.map(steady).collect()
}

fn one_filtered_trial() {
    let world = World::of_checkout();
    let trial = "overlays::custom_html::upgrade::seeded_page_survives";
    // An app stays warm between two runs, and not between the processes of one.
    let warm = command(&world, "custom-html", &["-E", &format!("test(={trial})")]).env("HARNESS_WARM", "10m");
    let ended = finish(&warm);
    assert_eq!(ended.code, 0, "{ended}");
    let all = trials(&world);
    assert!(ended.stderr.contains(&format!("1 test run: 1 passed, {} skipped", all - 1)), "{ended}");
    let results = results(&world);
    assert_eq!(outcome(&results, trial), Outcome::Passed);
    assert_eq!(results.counts.not_run, all - 2, "all but teardown's and this one: {:?}", results.counts);
    assert_eq!(results.teardown.unwrap().reason, "the process that asked for the run is gone");
}

fn what_cannot_be_proven() {
    let world = World::of_test_data();
    let ended = run(&world, "no-backup", &[]);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stderr.contains("passed, 12 skipped"), "{ended}");
    let results = results(&world);
    assert_eq!(results.level.reached, 2);
    let world = World::of_test_data();
    let ended = run(&world, "no-backup", &["--run-ignored", "all", "-E", "test(=tier::backup)"]);
    assert_ne!(ended.code, 0, "{ended}");
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("not proven: unverified: the head has no `backupbot.backup` label"), "{ended}");
    assert!(!world.state().join("runs").exists(), "a trial that proves nothing deploys nothing");
}

fn fail_fast() {
    let world = World::of_test_data();
    let ended = run(&world, "serves-500", &["--fail-fast"]);
    assert_eq!(ended.code, 100, "{ended}");
    let results = results(&world);
    assert_eq!(results.verdict, Verdict::Failed);
    assert_eq!(outcome(&results, "generic::install::answers_over_http"), Outcome::Failed);
    assert_eq!(outcome(&results, "tier::upgrade"), Outcome::NotRun);
}

fn retries() {
    let world = World::of_test_data();
    let ended = run(&world, "serves-500", &["--retries", "2", "--no-fail-fast"]);
    assert_eq!(ended.code, 100, "{ended}");
    let results = results(&world);
    for (_, trial) in results.trials() {
        let attempts = match trial.outcome {
            Outcome::Failed => 3,
            Outcome::NotRun => 0,
            _ => 1,
        };
        assert_eq!(trial.attempts, attempts, "{trial:?}");
    }
    assert_eq!(results.counts.failed, 2, "{:?}", results.counts);
    assert_eq!(outcome(&results, "generic::upgrade::deployed_head"), Outcome::Passed);
}

/// The shipped configuration, changed, as a file of its own.
fn configuration(world: &World, change: impl Fn(String) -> String) -> String {
    let shipped = std::fs::read_to_string(checkout().join(".config/nextest.toml")).unwrap();
    let file = world.dir.path().join("nextest.toml");
    std::fs::write(&file, change(shipped)).unwrap();
    file.to_str().unwrap().to_owned()
}

fn time_out() {
    let world = World::of_checkout();
    let slow = "[[profile.default.overrides]]\nfilter = 'test(=generic::install::services_are_stable)'\n\
                slow-timeout = { period = \"100ms\", terminate-after = 1, grace-period = \"0s\" }\n";
    let file = configuration(&world, |shipped| format!("{shipped}\n{slow}"));
    let ended = run(&world, "custom-html", &["--no-fail-fast", "--config-file", &file]);
    assert_eq!(ended.code, 100, "{ended}");
    let all = trials(&world);
    assert!(ended.stderr.contains(&format!("{all} tests run: {} passed, 1 timed out", all - 1)), "{ended}");
    let results = results(&world);
    assert_eq!(outcome(&results, "generic::install::services_are_stable"), Outcome::NotRun);
    assert_eq!(outcome(&results, "generic::custom::services_are_stable"), Outcome::Passed);
    assert_eq!(results.level.reached, 0, "what was killed has proven nothing");
}

fn a_failed_operation() {
    let world = World::of_test_data();
    let ended = run(&world, "rolls-back", &["--no-fail-fast"]);
    assert_eq!(ended.code, 100, "{ended}");
    let said = format!("{}{}", ended.stdout, ended.stderr);
    let reason = "not proven: because tier::upgrade failed";
    assert!(said.contains(reason), "{ended}");
    assert!(said.contains("the update of service `app` failed: rollback_completed"), "{ended}");
    let results = results(&world);
    assert_eq!((results.verdict, results.counts.failed), (Verdict::Failed, 1), "one failure, not one of every trial");
    assert_eq!(outcome(&results, "generic::upgrade::deployed_head"), Outcome::Ignored);
}

/// The value stands in every report's stylesheet, and nowhere else, so that only a look at the reports themselves finds it.
fn a_secret_in_a_report() {
    let root = tempfile::tempdir().unwrap();
    let data = checkout().join("tests/data");
    std::fs::copy(data.join("harness.toml"), root.path().join("harness.toml")).unwrap();
    std::os::unix::fs::symlink(data.join("recipes"), root.path().join("recipes")).unwrap();
    let overlay = root.path().join("overlays/whole");
    std::fs::create_dir_all(&overlay).unwrap();
    let steps = "printf prefers-color-scheme > \"$APP_SECRETS_DIR/token\"\n";
    std::fs::write(overlay.join("install_steps.sh"), steps).unwrap();
    let world = World::new(root.path().to_owned());
    let ended = run(&world, "whole", &["--no-fail-fast"]);
    assert_eq!(ended.code, 100, "{ended}");
    let said = format!("{}{}", ended.stdout, ended.stderr);
    let line = "error: whole: a secret, or the canary of the keeper's environment, stands in `report.html`";
    assert!(said.lines().any(|it| it.trim() == line), "{ended}");
    assert!(said.contains(" 1 failed"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
}

fn start(world: &World) -> Running {
    let run = command(world, "custom-html", &[]);
    let mut command = process::command(&run.program);
    command.args(&run.args).current_dir(checkout());
    let running = Running::start(command, &run);
    running.wait_for("recipe-tests::recipe tier::install");
    running
}

fn ctrl_c() {
    let world = World::of_checkout();
    let mut running = start(&world);
    running.signal(Signal::INT);
    assert_eq!(running.end(), 100, "{}", running.said.lock().unwrap());
    assert_ne!(results(&world).counts.not_run, 0);
}

fn sigkill() {
    let world = World::of_checkout();
    let mut running = start(&world);
    running.signal(Signal::KILL);
    assert_eq!(running.end(), 137);
    assert_ne!(results(&world).counts.not_run, 0);
}

fn without_the_group() {
    let world = World::of_checkout();
    let file = configuration(&world, |_| "[profile.default]\n".into());
    let ended = run(&world, "custom-html", &["--config-file", &file, "--fail-fast", "-j1"]);
    assert_eq!(ended.code, 100, "{ended}");
    let said = format!("{}{}", ended.stdout, ended.stderr);
    let line = "error: nextest runs this trial in the group `@global`, not in `recipe`: it has not read \
                `.config/nextest.toml`; use that file, or `cargo test`";
    assert!(said.lines().any(|it| it.trim() == line), "{ended}");
    assert!(!world.state().join("runs").exists(), "{ended}");
}

fn without_priorities() {
    let world = World::of_checkout();
    let file = configuration(&world, |shipped| {
        shipped.lines().map(|line| format!("{}\n", if line.starts_with("priority") { "" } else { line })).collect()
    });
    let ended = run(&world, "custom-html", &["--config-file", &file, "--no-fail-fast"]);
    assert_eq!(ended.code, 100, "{ended}");
    let said = format!("{}{}", ended.stdout, ended.stderr);
    let late = "came too late: the app is already past `";
    let missing = "nextest must run the trials by the priorities in `.config/nextest.toml`";
    assert!(said.contains(late) && said.contains(missing), "{ended}");
    results(&world);
}
