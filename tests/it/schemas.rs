//! What is published as a schema accepts what is really written, and refuses what the harness refuses.

use serde_json::Value;

use crate::runner::{World, checkout};

fn validator(name: &str) -> jsonschema::Validator {
    let schema = std::fs::read_to_string(checkout().join("schemas").join(name)).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap()
}

fn errors(name: &str, document: &Value) -> Vec<String> {
    validator(name).iter_errors(document).map(|error| error.to_string()).collect()
}

fn toml(text: &str) -> Value {
    serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap()
}

#[test]
fn the_results_of_every_recorded_run_and_of_a_new_one_are_valid() {
    let mut files = Vec::new();
    for run in std::fs::read_dir(checkout().join("tests/data/runs")).unwrap().flatten() {
        files.push(run.path().join("results.json"));
    }
    assert!(files.len() >= 5, "{files:?}");
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "first-release", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    let run = std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap();
    files.push(run.path().join("results.json"));
    for file in files {
        let results: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(errors("results.schema.json", &results), Vec::<String>::new(), "{}", file.display());
    }
}

#[test]
fn results_without_a_verdict_are_refused() {
    let green = std::fs::read_to_string(checkout().join("tests/data/runs/green/results.json")).unwrap();
    let mut green: Value = serde_json::from_str(&green).unwrap();
    green.as_object_mut().unwrap().remove("verdict");
    assert_eq!(errors("results.schema.json", &green), ["\"verdict\" is a required property"]);
}

#[test]
fn every_configuration_file_of_the_checkout_is_valid() {
    let mut found = 0;
    for top in ["", "tests/data", "tests/data/swarm"] {
        let root = checkout().join(top);
        let overlays = std::fs::read_dir(root.join("overlays")).into_iter().flatten().flatten();
        let recipes = overlays.map(|entry| (entry.path().join("recipe.toml"), "recipe.schema.json"));
        for (file, schema) in recipes.chain([(root.join("harness.toml"), "harness.schema.json")]) {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            assert_eq!(errors(schema, &toml(&text)), Vec::<String>::new(), "{}", file.display());
            found += 1;
        }
    }
    assert!(found >= 3, "only {found} files were found");
}

#[test]
fn mistakes_that_the_harness_refuses_are_refused_by_the_schema_too() {
    for (schema, text, error) in [
        ("harness.schema.json", "engin = \"swarm\"", "Additional properties are not allowed ('engin' was unexpected)"),
        (
            "harness.schema.json",
            "engine = \"podman\"",
            "\"podman\" is not one of \"auto\", \"abra\" or 2 other candidates",
        ),
        ("recipe.schema.json", "[http]\npaht = \"/\"", "Additional properties are not allowed ('paht' was unexpected)"),
        ("recipe.schema.json", "[http]\nstatus = [\"ok\"]", "\"ok\" is not of type \"integer\""),
    ] {
        assert_eq!(errors(schema, &toml(text)), [error], "{text}");
    }
}
