//! `harness open`: the report of a run in a browser.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process;

const PAGE: &str = "report.html";
/// What desktops have for it.
const OPENER: &str = "xdg-open";

/// Prints the address of a run's report, and has a browser show it.
pub fn report(run_dir: &Path) -> Result<ExitCode> {
    let page = run_dir.join(PAGE);
    let page =
        page.canonicalize().with_context(|| format!("the run has no report: there is no `{}`", page.display()))?;
    let address = format!("file://{}", encoded(&page));
    writeln!(std::io::stdout().lock(), "{address}").context("failed to print")?;
    let Some(opener) = opener() else {
        bail!("nothing is here that opens it: name a browser in BROWSER, or install `{OPENER}`");
    };
    let mut command = process::command(&opener);
    let started = command.arg(&address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let name = opener.to_string_lossy().into_owned();
    let status = started.with_context(|| format!("failed to start `{name}`, to open the report"))?;
    if !status.success() {
        bail!("`{name}` did not open the report: {status}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The browser that the environment names, else the desktop's own way.
fn opener() -> Option<OsString> {
    if let Some(named) = std::env::var_os("BROWSER").filter(|named| !named.is_empty()) {
        return Some(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(OPENER).is_file()).then(|| OPENER.into())
}

/// A path as it may stand in an address.
fn encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_meaning() {
        assert_eq!(encoded(Path::new("/runs/my run#1/é.html")), "/runs/my%20run%231/%C3%A9.html");
    }

    #[test]
    fn a_run_without_a_report_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let error = report(dir.path()).unwrap_err().to_string();
        assert_eq!(error, format!("the run has no report: there is no `{}`", dir.path().join(PAGE).display()));
    }
}
