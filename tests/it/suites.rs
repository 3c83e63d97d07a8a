//! Whatever needs more of this machine than the harness itself does: a Docker Swarm, the stand-in for abra, a browser, a debugger.
//!
//! One program, so that what waits for Docker and what keeps this machine busy take turns: each suite by itself would leave
//! the machine idle half of its time. Without libtest, because the embedded engine runs its own executable again, and because
//! where something is missing the trials that need it are ignored with the reason; in CI, where nobody reads which trials were
//! ignored, they fail with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot get at what it looks at has failed")]

mod abra;
mod conformance;
mod reports;
mod swarm;

#[allow(dead_code, reason = "each of the test programs uses its part")]
mod calls;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod crash;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod data;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod drills;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod kept;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod outside;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod repo_local;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod runner;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod running;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod sample;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// A named proof. A failed one panics.
type Case = (&'static str, fn());

/// So many at a time: more would make Docker no faster, and some of them start several runs themselves.
const AT_A_TIME: usize = 4;

fn main() -> ExitCode {
    if let Some(code) = harness::engine::embedded::stage() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(AT_A_TIME));
    let needs = Needs { arguments: &arguments };
    let suites = [swarm::trials(&needs), conformance::trials(), reports::trials(&needs), abra::trials(&needs)];
    let conclusion = libtest_mimic::run(&arguments, in_turns(suites.into()));
    abra::fake::remove_proxy_network();
    conclusion.exit_code()
}

/// A trial of each suite in turn, as far as each goes in the time of the longest.
fn in_turns(suites: Vec<Vec<Trial>>) -> Vec<Trial> {
    let mut placed: Vec<(f64, Trial)> = Vec::new();
    for suite in suites {
        let count = suite.len() as f64;
        placed.extend(suite.into_iter().enumerate().map(|(number, trial)| (number as f64 / count, trial)));
    }
    placed.sort_by(|one, other| one.0.total_cmp(&other.0));
    placed.into_iter().map(|(_, trial)| trial).collect()
}

/// Looks for what trials need, if any are to run.
struct Needs<'a> {
    arguments: &'a Arguments,
}

impl Needs<'_> {
    /// What is missing here, unless nothing but names is asked for.
    fn look(&self, missing: impl FnOnce() -> Option<String>) -> Option<String> {
        if self.arguments.list { None } else { missing() }
    }
}

/// A trial of a suite, which fails in CI where something is missing.
fn trial(suite: &str, case: Case, missing: Option<String>) -> Trial {
    ignorable(suite, case, missing, std::env::var("CI").as_deref() == Ok("true"))
}

fn ignorable(suite: &str, (name, prove): Case, missing: Option<String>, must_be_here: bool) -> Trial {
    Trial::ignorable_test(format!("{suite}::{name}"), move || match missing {
        None => {
            prove();
            Ok(Completion::Completed)
        }
        Some(missing) if must_be_here => {
            Err(format!("{missing}, and CI=true says that everything must be here").into())
        }
        Some(missing) => Ok(Completion::ignored_with(missing)),
    })
}
