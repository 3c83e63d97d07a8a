//! Reports, as the programs that read them see them: XML schemas, a browser, nextest, an editor's language server and its
//! debugger.

mod browser;
mod debugger;
mod editor;
mod junit;
mod language_server;
mod nextest;
mod page;
mod pictures;
mod toml;

use libtest_mimic::Trial;

use crate::{Case, Needs, ignorable, trial};

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

/// Every trial, with what it needs of this machine.
pub fn trials(needs: &Needs) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (tool, cases) in CASES {
        let missing = needs.look(|| tool.missing());
        trials.extend(cases.iter().map(|case| trial("reports", *case, missing.clone())));
    }
    // Debian has neither, so that they are not asked for in CI either.
    for (missing, cases) in [(editor::missing as fn() -> _, editor::CASES), (|| TAPLO.missing(), toml::CASES)] {
        let missing = needs.look(missing);
        trials.extend(cases.iter().map(|case| ignorable("reports", *case, missing.clone(), false)));
    }
    trials
}

impl Tool {
    fn missing(&self) -> Option<String> {
        let found = std::env::split_paths(&std::env::var_os("PATH")?).any(|dir| dir.join(self.program).is_file());
        (!found).then(|| format!("there is no `{}` on PATH ({})", self.program, self.from))
    }
}
