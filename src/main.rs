//! The `harness` command: `test`, for machines without Rust, and what looks after runs.

#[path = "main/generic.rs"]
mod generic;

fn main() -> std::process::ExitCode {
    harness::program::stand_alone();
    harness::command::main()
}
