//! One set of features for every command: what one of them has built, no other builds a second time.
//!
//! Dependencies of tests ask for features of crates that the harness uses, too, and cargo hears of them only when it
//! builds tests. What they ask for is named in the harness's own `[dependencies]`.

use std::collections::{BTreeMap, BTreeSet};

use harness::process::Run;
use serde_json::Value;

use crate::runner::{checkout, finish};

/// What is built, by crate, version and target, with features and settings of each build of it.
type Built = BTreeMap<String, BTreeSet<String>>;

/// What a command would build, as cargo itself says it.
fn built_by(command: &[&str]) -> Built {
    let fixed = ["--offline", "--locked", "-Z", "unstable-options", "--unit-graph"];
    let mut run = Run::new("cargo", command.iter().chain(&fixed)).cwd(checkout());
    for key in ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"] {
        if let Some(value) = std::env::var_os(key) {
            run = run.env(key, value);
        }
    }
    // `cargo tree` would say the features, and not the settings. Nothing is compiled with this.
    let ended = finish(&run.env("RUSTC_BOOTSTRAP", "1"));
    assert_eq!(ended.code, 0, "{ended}");
    built(&serde_json::from_str(&ended.stdout).unwrap())
}

fn built(graph: &Value) -> Built {
    assert_eq!(graph["version"], 1, "cargo says it in another way now");
    let mut built = Built::new();
    // Tests of a crate are units of their own, which only tests need.
    for unit in graph["units"].as_array().unwrap().iter().filter(|unit| unit["mode"] != "test") {
        let package = unit["pkg_id"].as_str().unwrap();
        let package = package.rsplit('/').next().unwrap();
        let name = format!("{package} ({})", unit["target"]["name"].as_str().unwrap());
        let mut profile = unit["profile"].clone();
        // `dev` and `test` are two names of the same settings.
        profile.as_object_mut().unwrap().remove("name");
        built.entry(name).or_default().insert(format!("{} with {profile}", unit["features"]));
    }
    built
}

/// One line for every crate that is in both, and not alike.
fn differences(one: &Built, other: &Built) -> Vec<String> {
    let differs = |(name, builds): (&String, &BTreeSet<String>)| {
        let others = other.get(name).filter(|others| *others != builds)?;
        let only = |these: &BTreeSet<String>, those: &BTreeSet<String>| {
            these.difference(those).cloned().collect::<Vec<_>>().join(", and ")
        };
        Some(format!("{name}: [{}] and [{}]", only(builds, others), only(others, builds)))
    };
    one.iter().filter_map(differs).collect()
}

#[test]
fn what_one_command_has_built_no_other_builds_again() {
    let run = built_by(&["build", "--bin", "harness"]);
    assert!(run.len() > 150, "the harness has more dependencies than {}", run.len());
    for command in [
        &["build"][..],
        &["test", "--no-run", "--test", "recipe"],
        &["test", "--no-run"],
        &["test", "--no-run", "-p", "recipe-harness"],
        &["test", "--no-run", "-p", "recipe-tests"],
        &["test", "--no-run", "-p", "harness-it"],
    ] {
        let differences = differences(&run, &built_by(command));
        assert!(
            differences.is_empty(),
            "`cargo run` and `cargo {}` would each build their own; name what differs in [dependencies] of Cargo.toml:\n{}",
            command.join(" "),
            differences.join("\n")
        );
    }
}

#[test]
fn a_crate_that_only_tests_want_otherwise_is_named() {
    let unit = |id: &str, mode: &str, features: &[&str], debug: u8, profile: &str| {
        let target = serde_json::json!({ "name": "it" });
        let profile = serde_json::json!({ "name": profile, "debuginfo": debug });
        serde_json::json!({ "pkg_id": id, "target": target, "mode": mode, "features": features, "profile": profile })
    };
    let graph = |units: Vec<Value>| built(&serde_json::json!({ "version": 1, "units": units }));
    let run = graph(vec![
        unit("index/a@1", "build", &["std"], 1, "dev"),
        unit("index/b@1", "build", &[], 0, "dev"),
        unit("index/c@1", "build", &[], 1, "dev"),
    ]);
    let tests = graph(vec![
        unit("index/a@1", "build", &["std", "alloc"], 1, "test"),
        unit("index/b@1", "build", &[], 1, "test"),
        unit("index/c@1", "build", &[], 1, "test"),
        unit("index/c@1", "test", &["more"], 1, "test"),
        unit("index/d@1", "build", &[], 1, "test"),
    ]);
    let expected = [
        r#"a@1 (it): [["std"] with {"debuginfo":1}] and [["std","alloc"] with {"debuginfo":1}]"#,
        r#"b@1 (it): [[] with {"debuginfo":0}] and [[] with {"debuginfo":1}]"#,
    ];
    assert_eq!(differences(&run, &tests), expected);
    assert_eq!(differences(&run, &run), Vec::<String>::new());
}
