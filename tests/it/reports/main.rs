//! Reports, as the programs that read them see them: XML schemas, a browser, nextest, an editor's language server and its
//! debugger.
//!
//! A target of its own without libtest, because where such a program is missing its trials are ignored with the reason,
//! and in CI, where nobody reads which trials were ignored, they fail with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot get at what it looks at has failed")]

mod browser;
mod debugger;
mod editor;
mod junit;
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../kept.rs"]
mod kept;
mod language_server;
mod nextest;
mod page;
mod pictures;
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../runner.rs"]
mod runner;
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../running.rs"]
mod running;
mod toml;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

const XMLLINT: Tool = Tool { program: "xmllint", from: "Debian's package `libxml2-utils`" };

const NEXTEST: Tool = Tool { program: "cargo-nextest", from: "`cargo install cargo-nextest --locked`" };

const CHROMIUM: Tool = Tool { program: "chromedriver", from: "Debian's packages `chromium` and `chromium-driver`" };

const TAPLO: Tool = Tool { program: "taplo", from: "`cargo install taplo-cli --locked`" };

const GDB: Tool = Tool { program: "gdb", from: "Debian's package `gdb`" };

/// Every trial, by the program that it needs.
const CASES: &[(Tool, &[Case])] = &[
    (XMLLINT, junit::CASES),
    (NEXTEST, nextest::CASES),
    (CHROMIUM, page::CASES),
    (CHROMIUM, pictures::CASES),
    (GDB, debugger::CASES),
];

/// A program that a trial needs.
#[derive(Clone, Copy)]
struct Tool {
    program: &'static str,
    from: &'static str,
}

/// A named proof. A failed one panics.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of each is waiting: for an app to stay up, for nextest, for a browser.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let mut trials = Vec::new();
    for (tool, cases) in CASES {
        let missing = if arguments.list { None } else { tool.missing() };
        trials.extend(cases.iter().map(|case| trial(*case, missing.clone())));
    }
    // Debian has neither, so that they are not asked for in CI either.
    for (missing, cases) in [(editor::missing as fn() -> _, editor::CASES), (|| TAPLO.missing(), toml::CASES)] {
        let missing = if arguments.list { None } else { missing() };
        trials.extend(cases.iter().map(|case| ignorable(*case, missing.clone(), false)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

impl Tool {
    fn missing(&self) -> Option<String> {
        let found = std::env::split_paths(&std::env::var_os("PATH")?).any(|dir| dir.join(self.program).is_file());
        (!found).then(|| format!("there is no `{}` on PATH ({})", self.program, self.from))
    }
}

fn trial(case: Case, missing: Option<String>) -> Trial {
    ignorable(case, missing, std::env::var("CI").as_deref() == Ok("true"))
}

fn ignorable((name, prove): Case, missing: Option<String>, must_be_here: bool) -> Trial {
    Trial::ignorable_test(name, move || match missing {
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
