//! The last lines of a command: what became of each recipe, and where its report is.

use std::path::{Path, PathBuf};

use super::colour::{self, Colour};
use super::fold::COULD_NOT_BEGIN;
use super::level::NO_OVERLAY;
use super::results::{Results, Verdict};
use crate::plain::printed;
use crate::spelling;

/// One recipe's run, with the directory that holds its reports, if there is one.
pub struct Row<'a> {
    pub results: &'a Results,
    pub dir: Option<&'a Path>,
}

/// A line for every recipe, in columns, and then a line for every report.
pub fn text(rows: &[Row<'_>], masked: impl Fn(&str) -> String) -> String {
    in_colour(rows, masked, colour::is_wanted())
}

fn in_colour(rows: &[Row<'_>], masked: impl Fn(&str) -> String, coloured: bool) -> String {
    let names: Vec<String> =
        rows.iter().map(|row| format!("{} {}", row.results.recipe, row.results.versions())).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let mut text = String::from("\n");
    for (name, row) in names.iter().zip(rows) {
        // The name first, because colours are no characters of a width.
        let line = printed(&masked(&format!("{name:width$}   ")));
        let said = colour::paint(&printed(&masked(&said(row.results))), colour_of(row.results), coloured);
        text.push_str(&format!("{line}{said}\n"));
    }
    for dir in rows.iter().filter_map(|row| row.dir) {
        text.push_str(&format!("report   {}\n", printed(&link(dir))));
    }
    text
}

fn colour_of(results: &Results) -> Colour {
    match results.verdict {
        Verdict::Passed => Colour::Good,
        Verdict::NothingProven | Verdict::TooLittle => Colour::Doubtful,
        Verdict::Failed | Verdict::Error | Verdict::BrokenOff => Colour::Bad,
    }
}

fn said(results: &Results) -> String {
    let level = format!("level {} of 5", results.level.reached);
    match results.verdict {
        Verdict::Passed => match raise(results) {
            Some(raise) => format!("PASSED, {level} ({raise})"),
            None => format!("PASSED, {level}"),
        },
        Verdict::Failed if results.reason.starts_with(COULD_NOT_BEGIN) => format!("FAILED, {}", results.reason),
        Verdict::Failed => format!("FAILED, {level}: {}", results.reason),
        Verdict::Error => format!("ERROR, not the recipe's fault: {}", results.reason),
        Verdict::BrokenOff => format!("BROKEN OFF: {}", results.reason),
        Verdict::TooLittle => format!("TOO LITTLE PROVEN, {level}: {}", results.reason),
        Verdict::NothingProven => format!("NOTHING PROVEN: {}", results.reason),
    }
}

/// What would raise the level; where that is a first overlay, what to type for one.
fn raise(results: &Results) -> Option<String> {
    let next = results.level.rungs.get(usize::from(results.level.reached));
    match next.filter(|rung| rung.because == NO_OVERLAY) {
        Some(rung) => {
            let init = spelling::harness(&format!("init {}", results.recipe));
            Some(format!("level {}: write an overlay, `{init}`", rung.level))
        }
        None => results.level.raise.clone(),
    }
}

/// The page of a run as an address that terminals make a link of.
pub fn link(dir: &Path) -> String {
    let path: PathBuf = std::path::absolute(dir.join("report.html")).unwrap_or_else(|_| dir.join("report.html"));
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~+".contains(&byte);
    let escaped = |byte: &u8| if harmless(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    format!("file://{}", bytes.iter().map(escaped).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::journal;
    use crate::report::fold::fold;

    fn results(run: &str) -> Results {
        let path = crate::program::root().join(format!("tests/data/runs/{run}/events.jsonl"));
        fold(&journal::read(&path).unwrap()).unwrap()
    }

    #[test]
    fn a_recipe_without_an_overlay_is_told_how_to_begin_one() {
        let mut green = results("green");
        green.level.reached = 3;
        let rung = &mut green.level.rungs[3];
        rung.because = NO_OVERLAY.into();
        let expected =
            format!("PASSED, level 3 of 5 (level 4: write an overlay, `cargo harness init {}`)", green.recipe);
        assert_eq!(said(&green), expected);
        // Whoever has one has something else to do.
        green.level.rungs[3].because = "`x` could not be proven".into();
        assert_eq!(said(&green), format!("PASSED, level 3 of 5 ({})", green.level.raise.as_deref().unwrap()));
    }

    #[test]
    fn every_recipe_gets_a_line_and_every_report_a_link() {
        let (green, red) = (results("green"), results("upgrade-fails"));
        let dir = Path::new("/tmp/a b/x");
        let rows = [Row { results: &green, dir: Some(dir) }, Row { results: &red, dir: None }];
        let text = in_colour(&rows, str::to_owned, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].contains("   PASSED, level "), "{text}");
        assert!(lines[2].contains("   FAILED, level 1 of 5: "), "{text}");
        assert_eq!(lines[1].find("PASSED"), lines[2].find("FAILED"), "{text}");
        let painted = in_colour(&rows, |text| text.replace("level 1", "***"), true);
        assert!(
            painted.contains("   \x1b[32mPASSED, ") && painted.contains("   \x1b[31mFAILED, *** of 5"),
            "{painted}"
        );
        assert_eq!(lines[3], "report   file:///tmp/a%20b/x/report.html");
    }
}
