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
