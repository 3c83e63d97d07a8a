//! Whole runs that deploy through abra, for which `fake-abra` stands in: on a real Swarm, with the habits of abra that
//! mislead.
//!
//! A target of its own without libtest, because where there is no Swarm its trials are ignored with the reason, and in
//! CI, where nobody reads which trials were ignored, they fail with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot get at what it looks at has failed")]

#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../swarm/docker.rs"]
mod docker;
mod doctor;
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../drills.rs"]
mod drills;
mod fake;
mod green;
mod quirks;
mod refused;
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../swarm/registry.rs"]
mod registry;
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../swarm/remote.rs"]
mod remote;
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
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../swarm/traefik.rs"]
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
    if missing.is_none() && !arguments.list {
        fake::make_proxy_network();
    }
    let cases = [green::CASES, quirks::CASES, refused::CASES, sabotage::CASES].concat();
    let mut trials: Vec<Trial> = cases.into_iter().map(|case| trial(case, missing.clone())).collect();
    let missing = missing.or_else(|| if arguments.list { None } else { doctor::missing() });
    trials.extend(doctor::CASES.iter().map(|case| trial(*case, missing.clone())));
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
