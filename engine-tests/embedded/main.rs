//! Tests of the embedded engine, each as the user who runs them and, when that is root, as an ordinary user, too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "this program is its own reporter")]

mod cage;
mod containers;
mod data;
mod death;
mod images;
mod network;
mod support;
mod updates;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, run};

fn main() -> ExitCode {
    if let Some(code) = harness::engine::embedded::stage() {
        return code;
    }
    if let [_, command, dir] = std::env::args_os().collect::<Vec<_>>().as_slice() {
        match command.to_str() {
            Some("__hold") => return death::hold(Path::new(dir)),
            Some("__hold_replaced") => {
                std::fs::remove_file(std::env::current_exe().unwrap()).unwrap();
                return death::hold(Path::new(dir));
            }
            Some("__preflight") => return death::show_preflight(Path::new(dir)),
            _ => {}
        }
    }
    let mut arguments = Arguments::from_args();
    // Most of each is waiting: for a process to end, for an update to be watched long enough.
    arguments.test_threads = arguments.test_threads.or(Some(6));
    let modules = [
        cage::trials(),
        containers::trials(),
        updates::trials(),
        network::trials(),
        data::trials(),
        images::trials(),
        death::trials(),
    ];
    let mut trials: Vec<_> = modules.into_iter().flatten().collect();
    trials.extend(support::as_ordinary_user(&trials));
    run(&arguments, trials).exit_code()
}
