//! How people type what a message tells them to type.

use std::path::Path;

/// The first argument of a test executable that is asked for a command instead of its trials.
pub const MARK: &str = "harness";

/// The line for one of the harness's own commands, as `down ID`: one that answers at once, because it builds nothing.
pub fn harness(command: &str) -> String {
    let own = std::env::current_exe().ok();
    let is_harness = own.as_deref().and_then(Path::file_stem).is_some_and(|name| name == MARK);
    // `.cargo/config.toml` has the alias. Somebody who has the program has no need of cargo, and perhaps none at all.
    if is_harness { format!("harness {command}") } else { format!("cargo harness {command}") }
}
