//! Documents that are made from the code say what the code says.

use crate::runner::checkout;

/// Compares a document with what it is made from; `BLESS=1` writes it again.
pub fn check(name: &str, expected: &str) {
    let path = checkout().join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{name} is out of date: `BLESS=1 cargo test` writes it again, which now would be:\n{expected}"
    );
}

#[test]
fn the_configuration_reference_is_up_to_date() {
    check("docs/configuration.md", &harness::config::docs::reference());
}

#[test]
fn the_schemas_are_up_to_date() {
    let schemas = harness::config::docs::schemas();
    for (name, schema) in schemas.into_iter().chain([("results.schema.json", harness::report::results::schema())]) {
        check(&format!("schemas/{name}"), &(serde_json::to_string_pretty(&schema).unwrap() + "\n"));
    }
}

#[test]
fn the_table_of_planted_faults_is_up_to_date() {
    check("docs/sabotage.md", &harness::sabotage::docs::reference());
}

/// What security promises is shown by tests; one that is renamed must not leave a promise behind without any.
#[test]
fn the_tests_that_the_threat_table_names_exist() {
    let text = std::fs::read_to_string(checkout().join("docs/security.md")).unwrap();
    let table = text.split("## Threat by threat").nth(1).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).skip(1);
    let rust = sources();
    let mut named = 0;
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for name in tests.split('`').skip(1).step_by(2) {
            let parts: Vec<&str> = name.split("::").filter(|part| !["*", "tests"].contains(part)).collect();
            for (at, part) in parts.iter().enumerate() {
                let is_function =
                    at + 1 == parts.len() && rust.iter().any(|(_, text)| text.contains(&format!("fn {part}(")));
                let is_trial = rust
                    .iter()
                    .any(|(_, text)| text.contains(&format!("::{part}\"")) || text.contains(&format!("(\"{part}\"")));
                let is_file = rust.iter().any(|(path, _)| path.ends_with(format!("{part}.rs")));
                assert!(
                    is_function || is_trial || is_file || *part == "generic",
                    "there is no `{part}`, as in `{name}`"
                );
            }
            named += 1;
        }
    }
    assert!(named > 20, "only {named} tests are named");
}

/// Every file of Rust that holds tests or what they are about.
fn sources() -> Vec<(std::path::PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<_> =
        ["src", "tests/it", "engine-tests", "generic", "fuzz/fuzz_targets"].map(|it| checkout().join(it)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                found.push((path.clone(), std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}
