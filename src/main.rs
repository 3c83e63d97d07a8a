//! The `harness` command: what is not a test run.

fn main() -> std::process::ExitCode {
    harness::command::main()
}
