//! The files of `docs/ci` are what they say: each is read as its CI server would read it, and its lines of shell are run,
//! with the program on `PATH`, in a folder with a root or in a clone of a recipe.

use std::path::{Path, PathBuf};

use harness::process::Run;
use serde_json::Value;

use crate::program::Desk;
use crate::runner::{Ended, checkout, finish};

/// What only the machine of that server can do.
const FOR_THE_MACHINE: [&str; 1] = ["sudo sysctl"];

fn text(name: &str) -> String {
    std::fs::read_to_string(checkout().join("docs/ci").join(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&text(name)).unwrap_or_else(|error| panic!("docs/ci/{name}: {error}"))
}

/// Every text at a path, in which `*` is each entry of a list or a table.
fn at<'a>(value: &'a Value, path: &[&str]) -> Vec<&'a str> {
    let Some((key, rest)) = path.split_first() else { return value.as_str().into_iter().collect() };
    match (*key, value) {
        ("*", Value::Array(list)) => list.iter().flat_map(|it| at(it, rest)).collect(),
        ("*", Value::Object(table)) => table.values().flat_map(|it| at(it, rest)).collect(),
        (key, value) => value.get(key).into_iter().flat_map(|it| at(it, rest)).collect(),
    }
}

/// The lines of shell of a file, and the reports that it collects.
fn lines(name: &str, path: &[&str]) -> Vec<String> {
    let lines: Vec<String> = match name {
        "Jenkinsfile" => text(name).split("'''").skip(1).step_by(2).map(|it| it.trim().to_owned()).collect(),
        _ => at(&yaml(name), path).into_iter().map(str::to_owned).collect(),
    };
    assert!(lines.iter().any(|line| line.contains("harness test")), "docs/ci/{name} tests nothing: {lines:?}");
    lines
}

/// Runs the lines one after another, as a server does: the first that fails ends it.
fn perform(desk: &Desk, cwd: &Path, lines: &[String], engine: &str) -> Ended {
    let bin = desk.path("bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_harness-command"), bin.join("harness")).unwrap();
    }
    let lines: Vec<&str> =
        lines.iter().map(String::as_str).filter(|it| !FOR_THE_MACHINE.iter().any(|no| it.starts_with(no))).collect();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let run = Run::new("sh", ["-ec", &lines.join("\n")]).cwd(cwd).env("PATH", path).env("RECIPES", "custom-html");
    let run = run.env("HOME", desk.path("")).env("HARNESS_STATE", desk.path("state")).env("HARNESS_ENGINE", engine);
    finish(&run.env("HARNESS_SCREENSHOTS", "0").deadline(std::time::Duration::from_secs(120)))
}

/// A folder as such a repository has it: settings, and the recipe where they lead.
fn workspace(desk: &Desk) -> PathBuf {
    let root = desk.root("workspace");
    crate::runner::copy(&checkout().join("recipes/custom-html"), &root.join("recipes/custom-html"));
    let git = "git init -q . && git -c user.name=m -c user.email=m@example.org commit -q --allow-empty -m x && git remote \
               add origin .";
    let made = finish(&Run::new("sh", ["-ec", git]).cwd(&root));
    assert_eq!(made.code, 0, "{made}");
    root
}

fn tests_the_recipe(name: &str, path: &[&str]) {
    let desk = Desk::new();
    let root = workspace(&desk);
    let lines = lines(name, path);
    let ended = perform(&desk, &root, &lines, "embedded");
    assert_eq!(ended.code, 0, "docs/ci/{name}\n{ended}");
    assert!(root.join("reports/custom-html/report.html").is_file(), "docs/ci/{name}\n{ended}");
    let junit = std::fs::read_to_string(root.join("junit.xml")).unwrap();
    assert!(junit.contains("custom-html.upgrade"), "docs/ci/{name}\n{junit}");
    // A recipe that cannot be found ends the step, with the number that says whose fault it is.
    let wrong: Vec<String> = lines.iter().map(|line| line.replace("$RECIPES", "Custom!")).collect();
    let ended = perform(&desk, &root, &wrong, "embedded");
    assert_eq!(ended.code, 2, "docs/ci/{name}\n{ended}");
}

#[test]
fn gitlabs_file_tests_and_keeps_its_reports() {
    tests_the_recipe("gitlab-ci.yml", &["recipes", "script", "*"]);
    let file = yaml("gitlab-ci.yml");
    assert_eq!(at(&file, &["recipes", "artifacts", "reports", "junit"]), ["junit.xml"]);
    assert_eq!(at(&file, &["recipes", "artifacts", "paths", "*"]), ["reports"]);
    assert_eq!(file["variables"]["GIT_DEPTH"], "0", "a shallow clone hides what to upgrade from");
}

#[test]
fn forgejos_and_githubs_files_test() {
    for name in ["forgejo.yml", "github.yml"] {
        tests_the_recipe(name, &["jobs", "*", "steps", "*", "run"]);
        let file = yaml(name);
        let checkout = &file["jobs"]["recipes"]["steps"][0]["with"];
        assert_eq!((&checkout["fetch-depth"], &checkout["fetch-tags"]), (&0.into(), &true.into()), "{name}");
    }
}

#[test]
fn woodpeckers_drones_and_jenkins_files_test() {
    tests_the_recipe("woodpecker.yml", &["steps", "*", "commands", "*"]);
    tests_the_recipe("drone.yml", &["steps", "*", "commands", "*"]);
    tests_the_recipe("Jenkinsfile", &[]);
}

#[test]
fn a_recipes_own_repository_tests_itself() {
    let desk = Desk::new();
    let recipe = desk.recipe("notes");
    // No server has uncommitted changes.
    let commit = "git -c user.name=m -c user.email=m@example.org commit -qam 'Next'";
    assert_eq!(finish(&Run::new("sh", ["-ec", commit]).cwd(&recipe)).code, 0);
    // Beside the clone, as an administrator of the runner has it: the image stands in for one that would be pulled.
    desk.write("harness.toml", "[embedded.images]\nnginx = \"builtin:static-web\"\n");
    let lines = lines("own-repository.yml", &["jobs", "*", "steps", "*", "run"]);
    let lines: Vec<String> =
        lines.iter().map(|line| line.replace("${{ github.event.repository.name }}", "notes")).collect();
    let ended = perform(&desk, &recipe, &lines, "embedded");
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.outcome("generic::upgrade::deployed_head"), Some("ok"), "{ended}");
    assert!(recipe.join("reports/notes/results.json").is_file(), "{ended}");
}

#[test]
fn reports_of_an_earlier_run_do_not_stay() {
    let desk = Desk::new();
    let root = workspace(&desk);
    let old = desk.write("workspace/reports/custom-html/report.html", "of yesterday");
    let mine = desk.write("workspace/reports/custom-html/notes.txt", "mine");
    let line = "harness test custom-html --report-dir reports --tiers install";
    let ended = perform(&desk, &root, &[line.into()], "embedded");
    assert_eq!(ended.code, 0, "{ended}");
    assert!(!std::fs::read_to_string(&old).unwrap().contains("of yesterday"));
    assert_eq!(std::fs::read_to_string(mine).unwrap(), "mine", "what is not the harness's stays");
    // Where nothing can be written the run is no success, whatever the recipe did.
    desk.write("workspace/taken", "a file");
    let line = "harness test custom-html --report-dir taken --tiers install";
    let ended = perform(&desk, &root, &[line.into()], "embedded");
    assert_ne!(ended.code, 0, "{ended}");
    assert!(ended.stderr.contains("`--report-dir taken` is a file"), "{ended}");
}
