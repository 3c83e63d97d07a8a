//! A card for people in a hurry: level, tiers and times in one picture, as SVG without references; and, in a build with
//! the feature `card-png`, as PNG.

#[cfg(feature = "card-png")]
mod png;

use std::fmt::Write as _;
use std::time::Duration;

use super::badge::{colour, escape};
use super::results::{Outcome, Results, TierResult, Verdict};
use super::seconds;

#[cfg(feature = "card-png")]
pub use png::draw;

/// What most places show of a link.
const SIZE: (u32, u32) = (1200, 630);
const GOOD: &str = "#1e7a3c";
const BAD: &str = "#b3261e";
const WARN: &str = "#8a5a00";
const IDLE: &str = "#6b7075";

/// The card as SVG.
pub fn render(results: &Results) -> String {
    let (width, height) = SIZE;
    let verdict = match results.verdict {
        Verdict::Passed => GOOD,
        Verdict::Failed | Verdict::Error | Verdict::BrokenOff => BAD,
        Verdict::NothingProven | Verdict::TooLittle => WARN,
    };
    let title = escape(&format!("{} {}: {}", results.recipe, results.versions(), results.verdict.words()));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"{title}\" font-family=\"DejaVu Sans, Verdana, sans-serif\">\n<title>{title}</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fbfbf9\"/>\n\
         <rect width=\"{width}\" height=\"14\" fill=\"{verdict}\"/>\n"
    );
    let mut put = |x: u32, y: u32, size: u32, fill: &str, bold: bool, most: usize, text: &str| {
        let weight = if bold { " font-weight=\"bold\"" } else { "" };
        let text = escape(&clipped(text, most));
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{fill}\"{weight}>{text}</text>");
    };
    put(60, 100, 56, "#1d1f21", true, 28, &results.recipe);
    put(60, 148, 28, "#5c6166", false, 62, &results.versions());
    put(60, 210, 30, verdict, true, 50, results.verdict.words());
    let level = format!("level {} of 5: {}", results.level.reached, results.level.meaning);
    put(60, 252, 26, "#1d1f21", false, 66, &level);
    for (row, tier) in results.tiers.iter().enumerate() {
        let y = 340 + 44 * row as u32;
        let (sign, fill, words) = state(tier);
        put(60, y, 26, fill, true, 1, sign);
        put(100, y, 26, "#1d1f21", false, 12, tier.tier.name());
        put(300, y, 26, fill, false, 40, &words);
        let time = tier.operation.as_ref().map(|it| seconds(Duration::from_millis(it.millis)));
        put(1000, y, 26, "#5c6166", false, 10, time.as_deref().unwrap_or_default());
    }
    put(60, 600, 22, "#5c6166", false, 88, &footer(results));
    for rung in 1..=5u8 {
        let fill = if rung <= results.level.reached { colour(results.level.reached) } else { "#dcdcd6" };
        let x = 60 + 64 * u32::from(rung - 1);
        let _ = writeln!(out, "<rect x=\"{x}\" y=\"272\" width=\"56\" height=\"10\" rx=\"5\" fill=\"{fill}\"/>");
    }
    out.push_str("</svg>\n");
    out
}

fn state(tier: &TierResult) -> (&'static str, &'static str, String) {
    let [passed, failed, ignored] =
        [Outcome::Passed, Outcome::Failed, Outcome::Ignored].map(|outcome| tier.count(outcome));
    let counts = [(passed, "passed"), (failed, "failed"), (ignored, "ignored")];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    let operation_failed = tier.operation.as_ref().is_some_and(|it| it.failure.is_some());
    match &tier.skip {
        Some(skip) => ("–", WARN, format!("skipped, {skip}")),
        None if operation_failed && failed == 0 => ("✗", BAD, "failed".into()),
        None if failed > 0 => ("✗", BAD, counts),
        None if counts.is_empty() => ("–", IDLE, "not run".into()),
        None if ignored > 0 => ("⚠", WARN, counts),
        None => ("✓", GOOD, counts),
    }
}

fn footer(results: &Results) -> String {
    let day = results.started.get(..10).unwrap_or(&results.started);
    let downtime = results.downtime.as_ref().map(|downtime| match downtime.millis {
        0 => "no downtime · ".to_owned(),
        millis => format!("downtime {} · ", seconds(Duration::from_millis(millis))),
    });
    let took = seconds(Duration::from_millis(results.millis));
    let stand_ins = if results.stand_ins.is_empty() { "" } else { " · with stand-ins for images" };
    format!("{}{took} on the {} engine · {day}{stand_ins}", downtime.unwrap_or_default(), results.engine)
}

/// The beginning of a text that has to fit.
fn clipped(text: &str, most: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= most {
        return line.to_owned();
    }
    line.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_and_says_so() {
        assert_eq!((clipped("short", 5), clipped("longer", 5)), ("short".into(), "long…".into()));
        assert_eq!(clipped("one\ntwo", 9), "one");
    }
}
