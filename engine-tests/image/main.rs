//! Images of the embedded engine: layouts, layers and registries, as root and as an ordinary user.
//!
//! A target of its own without libtest, because unpacking starts this very executable again as its stage.

mod cache;
mod fixture;
mod layers;
mod layout;
mod ordinary_user;
mod registry;

use std::process::ExitCode;

use harness::engine::embedded::image;
use libtest_mimic::{Arguments, Trial};

/// A named proof.
type Case = (&'static str, fn() -> anyhow::Result<()>);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = args.first().and_then(|name| image::stage(name)) {
        return code;
    }
    if let Some(code) = cache::stage(&args) {
        return code;
    }
    let local = [layers::CASES, layout::CASES, cache::CASES].concat();
    let mut trials: Vec<Trial> = local.iter().copied().map(trial).collect();
    trials.extend(registry::trials());
    trials.extend(ordinary_user::trials(&local));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial((name, prove): Case) -> Trial {
    Trial::test(name, move || Ok(prove().map_err(|error| format!("{error:#}"))?))
}

/// What a trial reports when something it needs is missing: ignored for a person, failed for a CI server, where
/// nobody reads which trials were ignored.
fn missing(what: &str) -> Result<libtest_mimic::Completion, libtest_mimic::Failed> {
    match std::env::var("CI").as_deref() {
        Ok("true") => Err(format!("{what}, and CI=true says that everything must be here").into()),
        _ => Ok(libtest_mimic::Completion::ignored_with(what)),
    }
}
