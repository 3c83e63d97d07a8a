//! The exit codes of `docs/exit-codes.md`, one row for each and for each way to get there; and that whatever keeps a run
//! from beginning is reported like everything else.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::runner::{Ended, World, checkout, copy, finish};

/// A root of its own: a good recipe, one that never answers, and those that cannot begin.
struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = checkout().join("tests/data");
        for name in ["no-backup", "serves-500", "first-release"] {
            copy(&data.join("recipes").join(name), &dir.path().join("recipes").join(name));
        }
        let root = Root { dir };
        root.configure("");
        for (name, from, to) in
            [("bad-yaml", "services:", "services: [\n"), ("refused", "    image:", "    privileged: true\n    image:")]
        {
            copy(&data.join("recipes/no-backup"), &root.path().join("recipes").join(name));
            let compose = root.path().join("recipes").join(name).join("head/compose.yml");
            let text = std::fs::read_to_string(&compose).unwrap();
            assert!(text.contains(from));
            std::fs::write(&compose, text.replacen(from, to, 1)).unwrap();
        }
        root
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Nothing listens at the forge.
    fn configure(&self, more: &str) {
        let toml = format!(
            "zone = \"harness.test\"\n{more}[recipes]\nsources = [\"recipes\", \"https://127.0.0.1:1/{{recipe}}.git\"]\n\
             [embedded.images]\nnginx = \"builtin:static-web\"\n"
        );
        std::fs::write(self.path().join("harness.toml"), toml).unwrap();
    }

    fn world(&self) -> World {
        World::new(self.path().to_owned())
    }
}

/// What the results of the only run say: verdict, reason, and the fault of the failed trial.
fn results(world: &World) -> (String, String, String) {
    let results: serde_json::Value = serde_json::from_str(&world.file_of_run("results.json")).unwrap();
    let trials = results["tiers"].as_array().unwrap().iter().flat_map(|tier| tier["trials"].as_array().unwrap());
    let failed = trials.filter(|trial| trial["outcome"] == "failed").collect::<Vec<_>>();
    assert_eq!(failed.len(), 1, "{results}");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (text(&results["verdict"]), text(&results["reason"]), text(&failed[0]["fault"]))
}

struct Row {
    what: &'static str,
    arguments: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    code: i32,
    /// A part of what is said on standard error.
    said: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        what: "proven",
        arguments: &["--recipe", "no-backup", "--tiers", "install"],
        env: &[],
        code: 0,
        said: "   PASSED, level 1 of 5 (level 2, upgrades: ",
    },
    Row {
        what: "the recipe fails",
        arguments: &["--recipe", "serves-500", "--tiers", "install"],
        env: &[],
        code: 101,
        said: "   FAILED, level 0 of 5: generic::install::answers_over_http: ",
    },
    Row {
        what: "an unknown flag",
        arguments: &["--receipt", "no-backup"],
        env: &[],
        code: 2,
        said: "unexpected argument '--receipt'",
    },
    Row {
        what: "a malformed name",
        arguments: &["--recipe", "no-backup", "--recipe", "../etc"],
        env: &[],
        code: 2,
        said: "error: `../etc` is not a recipe name",
    },
    Row {
        what: "nothing was proven",
        arguments: &["--recipe", "first-release", "--exact", "tier::upgrade"],
        env: &[],
        code: 4,
        said: "   NOTHING PROVEN: no trial has passed\n",
    },
    Row {
        what: "the machine",
        arguments: &["--recipe", "no-backup"],
        env: &[("RECIPE_HARNESS_TEST_HALT", "fail:4")],
        code: 3,
        said: "   ERROR, not the recipe's fault: ",
    },
];

#[test]
fn every_code_means_what_the_table_says() {
    let table = std::fs::read_to_string(checkout().join("docs/exit-codes.md")).unwrap();
    let root = Root::new();
    for row in ROWS {
        let world = root.world();
        let run = row.env.iter().fold(world.command(row.arguments), |run, (key, value)| run.env(key, value));
        let ended = finish(&run);
        assert_eq!(ended.code, row.code, "{}: {ended}", row.what);
        assert!(ended.stderr.contains(row.said), "{}: {ended}", row.what);
        assert!(table.contains(&format!("\n| {} | ", row.code)), "{}", row.code);
        let is_usage = row.code == 2;
        assert_eq!(world.state().join("runs").exists(), !is_usage && row.code != 4, "{}: {ended}", row.what);
    }
    let world = root.world();
    let mut running = world.start(&["--recipe", "no-backup"]);
    running.wait_for("install  deploy");
    running.signal(Signal::INT);
    assert_eq!(running.end(), 130);
    assert!(table.contains("\n| 130 | "));
    world.expect_nothing_left();
}

impl Ended {
    /// How often a trial of one of several recipes was shown; the columns are as wide as the longest name.
    fn outcomes_of(&self, recipe: &str, trial: &str) -> usize {
        let words = |line: &str| line.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>();
        let wanted = ["test".to_owned(), format!("[{recipe}]"), trial.to_owned()];
        self.stdout.lines().filter(|line| words(line) == wanted).count()
    }
}

/// Every report, and the JUnit file that was asked for, with the fault.
fn is_reported(world: &World, junit: &Path, ended: &Ended, verdict: &str, fault: &str, reason: &str) {
    for name in harness::report::files::NAMES {
        assert!(!world.file_of_run_bytes(name).is_empty(), "{name}: {ended}");
    }
    let (seen, why, whose) = results(world);
    assert_eq!((seen.as_str(), whose.as_str()), (verdict, fault), "{ended}");
    assert!(why.starts_with(&format!("the run could not begin: {reason}")), "{why}\n{ended}");
    let xml = std::fs::read_to_string(junit).unwrap();
    let element = if verdict == "failed" { "<failure " } else { "<error " };
    assert_eq!((xml.matches(element).count(), xml.matches(&format!("type=\"{fault}\"")).count()), (1, 1), "{xml}");
    assert_eq!(ended.with_outcome("FAILED"), ["tier::install"], "{ended}");
    assert!(ended.message("tier::install").starts_with("the run could not begin: "), "{ended}");
    assert!(ended.refusal().starts_with(&format!("error: {reason}")), "{ended}");
    assert!(ended.stderr.trim_end().ends_with("/report.html"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
}

#[test]
fn what_cannot_begin_has_every_report_and_the_right_fault() {
    let root = Root::new();
    let docker: &[(&str, &str)] = &[("DOCKER_HOST", "tcp://127.0.0.1:1"), ("HARNESS_ENGINE", "swarm")];
    for (recipe, env, code, verdict, fault, reason) in [
        ("bad-yaml", &[][..], 101, "failed", "recipe", "failed to read the head "),
        ("refused", &[], 101, "failed", "recipe", "the head "),
        ("elsewhere", &[], 3, "error", "infrastructure", "failed to fetch from `https://127.0.0.1:1/elsewhere.git`"),
        ("no-backup", docker, 3, "error", "infrastructure", "failed to use the engine `swarm`: failed to connect"),
    ] {
        let world = root.world();
        let junit = world.dir.path().join("junit.xml");
        let run = world.command(&["--recipe", recipe, "--junit", junit.to_str().unwrap()]);
        let ended = finish(&env.iter().fold(run, |run, (key, value)| run.env(key, value)));
        assert_eq!(ended.code, code, "{recipe}: {ended}");
        is_reported(&world, &junit, &ended, verdict, fault, reason);
    }
}

/// A `recipe.toml` is this repository's, and no recipe is to blame for it.
#[test]
fn a_broken_recipe_toml_is_the_overlays_fault() {
    let root = Root::new();
    let overlay = root.path().join("overlays/no-backup");
    std::fs::create_dir_all(&overlay).unwrap();
    std::fs::write(overlay.join("recipe.toml"), "[skip]\nbackup = \"\"\n").unwrap();
    let world = root.world();
    let junit = world.dir.path().join("junit.xml");
    let ended = world.run(&["--recipe", "no-backup", "--junit", junit.to_str().unwrap()]);
    assert_eq!(ended.code, 101, "{ended}");
    is_reported(&world, &junit, &ended, "failed", "assertion", "failed to use `");
}

#[test]
fn a_bad_recipe_stops_only_itself_and_all_end_in_one_table() {
    let root = Root::new();
    let world = root.world();
    let junit = world.dir.path().join("junit.xml");
    let names = ["no-backup", "bad-yaml", "elsewhere", "serves-500"];
    let recipes = names.iter().flat_map(|name| ["--recipe", name]);
    let more = ["--tiers", "install", "--jobs", "4", "--junit", junit.to_str().unwrap()];
    let ended = world.run(&recipes.chain(more).collect::<Vec<_>>());
    assert_eq!(ended.code, 101, "{ended}");
    let table: Vec<&str> = ended.stderr.lines().rev().take(8).collect();
    for (name, said) in [
        ("no-backup", "   PASSED, level 1 of 5"),
        ("bad-yaml", "   FAILED, the run could not begin: failed to read the head"),
        ("elsewhere", "   ERROR, not the recipe's fault: the run could not begin: failed to fetch"),
        ("serves-500", "   FAILED, level 0 of 5: generic::install::answers_over_http"),
    ] {
        let is_row = |line: &&&str| line.starts_with(&format!("{name} ")) && line.contains(said);
        assert_eq!(table.iter().filter(is_row).count(), 1, "{name}: {ended}");
        assert_eq!(ended.outcomes_of(name, "tier::install"), 1, "{ended}");
    }
    assert_eq!(table.iter().filter(|line| line.starts_with("report   file:///")).count(), 4, "{ended}");
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert!(names.iter().all(|name| xml.contains(&format!("<testsuite name=\"{name}.install\""))), "{xml}");
    // What nobody knows is a row, too, and costs the others nothing.
    root.configure("");
    let toml = std::fs::read_to_string(root.path().join("harness.toml")).unwrap();
    let local = toml.replace(", \"https://127.0.0.1:1/{recipe}.git\"", "");
    std::fs::write(root.path().join("harness.toml"), local).unwrap();
    let ended = root.world().run(&["--recipe", "no-backup", "--recipe", "nosuch", "--tiers", "install"]);
    assert_eq!(ended.code, 2, "{ended}");
    assert_eq!(ended.outcomes_of("no-backup", "tier::install"), 1, "{ended}");
    assert!(ended.stderr.contains("error: nosuch: no recipe `nosuch`: looked in "), "{ended}");
    assert!(ended.stderr.contains("nosuch unknown"), "{ended}");
}

/// Both apps are up at the same time, and with one job they never are.
#[test]
fn recipes_run_side_by_side_as_far_as_jobs_allow() {
    let root = Root::new();
    copy(&root.path().join("recipes/no-backup"), &root.path().join("recipes/another"));
    for (jobs, together) in [("2", true), ("1", false)] {
        let world = root.world();
        let ended = world.run(&["--recipe", "no-backup", "--recipe", "another", "--jobs", jobs, "--tiers", "install"]);
        assert_eq!(ended.code, 0, "{ended}");
        assert_eq!(are_up_together(&world), together, "{jobs} jobs: {ended}");
        assert!(ended.stderr.contains(&format!("at once  {jobs} of 2 recipes")), "{ended}");
        for line in ["] no-backup: install  deploy ", "] another: install  deploy "] {
            assert!(ended.stderr.contains(line), "{ended}");
        }
    }
}

/// Whether the app of one run was deployed before that of the other was torn down, by their journals.
fn are_up_together(world: &World) -> bool {
    let runs: Vec<PathBuf> =
        std::fs::read_dir(world.state().join("runs")).unwrap().map(|run| run.unwrap().path()).collect();
    assert_eq!(runs.len(), 2);
    let time = |run: &Path, event: &str| {
        let journal = std::fs::read_to_string(run.join("events.jsonl")).unwrap();
        let line = journal.lines().find(|line| line.contains(&format!("\"event\":\"{event}\""))).unwrap();
        serde_json::from_str::<serde_json::Value>(line).unwrap()["at"].as_str().unwrap().to_owned()
    };
    let begins = runs.iter().map(|run| time(run, "deploying")).max().unwrap();
    let ends = runs.iter().map(|run| time(run, "teardown_finished")).min().unwrap();
    begins < ends
}
