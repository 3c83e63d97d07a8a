//! The table in `docs/security.md`, made from the list of attempts.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

use crate::{By, Promise, attempts};

const BEGIN: &str = "<!-- made from tests/it/attack -->\n";
const END: &str = "<!-- end of what is made -->\n";

const PROMISES: &[(Promise, &str)] = &[
    (Promise::Namespaces, "no namespace but its own"),
    (Promise::Mounts, "no mount is made, changed or taken away"),
    (Promise::Executable, "the harness's own executable keeps its mode and content"),
    (Promise::Inherited, "nothing of whoever starts the harness is open"),
    (Promise::Keys, "no key is read, made or left"),
    (Promise::Kernel, "no call that Docker refuses, and none that nobody has looked at"),
    (Promise::Settings, "no setting of the kernel is written, nor its memory read"),
    (Promise::Devices, "no device but `null`, `zero`, `full`, `random`, `urandom`, `tty`, and none changed"),
    (Promise::Files, "no file of the machine but its programs, and these read-only"),
    (Promise::Powers, "no power over processes, priorities or users of the machine"),
    (Promise::Network, "no route but to the app's own services"),
    (Promise::Bounds, "no more memory, processes and processor time than a container may have"),
    (Promise::Declared, "nothing of the machine is given to a recipe that asks for it, on any engine"),
    (Promise::OtherApps, "nothing of another app is used, made or renamed, on any engine"),
];

/// Fails when the document says something else; with `BLESS=1` it is written again.
pub fn trial() -> Trial {
    Trial::test("table::the_document_lists_every_attempt", || check().map_err(|error| format!("{error:#}").into()))
}

fn check() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let text = std::fs::read_to_string(&path).context("failed to read `docs/security.md`")?;
    let (before, rest) = text.split_once(BEGIN).context("there is no place for the table")?;
    let (found, after) = rest.split_once(END).context("the table has no end")?;
    let table = table();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, [before, BEGIN, &table, END, after].concat())?;
        return Ok(());
    }
    ensure!(found == table, "`BLESS=1` writes the table again, which now would be:\n{table}");
    Ok(())
}

fn table() -> String {
    let mut table = "\n| promise | held / of | attempts |\n| --- | --- | --- |\n".to_owned();
    let all = attempts();
    let (mut sum, mut different) = (0, 0);
    for (promise, words) in PROMISES {
        let of = all.iter().filter(|attempt| attempt.promise == *promise);
        let names: Vec<String> = of.clone().map(|attempt| attempt.name.replace('_', " ")).collect();
        let runs: usize = of.map(|attempt| runs(attempt.by)).sum();
        (sum, different) = (sum + runs, different + names.len());
        let _ = writeln!(table, "| {words} | {runs} / {runs} | {} |", names.join("; "));
    }
    let _ = writeln!(table, "\n{different} attempts, run {sum} times in all.\n");
    table
}

/// As root and as an ordinary user.
fn runs(by: By) -> usize {
    2 * match by {
        By::Program(_) => 2,
        By::InContainer(_) | By::Test(_) | By::Declared(_) => 1,
    }
}
