//! Documents that are made from the code say what the code says.

use crate::runner::checkout;

/// Compares a document with what it is made from; `BLESS=1` writes it again.
fn check(name: &str, expected: &str) {
    let path = checkout().join("docs").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/{name} is out of date: `BLESS=1 cargo test` writes it again");
}

#[test]
fn the_configuration_reference_is_up_to_date() {
    check("configuration.md", &harness::config::docs::reference());
}
