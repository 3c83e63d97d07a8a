//! "Debug" in an editor: the executable under a debugger stops at a breakpoint in an assertion, for longer than an
//! assertion may take, and goes on as if it had not.

use std::path::Path;

use harness::process::Run;

use crate::Case;
use crate::runner::{World, checkout, finish};

pub const CASES: &[Case] = &[
    ("debugger::an_assertion_may_stand_at_a_breakpoint_for_longer_than_its_deadline", at_a_breakpoint),
    ("debugger::leaving_the_debugger_tears_down", leaving),
];

const TRIAL: &str = "overlays::custom_html::upgrade::seeded_page_survives";

/// A world in which an assertion may take three seconds.
fn world(root: &Path) -> World {
    let copied =
        finish(&Run::new("cp", ["-r", "harness.toml", "recipes", "overlays", root.to_str().unwrap()]).cwd(checkout()));
    assert_eq!(copied.code, 0, "{copied}");
    std::fs::write(root.join("overlays/custom-html/recipe.toml"), "[deadlines]\nassertion = \"3s\"\n").unwrap();
    World::new(root.to_owned())
}

/// The runner under gdb, with a breakpoint at the first line of the assertion's body.
fn debug(world: &World, at_breakpoint: &[&str]) -> Run {
    let file = checkout().join("overlays/custom-html/upgrade.rs");
    let source = std::fs::read_to_string(&file).unwrap();
    let head = source.lines().position(|line| line.contains("async fn seeded_page_survives")).unwrap() + 1;
    let mut run = world.command(&[TRIAL, "--exact", "--nocapture", "--include-ignored"]);
    let place = format!("break upgrade.rs:{}", head + 1);
    let mut arguments: Vec<std::ffi::OsString> = ["--batch", "-nx", "-ex", &place, "-ex", "run"].map(Into::into).into();
    for command in at_breakpoint {
        arguments.extend(["-ex".into(), command.into()]);
    }
    arguments.extend(["--args".into(), run.program.clone()]);
    arguments.append(&mut run.args);
    (run.program, run.args) = ("gdb".into(), arguments);
    run
}

fn at_a_breakpoint() {
    let root = tempfile::tempdir().unwrap();
    let world = world(root.path());
    // The time that somebody looks at variables.
    let ended = finish(&debug(&world, &["shell sleep 5", "continue"]));
    assert!(ended.stdout.contains("hit Breakpoint 1"), "{ended}");
    assert_eq!(ended.outcome(TRIAL), Some("ok"), "{ended}");
    assert!(ended.stderr.contains("deploy-count = 1 (expect 1)"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn leaving() {
    let root = tempfile::tempdir().unwrap();
    let world = world(root.path());
    let ended = finish(&debug(&world, &["kill"]));
    assert!(ended.stdout.contains("hit Breakpoint 1"), "{ended}");
    assert_eq!(ended.outcome(TRIAL), None, "{ended}");
    world.expect_nothing_left();
    assert!(world.journal().contains("the process that asked for the run is gone"), "{}", world.journal());
}
