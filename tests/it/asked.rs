//! What a kept run tells people to type: the test executable answers it itself, and nothing has to be built for it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::process::Run;

use crate::runner::{Ended, World, checkout, copy, finish};

/// A recorded run among a world's own; returns its directory.
fn recorded(world: &World) -> PathBuf {
    let run = world.state().join("runs/custom-html-20261126t000000-abcdef");
    copy(&checkout().join("tests/data/runs/green"), &run);
    std::fs::write(run.join("run.json"), "{}").unwrap();
    run
}

/// The runner, asked for one of the harness's commands.
fn ask(world: &World, arguments: &[&str]) -> Ended {
    world.run(&[&["harness"], arguments].concat())
}

#[test]
fn the_runner_removes_the_app_that_it_kept() {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "no-backup", "--keep", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    let run = ended.stderr.lines().find_map(|line| line.strip_prefix("remove   cargo harness down ")).unwrap();
    let listed = ask(&world, &["runs"]);
    assert_eq!((listed.code, listed.stdout), (0, format!("{run}  kept, at tier `install`\n")));
    let down = ask(&world, &["down", run]);
    assert_eq!((down.code, down.stderr.as_str()), (0, format!("run `{run}` is torn down, nothing is left\n").as_str()));
    assert_eq!(world.leftovers(), Vec::<String>::new());
    let again = ask(&world, &["down", run]);
    assert_eq!((again.code, again.stderr), (2, format!("error: run `{run}` is not up\n")));
    let swept = ask(&world, &["sweep"]);
    assert_eq!((swept.code, swept.stderr.as_str()), (0, "no dead run has left anything\n"));
}

#[test]
fn the_runner_makes_reports_and_opens_them() {
    let world = World::of_test_data();
    let none = ask(&world, &["report"]);
    let runs = world.state().join("runs");
    assert_eq!((none.code, none.stderr), (2, format!("error: no run has left a record in `{}`\n", runs.display())));
    let run = recorded(&world);
    let report = ask(&world, &["report"]);
    assert_eq!(report.code, 0, "{report}");
    assert!(report.stdout.starts_with("### custom-html "), "{report}");
    // Only what is there may be named.
    let named: Vec<&Path> = report.stderr.lines().map(Path::new).collect();
    assert!(named.contains(&run.join("card.svg").as_path()) && named.iter().all(|file| file.is_file()), "{report}");
    assert_eq!(run.join("card.png").is_file(), named.contains(&run.join("card.png").as_path()), "{report}");

    let (browser, seen) = (world.dir.path().join("browser"), world.dir.path().join("seen"));
    std::fs::write(&browser, format!("#!/bin/sh\nprintf %s \"$1\" >'{}'\n", seen.display())).unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let open = |browser: &str| {
        let run = world.command(&["harness", "open"]).env("BROWSER", browser);
        // Without a desktop's programs.
        finish(&run.env("PATH", "/nowhere"))
    };
    let address = format!("file://{}\n", run.join("report.html").canonicalize().unwrap().display());
    let opened = open(browser.to_str().unwrap());
    assert_eq!((opened.code, opened.stdout.as_str()), (0, address.as_str()), "{opened}");
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), address.trim_end());
    // Also where nothing opens it there is an address to click on.
    let opened = open("");
    let expected = "error: nothing is here that opens it: name a browser in BROWSER, or install `xdg-open`\n";
    assert_eq!((opened.code, opened.stdout.as_str(), opened.stderr.as_str()), (2, address.as_str(), expected));
    let opened = open("/bin/false");
    assert_eq!((opened.code, opened.stdout.as_str()), (2, address.as_str()), "{opened}");
    assert!(opened.stderr.starts_with("error: `/bin/false` did not open the report: exit status: 1"), "{opened}");
}

#[test]
fn a_filter_is_no_command_and_an_unknown_command_is_named() {
    let world = World::of_test_data();
    let ended = world.run(&["down"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.outcome("tier::teardown"), Some("ignored"), "{ended}");
    let ended = ask(&world, &["dwon", "run"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
    assert!(ended.stderr.starts_with("error: unrecognized subcommand 'dwon'"), "{ended}");
    assert!(ended.stderr.contains("a similar subcommand exists: 'down'"), "{ended}");
}

/// Through cargo, as it is typed. Whatever was built for `cargo test` is what answers.
#[test]
fn cargo_has_a_short_form_for_it() {
    let world = World::of_test_data();
    recorded(&world);
    let arguments = ["harness", "report", "--history"];
    let mut run = Run::new("cargo", arguments).cwd(checkout()).deadline(Duration::from_secs(600));
    for key in ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"] {
        if let Some(value) = std::env::var_os(key) {
            run = run.env(key, value);
        }
    }
    let ended = finish(&run.env("HARNESS_STATE", world.state()));
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stdout.contains("custom-html"), "{ended}");
}
