//! What a person types, through the real cargo: it starts a test in its package's folder, and nobody types paths from
//! there.

use std::path::Path;

use harness::process::Run;

use crate::runner::{Ended, World, checkout, copy, finish, working_copy};

/// The recipe runner by way of `cargo test`, started in a directory.
fn cargo(world: &World, dir: &Path, arguments: &[&str]) -> Run {
    let manifest = checkout().join("Cargo.toml");
    // The whole workspace, so that cargo chooses the features that `cargo test` has built with, and builds nothing.
    let fixed = ["test", "--offline", "--workspace", "--quiet", "--manifest-path", manifest.to_str().unwrap()];
    let fixed = fixed.iter().chain(&["--test", "recipe", "--"]);
    let mut run = Run::new("cargo", fixed.chain(arguments));
    for key in ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"] {
        if let Some(value) = std::env::var_os(key) {
            run = run.env(key, value);
        }
    }
    run.env.extend(world.command(&[]).env.into_iter().filter(|(key, _)| key.to_string_lossy().starts_with("HARNESS_")));
    run.env("PWD", dir).cwd(dir).deadline(std::time::Duration::from_secs(900))
}

fn ran(ended: &Ended) {
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.outcome("tier::install"), Some("ok"), "{ended}");
}

/// `here` is where the person is, `recipes/my notes` beside it what is tested.
#[test]
fn relative_paths_are_taken_from_where_they_are_typed() {
    let world = World::of_test_data();
    let top = world.dir.path().canonicalize().unwrap();
    let (here, recipe) = (top.join("here"), top.join("recipes/my notes"));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::create_dir_all(recipe.parent().unwrap()).unwrap();
    working_copy(&recipe, "git tag -a -m x");
    let typed = ["--recipe", "notes", "--recipe-dir", "../recipes/my notes", "--tiers", "install"];
    let more = ["--junit", "junit.xml", "--run-dir", "rd"];
    ran(&finish(&cargo(&world, &here, &[&typed[..], &more].concat())));
    let junit = std::fs::read_to_string(here.join("junit.xml")).unwrap();
    assert!(junit.contains("tier::install"), "{junit}");
    assert!(here.join("rd/results.json").is_file());
    // Runs as well, with a slash and without.
    for (command, run) in [("report", "./rd"), ("report", "rd"), ("open", "../here/rd")] {
        let ended = finish(&cargo(&world, &here, &["harness", command, run]).env("BROWSER", "/bin/true"));
        assert_eq!(ended.code, 0, "{ended}");
        assert!(format!("{ended}").contains(&format!("{}/rd/report.html", here.display())), "{ended}");
    }
    let ended = finish(&cargo(&world, &here, &["harness", "report", "./nowhere"]));
    let expected =
        format!("error: no run has left its record in `{}/nowhere`: there is no `events.jsonl`\n", here.display());
    assert!(ended.code != 0 && ended.stderr.contains(&expected), "{ended}");

    // In variables as well, and `PWD` is believed only if it is where cargo was started.
    let root = top.join("own");
    copy(&checkout().join("tests/data/harness.toml"), &root.join("harness.toml"));
    let run = cargo(&world, &here, &["--tiers", "install"]).env("PWD", "/").env("HARNESS_ROOT", "../own");
    let run = run.env("HARNESS_RECIPE", "notes").env("HARNESS_RECIPE_DIR", "../recipes/my notes");
    ran(&finish(&run.env("HARNESS_JUNIT", "by-variable.xml").env("HARNESS_STATE", "state")));
    assert!(here.join("by-variable.xml").is_file() && here.join("state/runs").is_dir());

    // What leads nowhere is told with where it was looked for, and what may have been meant.
    let ended = finish(&cargo(&world, &here, &["--recipe", "notes", "--recipe-dir", "../my notes"]));
    let expected = format!(
        "error: `--recipe-dir ../my notes`: there is no such folder, seen from `{}`; `../recipes/my notes` is a git \
         repository with a compose.yml\n",
        here.display()
    );
    assert!(ended.code != 0 && ended.stderr.contains(&expected), "{ended}");
    let ended = finish(&cargo(&world, &here, &["--recipe", "no-backup", "--junit", "out/junit.xml"]));
    let expected = format!(
        "error: `--junit out/junit.xml` names a file in a directory that does not exist, seen from `{}`\n",
        here.display()
    );
    assert!(ended.code != 0 && ended.stderr.contains(&expected), "{ended}");
}

/// Without cargo a path is taken from the process's own directory, whatever `PWD` says.
#[test]
fn without_cargo_paths_are_taken_from_the_current_directory() {
    let world = World::of_test_data();
    let run = world.command(&["--recipe", "no-backup", "--tiers", "install", "--junit", "junit.xml"]);
    ran(&finish(&run.env("PWD", "/").env("CARGO_MANIFEST_DIR", "/")));
    assert!(world.dir.path().join("junit.xml").is_file());
}

/// The command that a failure prints can be pasted.
#[test]
fn a_folder_with_a_space_is_quoted_in_what_is_to_be_pasted() {
    let world = World::of_test_data();
    let recipe = world.dir.path().join("my notes");
    working_copy(&recipe, "git tag -a -m x");
    let seen = "sed -i 's/image: .*/&\\n    command: [\"static-web\", \"--status\", \"500\"]/' compose.yml";
    let made = finish(&Run::new("sh", ["-ec", seen]).cwd(&recipe));
    assert_eq!(made.code, 0, "{made}");
    let run = world.command(&["--recipe", "notes", "--recipe-dir", "my notes", "--tiers", "install,upgrade"]);
    let ended = finish(&run);
    assert_eq!(ended.code, 101, "{ended}");
    let again = format!(
        "run only this again: cargo test --test recipe -- --recipe notes --recipe-dir '{}' --engine embedded --exact ",
        recipe.canonicalize().unwrap().display()
    );
    assert!(ended.stdout.contains(&again), "{ended}");
}

#[test]
fn an_empty_variable_is_one_that_nobody_has_set() {
    let world = World::of_test_data();
    let plan = |variables: &[(&str, &str)]| {
        let run = world.command(&["--recipe", "no-backup", "--plan"]);
        finish(&variables.iter().fold(run, |run, (key, value)| run.env(key, value)))
    };
    let empty: Vec<(&str, &str)> = [
        "VERSION",
        "REF",
        "PR",
        "STAGES",
        "RECIPE",
        "CI",
        "HARNESS_BASE",
        "HARNESS_REF",
        "HARNESS_PR",
        "HARNESS_TIERS",
        "HARNESS_RECIPE",
        "HARNESS_RECIPE_DIR",
        "HARNESS_JUNIT",
        "HARNESS_WARM",
        "HARNESS_SCREENSHOTS",
        "CCCI_SKIP_GENERIC",
        "HARNESS_CHROMIUM",
        "CCCI_REPO_LOCAL_APPROVED_FILE",
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "ABRA_DIR",
    ]
    .map(|name| (name, ""))
    .into();
    let ended = plan(&empty);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(!ended.stdout.contains("\nenv "), "{ended}");
    // `--engine` comes from the environment in these tests.
    let ended = finish(&world.command(&["--recipe", "no-backup", "--plan"]).env("HARNESS_ENGINE", ""));
    assert_eq!(ended.code, 0, "{ended}");
    assert!(!ended.stdout.contains("as asked for"), "{ended}");
}

#[test]
fn a_short_name_that_is_in_force_stands_in_the_header_and_in_its_error() {
    let world = World::of_test_data();
    let plan = |key: &str, value: &str| finish(&world.command(&["--recipe", "no-backup", "--plan"]).env(key, value));
    let ended = plan("VERSION", "1.0.0+1.27.4");
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stdout.contains("\nenv      `VERSION` is taken for `--base`\n"), "{ended}");
    let ended = plan("HARNESS_BASE", "1.0.0+1.27.4");
    assert!(ended.code == 0 && !ended.stdout.contains("\nenv "), "{ended}");
    // The harness's own name comes first, and the flag before both.
    let run = world.command(&["--recipe", "no-backup", "--plan"]).env("VERSION", "9.9.9");
    let ended = finish(&run.clone().env("HARNESS_BASE", "1.0.0+1.27.4"));
    assert!(ended.code == 0 && !ended.stdout.contains("\nenv "), "{ended}");
    let ended = finish(&run);
    assert_ne!(ended.code, 0, "{ended}");
    let expected = "with `VERSION` for `--base` from the environment: base `9.9.9` is not a published version";
    assert!(format!("{ended}").contains(expected), "{ended}");
}

#[test]
fn what_was_nearly_right_is_guessed() {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "no-backup", "answrs_over_http"]);
    assert_eq!(ended.code, 2, "{ended}");
    assert!(ended.stderr.ends_with("`--list` shows the trials; did you mean `answers_over_http`?\n"), "{ended}");
    let ended = world.run(&["--recipe", "no-backup", "zzz"]);
    assert!(ended.stderr.ends_with("so nothing would be proven: `--list` shows the trials\n"), "{ended}");

    // A name that no folder has is asked for at the forge, which is out of reach here.
    let root = world.dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::os::unix::fs::symlink(checkout().join("tests/data/recipes"), root.join("recipes")).unwrap();
    let sources = "[recipes]\nsources = [\"recipes\", \"https://127.0.0.1:1/{recipe}.git\"]\n";
    std::fs::write(root.join("harness.toml"), sources).unwrap();
    let ended = finish(&world.command(&["--recipe", "no-bakup"]).env("HARNESS_ROOT", &root));
    assert_ne!(ended.code, 0, "{ended}");
    let meant = "no recipe `no-bakup` here; did you mean `no-backup`?: ";
    assert!(format!("{ended}").contains(meant), "{ended}");
    assert!(format!("{ended}").contains("failed to fetch from `https://127.0.0.1:1/no-bakup.git`"), "{ended}");

    // Of the runs the newest are named.
    ran(&world.run(&["--recipe", "no-backup", "--tiers", "install"]));
    let known = std::fs::read_dir(world.state().join("runs")).unwrap().flatten().map(|run| run.file_name());
    let known: Vec<String> =
        known.map(|name| name.into_string().unwrap()).filter(|it| it.contains("no-backup")).collect();
    let down = Run::new(env!("CARGO_BIN_EXE_harness-command"), ["down", "no-backup"]);
    let ended = finish(&down.env("HARNESS_STATE", world.state()));
    assert_eq!(ended.code, 2, "{ended}");
    assert!(ended.stderr.contains("holds the runs, the newest are ") && ended.stderr.contains(&known[0]), "{ended}");
}

#[test]
fn help_that_nobody_reads_to_its_end_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let runner = World::of_test_data().command(&["--help"]).program;
    let output = harness::process::command(runner).arg("--help").stdout(writer).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Debian's slim images have none, and the app is asked over plain HTTP.
#[test]
fn a_machine_without_certificates_can_ask_over_plain_http() {
    let world = World::of_test_data();
    let run = world.command(&["--recipe", "no-backup", "--tiers", "install"]);
    let ended = finish(&run.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/nowhere"));
    ran(&ended);
    assert_eq!(ended.outcome("generic::install::answers_over_http"), Some("ok"), "{ended}");
}
