//! "Debug" in an editor: the executable under a debugger stops at a breakpoint in an assertion, for longer than an
//! assertion may take, and goes on as if it had not.

use std::path::Path;

use harness::process::Run;

use crate::Case;
use crate::runner::{Ended, World, checkout, finish};

pub const CASES: &[Case] = &[
    ("debugger::an_assertion_may_stand_at_a_breakpoint_for_longer_than_its_deadline", at_a_breakpoint),
    ("debugger::leaving_the_debugger_tears_down", leaving),
    ("debugger::what_gdb_says_of_threads_is_no_part_of_a_line", threads),
];

const TRIAL: &str = "overlays::custom_html::upgrade::seeded_page_survives";

/// A world in which an assertion may take three seconds.
fn world(root: &Path) -> World {
    let copied =
        finish(&Run::new("cp", ["-r", "harness.toml", "recipes", "overlays", root.to_str().unwrap()]).cwd(checkout()));
    assert_eq!(copied.code, 0, "{copied}");
    std::fs::write(
        root.join("overlays/custom-html/recipe.toml"),
        "[deadlines]\nassertion = \"3s\"\n[embedded.images]\nnginx = \"builtin:static-web\"\n",
    )
    .unwrap();
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

/// What the runner said, without what gdb wrote into the middle of it: threads come and go while a line is printed.
fn without_threads(mut ended: Ended) -> Ended {
    for start in ["[Thread ", "[New Thread ", "[Switching to Thread "] {
        while let Some(from) = ended.stdout.find(start) {
            let Some(length) = ended.stdout[from..].find("]\n") else { break };
            ended.stdout.replace_range(from..from + length + 2, "");
        }
    }
    ended
}

fn threads() {
    let stdout = format!("[New Thread 0x7f (LWP 1)]\ntest {TRIAL} ... [Thread 0x7f (LWP 1) exited]\nok\n[other]\n");
    let ended = without_threads(Ended { code: 0, stdout, stderr: String::new() });
    assert_eq!(ended.stdout, format!("test {TRIAL} ... ok\n[other]\n"));
}

fn at_a_breakpoint() {
    let root = tempfile::tempdir().unwrap();
    let world = world(root.path());
    // The time that somebody looks at variables.
    let ended = without_threads(finish(&debug(&world, &["shell sleep 5", "continue"])));
    assert!(ended.stdout.contains("hit Breakpoint 1"), "{ended}");
    assert_eq!(ended.outcome(TRIAL), Some("ok"), "{ended}");
    assert!(ended.stderr.contains("; deployed once"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn leaving() {
    let root = tempfile::tempdir().unwrap();
    let world = world(root.path());
    let ended = without_threads(finish(&debug(&world, &["kill"])));
    assert!(ended.stdout.contains("hit Breakpoint 1"), "{ended}");
    assert_eq!(ended.outcome(TRIAL), None, "{ended}");
    world.expect_nothing_left();
    assert!(world.journal().contains("the process that asked for the run is gone"), "{}", world.journal());
}
