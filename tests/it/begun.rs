//! `harness init`, which begins an overlay, and `harness exec` and `harness logs`, which look into an app that is up.

use std::path::Path;

use harness::process::Run;

use crate::repo_local::with_overlay_of;
use crate::runner::{Ended, World, checkout, finish};

fn harness(world: &World, root: &Path, arguments: &[&str], stdin: &str) -> Ended {
    let run = Run::new(env!("CARGO_BIN_EXE_harness-command"), arguments);
    let run = run.env("HARNESS_STATE", world.state()).env("HARNESS_ROOT", root);
    finish(&Run { stdin: stdin.into(), ..run })
}

#[test]
fn a_first_overlay_is_written_once_and_green() {
    let (root, world) = with_overlay_of("another", &[]);
    let folder = root.path().join("overlays/keeps-notes");
    let begun = harness(&world, root.path(), &["init", "keeps-notes"], "");
    assert_eq!(begun.code, 0, "{begun}");
    assert!(begun.stderr.contains(&format!("wrote {}/recipe.toml\n", folder.display())), "{begun}");
    let toml = std::fs::read_to_string(folder.join("recipe.toml")).unwrap();
    for line in [
        "# service `app`: notes:1.0.1; volume `notes` at /srv/notes\n",
        "[http]\npath = \"/index\"\n",
        "name = \"first_check\"\nservice = \"app\"\nwrite = \"/srv/notes/harness-first-check.txt\"\ntext = \"kept\"\n",
    ] {
        assert!(toml.contains(line), "{toml}");
    }
    let again = harness(&world, root.path(), &["init", "keeps-notes"], "");
    assert_eq!(again.code, 2, "{again}");
    let expected = format!(
        "error: `{}/recipe.toml` is there already, and what somebody wrote is not written over\n",
        folder.display()
    );
    assert_eq!(again.stderr, expected);
    assert_eq!(std::fs::read_to_string(folder.join("recipe.toml")).unwrap(), toml);
    let ended = world.run(&["--recipe", "keeps-notes"]);
    assert_eq!(ended.code, 0, "{ended}");
    for trial in ["upgrade::data_first_check", "restore::data_first_check", "install::test_install_first"] {
        assert_eq!(ended.outcome(&format!("overlays::keeps_notes::{trial}")), Some("ok"), "{ended}");
    }
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn a_database_is_waited_for_and_nothing_is_written_into_its_folder() {
    let root = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(checkout().join("recipes"), root.path().join("recipes")).unwrap();
    std::fs::copy(checkout().join("harness.toml"), root.path().join("harness.toml")).unwrap();
    let world = World::new(root.path().to_owned());
    let begun = harness(&world, root.path(), &["init", "guestbook"], "");
    assert_eq!(begun.code, 0, "{begun}");
    let toml = std::fs::read_to_string(root.path().join("overlays/guestbook/recipe.toml")).unwrap();
    assert!(toml.contains("[[ready]]\nservice = \"db\"\ntcp = 5432\n"), "{toml}");
    assert!(!toml.contains("[[data]]") && toml.contains("No service but a database has a volume"), "{toml}");
    let unknown = harness(&world, root.path(), &["init", "guestbok"], "");
    assert_eq!(unknown.code, 2, "{unknown}");
    assert!(unknown.stderr.starts_with("error: ") && unknown.stderr.contains("guestbok"), "{unknown}");
    assert!(!root.path().join("overlays/guestbok").exists());
}

#[test]
fn an_app_that_was_left_up_can_be_looked_into() {
    const SECRET: &str = "canary-secret-that-must-turn-up-nowhere2";
    let steps = format!("printf '%s' {SECRET} > \"$APP_SECRETS_DIR/token\"\n");
    let (root, world) = with_overlay_of("whole", &[("install_steps.sh", &steps)]);
    let kept = world.run(&["--recipe", "whole", "--tiers", "install", "--keep"]);
    assert_eq!(kept.code, 0, "{kept}");
    let runs = std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap();
    let id = runs.file_name().into_string().unwrap();
    let look = |arguments: &[&str], stdin: &str| harness(&world, root.path(), arguments, stdin);
    let said = look(&["exec", &id, "app", "--", "sh", "-c", "echo out; echo err >&2; exit 3"], "");
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (3, "out\n", "err\n"));
    let piped = look(&["exec", "-i", &id, "app", "--", "cat"], "in\n");
    assert_eq!((piped.code, piped.stdout.as_str()), (0, "in\n"), "{piped}");
    let secret = look(&["exec", &id, "app", "--", "cat", "/run/secrets/token"], "");
    assert_eq!((secret.code, secret.stdout.as_str()), (0, "***"), "{secret}");
    let to_log = "cat /run/secrets/token > /proc/1/fd/1; printf ' \\033[2J\\n' > /proc/1/fd/1";
    let written = look(&["exec", &id, "app", "--", "sh", "-c", to_log], "");
    assert_eq!(written.code, 0, "{written}");
    let logs = look(&["logs", &id, "app", "--tail", "1"], "");
    assert_eq!((logs.code, logs.stdout.as_str()), (0, "*** \\u{1b}[2J\n"), "{logs}");
    let unknown = look(&["logs", &id, "ap"], "");
    assert_eq!(unknown.code, 2, "{unknown}");
    assert!(unknown.stderr.starts_with("error: ") && unknown.stderr.contains("`ap`"), "{unknown}");
    let down = look(&["down", &id], "");
    assert_eq!(down.code, 0, "{down}");
    let late = look(&["exec", &id, "app", "--", "true"], "");
    let expected = format!("error: run `{id}` is not up: `--keep` or HARNESS_WARM leaves an app up\n");
    assert_eq!((late.code, late.stderr), (2, expected));
    assert_eq!(world.leftovers(), Vec::<String>::new());
}
