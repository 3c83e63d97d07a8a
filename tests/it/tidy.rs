//! Rules of the code that no compiler checks.

use std::path::{Path, PathBuf};

use crate::runner::checkout;

/// Every Rust file of the checkout.
fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for top in ["src", "macros", "tests", "generic", "overlays", "benches"] {
        collect(&checkout().join(top), &mut files);
    }
    assert!(files.len() > 60, "the files were not found");
    files
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn every_file_says_its_job_first() {
    for file in rust_files() {
        assert!(text(&file).starts_with("//! "), "{} does not open with `//!`", file.display());
    }
}

#[test]
fn files_stay_short_enough_to_be_read() {
    for file in rust_files() {
        let text = text(&file);
        let code = text.split("#[cfg(test)]").next().unwrap().lines().count();
        let is_test = file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "engine-tests")
            || file.to_string_lossy().ends_with("tests.rs");
        assert!(is_test || code <= 400, "{} has {code} lines without its tests, 400 are allowed", file.display());
    }
}

/// Who may import whom, as ARCHITECTURE.md has it: each module, and what it must not know.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("recipe", &["config", "plan", "assertion", "engine", "keeper", "app", "client", "runner", "report", "prepare"]),
    ("config", &["plan", "assertion", "engine", "keeper", "app", "client", "runner", "report", "prepare"]),
    ("plan", &["engine", "keeper", "app", "client", "runner", "report", "prepare"]),
    ("engine", &["config", "plan", "assertion", "keeper", "app", "client", "runner", "report", "prepare"]),
    ("script", &["plan", "assertion", "keeper", "app", "client", "runner", "report", "prepare"]),
    ("assertion", &["engine", "plan", "client", "runner", "report", "prepare"]),
    ("keeper", &["assertion", "app", "client", "runner", "report", "prepare"]),
    ("app", &["plan", "assertion", "client", "runner", "report", "prepare"]),
    ("client", &["assertion", "runner", "report", "prepare"]),
    ("sabotage", &["config", "plan", "assertion", "engine", "keeper", "app", "client", "runner", "report", "prepare"]),
    ("prepare", &["assertion", "app", "client", "runner", "report"]),
    ("doctor", &["plan", "assertion", "keeper", "client", "runner", "report", "prepare"]),
];

#[test]
fn imports_follow_the_table() {
    let src = checkout().join("src");
    for file in rust_files().iter().filter(|file| file.starts_with(&src)) {
        let module = file.strip_prefix(&src).unwrap().components().next().unwrap();
        let module = module.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        let forbidden = FORBIDDEN.iter().find(|(of, _)| *of == module).map_or(&[][..], |(_, forbidden)| forbidden);
        for other in forbidden {
            let import = format!("crate::{other}");
            let hit = text(file)
                .lines()
                .any(|line| line.contains(&format!("{import}::")) || line.contains(&format!("{import};")));
            assert!(!hit, "{} imports `{import}`, which `{module}` must not know", file.display());
        }
    }
}

#[test]
fn nobody_but_the_commands_knows_how_to_announce() {
    let src = checkout().join("src");
    for file in rust_files().iter().filter(|file| file.starts_with(&src)) {
        let module = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        let may = module.starts_with("announce") || module.starts_with("command");
        assert!(may || !text(file).contains("crate::announce"), "{} imports `crate::announce`", file.display());
    }
}

#[test]
fn nothing_sleeps_for_a_fixed_time() {
    for file in rust_files() {
        let allowed = ["src/poll.rs", "src/http.rs", "tests/it/tidy.rs"];
        if allowed.iter().any(|allowed| file.ends_with(allowed)) {
            continue;
        }
        let text = text(&file);
        let code = text.split("#[cfg(test)]").next().unwrap();
        assert!(!code.contains("thread::sleep"), "{} sleeps: poll with a deadline instead", file.display());
    }
}

/// `scripts/fresh` in a folder with this README.
fn fresh(readme: &str, arguments: &[&str]) -> crate::runner::Ended {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("scripts/fresh");
    crate::runner::copy(&checkout().join("scripts/fresh"), &script);
    std::fs::write(dir.path().join("README.md"), readme).unwrap();
    let run = harness::process::Run::new("bash", [&[script.to_str().unwrap()], arguments].concat());
    crate::runner::finish(&run)
}

#[test]
fn a_fresh_clone_is_tried_with_what_the_readme_says() {
    let readme = text(&checkout().join("README.md"));
    let unknown = fresh(&readme, &["--secnod"]);
    let expected = "scripts/fresh: unknown argument `--secnod`: there are --first, --nextest and --also COMMAND\n";
    assert_eq!((unknown.code, unknown.stderr.as_str()), (2, expected));
    for command in ["cargo test --test recipe -- --recipe custom-html", "cargo test"] {
        let other = fresh(&readme.replace(&format!("\n    {command}\n"), "\n    cargo something else\n"), &[]);
        let expected = format!("scripts/fresh: `{command}` does not stand in README.md on a line of its own\n");
        assert_eq!((other.code, other.stderr), (2, expected));
    }
}
