//! A summary in Markdown, for `$GITHUB_STEP_SUMMARY` and for comments.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use super::fold::REUSED;
use super::results::{Outcome, Results, TierResult, TrialResult};
use super::{amount, seconds};
use crate::keeper::journal::Downtime;
use crate::plain::acts;

/// Failures shown in full; the rest are counted.
const SHOWN: usize = 10;
/// Lines shown of one failure.
const LINES: usize = 30;
/// Characters shown of one line.
const LONGEST: usize = 400;
/// Bytes shown of one failure, however its lines are.
const MOST: usize = 16 << 10;
/// Forges refuse comments of much more than this.
const LIMIT: usize = 60 << 10;
/// What is left of that for the end, which names the run.
const END: usize = 8 << 10;

/// The summary where the card lies beside it; elsewhere a picture without an address would only be broken.
pub fn with_card(results: &Results) -> String {
    let alt = format!("{} {}: {}", results.recipe, results.versions(), results.verdict.words());
    format!("{}\n![{}](card.svg)\n", render(results), text(&alt))
}

/// The whole summary.
pub fn render(results: &Results) -> String {
    let mut out = String::new();
    let title = format!("{} {}", results.recipe, results.versions());
    let _ = writeln!(out, "### {}: {}, level {}\n", text(&title), results.verdict.words(), results.level.reached);
    if !results.reason.is_empty() {
        let _ = writeln!(out, "{}\n", text(&results.reason));
    }
    let _ = writeln!(out, "| tier | result | operation | assertions |\n| --- | --- | --- | --- |");
    for tier in &results.tiers {
        let _ = writeln!(out, "{}", row(tier));
    }
    let _ = writeln!(out, "| teardown | {} |  |  |\n", teardown(results));
    let _ =
        writeln!(out, "**Level {}**, {}. {}\n", results.level.reached, text(&results.level.meaning), raise(results));
    if let Some(downtime) = &results.downtime {
        let _ = writeln!(out, "- {}", text(&downtime_line(downtime)));
    }
    for note in results.notes.iter().filter(|note| note.starts_with(REUSED)) {
        let _ = writeln!(out, "- {}", text(note));
    }
    if let Some(usage) = amount::telling(results) {
        let _ = writeln!(out, "- {}", text(&amount::line(usage)));
    }
    for stand_in in results.stand_ins.iter().take(SHOWN) {
        let _ = writeln!(out, "- {}", text(stand_in));
    }
    let failures: Vec<_> = results.failures().map(|(_, trial)| failure(trial)).collect();
    let (mut room, mut shown) = ((LIMIT - END).saturating_sub(out.len()), 0);
    for failure in failures.iter().take(SHOWN) {
        let Some(left) = room.checked_sub(failure.len()) else { break };
        (room, shown) = (left, shown + 1);
        out.push_str(failure);
    }
    if failures.len() > shown {
        let _ = writeln!(out, "\n{} more failures are in the report.", failures.len() - shown);
    }
    let engine = format!("{} engine, run {}, harness {}", results.engine, results.run_id, results.harness);
    let _ = writeln!(out, "\n<sub>{}, {}</sub>", text(&engine), seconds(Duration::from_millis(results.millis)));
    out
}

pub(super) fn row(tier: &TierResult) -> String {
    let operation = tier.operation.as_ref().map(|it| seconds(Duration::from_millis(it.millis))).unwrap_or_default();
    let counts = [(Outcome::Passed, "passed"), (Outcome::Failed, "failed"), (Outcome::Ignored, "ignored")];
    let counts = counts.map(|(outcome, word)| (tier.count(outcome), word));
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    format!("| {} | {} | {operation} | {} |", tier.tier, result(tier), counts.join(", "))
}

fn result(tier: &TierResult) -> String {
    if let Some(skip) = &tier.skip {
        return format!("skipped, {}", text(&skip.to_string()));
    }
    let failed = tier.count(Outcome::Failed) > 0 || tier.operation.as_ref().is_some_and(|it| it.failure.is_some());
    let [passed, ignored] = [Outcome::Passed, Outcome::Ignored].map(|outcome| tier.count(outcome) > 0);
    match (failed, passed, ignored) {
        (true, _, _) => "❌ failed",
        (false, true, false) => "✅ passed",
        (false, true, true) => "⚠️ passed in part",
        (false, false, true) => "⚠️ nothing proven",
        (false, false, false) => "not run",
    }
    .into()
}

pub(super) fn teardown(results: &Results) -> String {
    match &results.teardown {
        Some(teardown) if teardown.leftovers.is_empty() => {
            format!("✅ nothing is left, {}", seconds(Duration::from_millis(teardown.millis)))
        }
        Some(teardown) => format!("❌ left: {}", text(&teardown.leftovers.join(", "))),
        None if results.deploys == 0 => "there was nothing to tear down".into(),
        None => "the app is still up".into(),
    }
}

pub(super) fn raise(results: &Results) -> String {
    results.level.raise.as_ref().map(|raise| format!("Next: {}.", text(raise))).unwrap_or_default()
}

pub(super) fn failure(trial: &TrialResult) -> String {
    let (name, message) = (text(&trial.name), fenced(&trial.message));
    format!("\n<details open><summary>{name}</summary>\n\n{message}\n\n</details>\n")
}

/// What a visitor would have seen of the upgrade, in one line.
pub fn downtime_line(downtime: &Downtime) -> String {
    let bad = downtime.unanswered + downtime.errors;
    if bad == 0 {
        return format!("no downtime during the upgrade: all of {} requests were answered", downtime.probes);
    }
    let first = downtime.first.as_ref().map(|first| format!("; the first: {first}")).unwrap_or_default();
    format!(
        "downtime during the upgrade: {}; {} of {} requests got no answer, {} an error{first}",
        seconds(Duration::from_millis(downtime.millis)),
        downtime.unanswered,
        downtime.probes,
        downtime.errors
    )
}

/// The beginning of a line that nobody would read to its end.
fn cut(line: &str) -> Cow<'_, str> {
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]).into(),
        None => line.into(),
    }
}

/// Text that means nothing to Markdown: no markup, no HTML, no mention, no link, on one line.
///
/// An entity is not enough for what a forge looks for in the text as it is shown: mentions, references to issues,
/// addresses, and Gitea's `[[name]]`, which may become a picture. A space without width stands in those.
pub(super) fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len().min(LONGEST));
    let raw = printable(&cut(raw));
    let mut chars = raw.chars().peekable();
    let mut last = ' ';
    while let Some(c) = chars.next() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\n' => out.push(' '),
            '@' => out.push_str("&#64;&#8203;"),
            '#' => out.push_str("&#35;&#8203;"),
            '$' => out.push_str("&#36;"),
            '!' => out.push_str("\\!&#8203;"),
            '[' if last == '[' => out.push_str("&#8203;\\["),
            ':' if chars.peek() == Some(&'/') => out.push_str("&#58;&#8203;"),
            '.' if out.len() >= 3 && out.as_bytes()[out.len() - 3..].eq_ignore_ascii_case(b"www") => {
                out.push_str("&#46;&#8203;")
            }
            '\\' | '*' | '_' | '[' | ']' | '|' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '`' => out.push_str("&#96;"),
            c => out.push(c),
        }
        last = c;
    }
    out
}

/// A name or a value between backticks, where a forge looks for nothing; on one line, and also in a table.
pub(super) fn code(raw: &str) -> String {
    let inner: String = printable(&cut(raw)).replace(['\n', '\t'], " ").replace('`', "'").replace('|', "¦");
    match inner.trim() {
        "" => "(empty)".into(),
        inner => format!("`{inner}`"),
    }
}

/// Lines as they are: the first so many of them, each not too long, between fences that nothing in them closes.
pub(super) fn fenced(raw: &str) -> String {
    let lines: Vec<Cow<'_, str>> = raw.lines().map(cut).collect();
    let mut room = MOST;
    let fits = |line: &&Cow<'_, str>| {
        let left = room.checked_sub(line.len() + 1);
        room = left.unwrap_or_default();
        left.is_some()
    };
    let few: Vec<&Cow<'_, str>> = lines.iter().take(LINES).take_while(fits).collect();
    let mut shown = few.iter().map(|line| line.as_ref()).collect::<Vec<_>>().join("\n");
    if lines.len() > few.len() {
        let _ = write!(shown, "\n… and {} more lines", lines.len() - few.len());
    }
    // A fence longer than any in the text cannot be closed from inside.
    let longest = shown.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", printable(&shown))
}

/// Without what a browser would obey instead of showing it.
pub fn printable(raw: &str) -> String {
    let hidden = |c: char| acts(c) && c != '\n' && c != '\t' || matches!(c, '\u{fffe}' | '\u{ffff}');
    raw.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_means_nothing_to_markdown() {
        for (raw, expected) in [
            ("@team #12 !3", "&#64;&#8203;team &#35;&#8203;12 \\!&#8203;3"),
            ("[a](http://x) <img src=x>", "\\[a\\](http&#58;&#8203;//x) &lt;img src=x&gt;"),
            ("www.evil.example WWW.x", "www&#46;&#8203;evil.example WWW&#46;&#8203;x"),
            ("**a** _b_ ~~c~~ `d` | e", "\\*\\*a\\*\\* \\_b\\_ \\~\\~c\\~\\~ &#96;d&#96; \\| e"),
            ("![[a]] $x$", "\\!&#8203;\\[&#8203;\\[a\\]\\] &#36;x&#36;"),
            ("one\n```\ntwo", "one &#96;&#96;&#96; two"),
            ("\u{1b}[31mred \u{202e}x\u{200b}", "\u{fffd}\\[31mred \u{fffd}x\u{fffd}"),
        ] {
            assert_eq!(text(raw), expected);
        }
    }

    #[test]
    fn text_without_end_is_cut() {
        let long = text(&"x".repeat(100_000));
        assert_eq!(long, "x".repeat(LONGEST) + "…");
    }
}
