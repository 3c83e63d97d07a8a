//! The recipe runner: every assertion of `generic/` and `overlays/`, and the harness that runs them.

include!(concat!(env!("OUT_DIR"), "/assertions.rs"));

fn main() -> std::process::ExitCode {
    harness::main()
}
