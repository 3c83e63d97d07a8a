//! How people type what a message tells them to type.

use crate::program;

/// The first argument of a test executable that is asked for a command instead of its trials.
pub const MARK: &str = "harness";

/// The line for one of the harness's own commands, as `down ID`: one that answers at once, because it builds nothing.
pub fn harness(command: &str) -> String {
    // `.cargo/config.toml` has the alias. Somebody who has the program has no need of cargo, and perhaps none at all.
    if program::stands_alone() { format!("harness {command}") } else { format!("cargo harness {command}") }
}
