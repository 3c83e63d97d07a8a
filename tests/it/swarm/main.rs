//! Whole runs on a real Docker Swarm: green ones, broken ones, and broken-off ones.
//!
//! A target of its own without libtest, because where there is no Swarm its trials are ignored with the reason, and in
//! CI, where nobody reads which trials were ignored, they fail with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot get at what it looks at has failed")]

mod auto;
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../crash.rs"]
mod crash;
mod crashes;
mod databases;
mod docker;
#[path = "../drills.rs"]
mod drills;
mod faults;
mod full;
mod green;
mod hostile;
mod neighbour;
mod proxy;
mod red;
mod registry;
mod remote;
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../repo_local.rs"]
mod repo_local;
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../runner.rs"]
mod runner;
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../running.rs"]
mod running;
mod sabotage;
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../sample.rs"]
mod sample;
mod ssh;
mod teardown;
mod traefik;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// A named proof. A failed one panics.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each waits for Docker most of the time, which in turn waits for nothing but its own monitors.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let missing = if arguments.list { None } else { docker::missing() };
    let cases = [
        auto::CASES,
        crashes::CASES,
        databases::CASES,
        faults::CASES,
        green::CASES,
        hostile::CASES,
        neighbour::CASES,
        red::CASES,
        sabotage::CASES,
        teardown::CASES,
        traefik::CASES,
        remote::CASES,
    ]
    .concat();
    let mut trials: Vec<Trial> = cases.into_iter().map(|case| trial(case, missing.clone())).collect();
    // Some need more than a Swarm.
    for (cases, missing_too) in
        [(registry::CASES, registry::missing as fn() -> _), (full::CASES, full::missing), (ssh::CASES, ssh::missing)]
    {
        let missing = missing.clone().or_else(|| if arguments.list { None } else { missing_too() });
        trials.extend(cases.iter().map(|case| trial(*case, missing.clone())));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial((name, prove): Case, missing: Option<String>) -> Trial {
    Trial::ignorable_test(name, move || match missing {
        None => {
            prove();
            Ok(Completion::Completed)
        }
        Some(missing) if std::env::var("CI").as_deref() == Ok("true") => {
            Err(format!("{missing}, and CI=true says that everything must be here").into())
        }
        Some(missing) => Ok(Completion::ignored_with(missing)),
    })
}
