//! A run for the person who has a pull request before them: the verdict first, then what failed, what was done in which
//! time, what changed, and the one command that does it again at home.
//!
//! Nothing that a recipe, its logs or its authors have written means anything there: it stands between backticks, in a
//! fence, or as text without markup. What makes it too long is left out, the least important first.

mod changed;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::level::Level;
use super::markdown::{code, downtime_line, failure, fenced, printable, raise, row, teardown, text};
use super::results::{Results, Verdict};
use super::{amount, seconds};
use crate::mask::Masks;
use crate::prepare::again::quoted;

/// Forges refuse comments of not much more than this, in bytes.
pub const LIMIT: usize = 60 << 10;
/// What is kept free for the line that says what was left out.
const LEFT_OUT: usize = 512;
/// Failures and other lines of one kind that are shown; the rest are counted.
const SHOWN: usize = 10;

/// What is told beside the results.
pub struct Beside<'a> {
    /// The commit that the verdict stands at.
    pub sha: &'a str,
    /// The pull request's head, if it is another one by now.
    pub moved_to: Option<&'a str>,
    /// The last green run of the recipe before this one.
    pub green: Option<&'a Results>,
    /// Names and addresses that lead further.
    pub links: &'a [(String, String)],
    pub masks: &'a Masks,
}

/// One part of a comment: the higher its rank, the earlier it is left out. Those of rank 0 stay.
struct Part {
    rank: usize,
    /// What it is called where it is left out.
    name: &'static str,
    text: String,
}

fn part(rank: usize, name: &'static str, text: String) -> Part {
    Part { rank, name, text }
}

/// The comment of a run that has ended.
pub fn render(results: &Results, beside: &Beside<'_>) -> String {
    let results = &masked(results, beside.masks);
    let mut parts = vec![part(0, "the verdict", heading(results, beside))];
    parts.extend(failures(results));
    parts.push(part(1, "the tiers", tiers(results)));
    parts.extend(changed::parts(results));
    parts.push(part(4, "downtime and usage", lines(results)));
    parts.push(part(3, "stand-ins", stand_ins(results)));
    parts.push(part(0, "links", links(beside.links)));
    parts.push(part(0, "the command", repeat(results)));
    within(parts, LIMIT)
}

/// The comment while the run is still to come, or goes on.
pub fn pending(beside: &Beside<'_>) -> String {
    let head = format!("### ⏳ {} is being tested\n\n", code(&short(beside.sha)));
    let said = "The verdict will stand here.\n\n";
    format!("{head}{}{said}{}", moved(beside), links(beside.links))
}

/// The comment where there is no verdict, and why.
pub fn nothing(why: &str, beside: &Beside<'_>) -> String {
    let head = format!("### ⚠️ {} was not judged: error, not the recipe's fault\n\n", code(&short(beside.sha)));
    let why = fenced(&beside.masks.mask(why));
    format!("{head}{}There is no verdict, because\n\n{why}\n\n{}", moved(beside), links(beside.links))
}

/// Keys whose values are words of the format; everything else may be somebody's text.
const FIXED: [&str; 6] = ["verdict", "outcome", "kind", "tier", "fault", "state"];
/// Keys below which the keys themselves are somebody's.
const NAMED: [&str; 3] = ["services", "volumes", "images"];

/// The same results without the values that are masked, wherever they stand: also one that would be broken up below, so
/// that nobody would find it again.
fn masked(results: &Results, masks: &Masks) -> Results {
    let mut value = serde_json::to_value(results).expect("results are written as JSON everywhere");
    mask(&mut value, "", masks);
    serde_json::from_value(value).expect("only free text was replaced")
}

fn mask(value: &mut serde_json::Value, below: &str, masks: &Masks) {
    match value {
        serde_json::Value::String(text) if !FIXED.contains(&below) => *text = masks.mask(text),
        serde_json::Value::Array(list) => list.iter_mut().for_each(|it| mask(it, below, masks)),
        serde_json::Value::Object(map) => {
            let entries = std::mem::take(map).into_iter().map(|(key, mut value)| {
                mask(&mut value, &key, masks);
                (if NAMED.contains(&below) { masks.mask(&key) } else { key }, value)
            });
            *map = entries.collect();
        }
        _ => {}
    }
}

/// The verdict in the fewest words, for a status that has room for one line.
pub fn in_short(results: &Results, green: Option<&Results>) -> String {
    let Level { reached, meaning, .. } = &results.level;
    let level = format!("level {reached}{}", direction(results, green).map(|it| format!(", {it}")).unwrap_or_default());
    match results.verdict {
        Verdict::Passed => format!("passed, {level}: {meaning}"),
        Verdict::Error => format!("{}: {}", results.verdict.words(), results.reason),
        verdict => format!("{}, {level}: {}", verdict.words(), results.reason),
    }
}

/// Text on one line, with nothing in it that acts.
pub fn one_line(raw: &str) -> String {
    printable(raw).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Where the level went since the last green run: `down from 3`.
fn direction(results: &Results, green: Option<&Results>) -> Option<String> {
    let (now, then) = (results.level.reached, green?.level.reached);
    // A run that says nothing about the recipe says nothing about its level.
    let says = !matches!(results.verdict, Verdict::Error | Verdict::BrokenOff);
    let word = if now < then { "down" } else { "up" };
    (says && now != then).then(|| format!("{word} from {then}"))
}

fn heading(results: &Results, beside: &Beside<'_>) -> String {
    let mark = match results.verdict {
        Verdict::Passed => "✅",
        Verdict::Failed => "❌",
        _ => "⚠️",
    };
    let title = format!("{} {}", code(&results.recipe), code(&results.versions()));
    let level = match direction(results, beside.green) {
        Some(direction) => format!("level {} of 5, {direction}", results.level.reached),
        None => format!("level {} of 5", results.level.reached),
    };
    let mut out = format!("### {mark} {title}: {}, {level}\n\n", results.verdict.words());
    if !results.reason.is_empty() {
        out += &format!("Reason: {}\n\n", text(&results.reason));
    }
    out += &format!("**Level {}**, {}. {}\n\n", results.level.reached, text(&results.level.meaning), raise(results));
    if let (Some(_), Some(green)) = (direction(results, beside.green), beside.green) {
        let (now, then) = (results.level.reached, green.level.reached);
        let goes = if now < then { "goes down" } else { "goes up" };
        let run = format!("of {}, {}", green.versions(), green.started);
        out += &format!("The level {goes} from {then} to {now}: the last green run was that {}.\n\n", text(&run));
    }
    out + &moved(beside) + &other_commit(results, beside)
}

fn moved(beside: &Beside<'_>) -> String {
    let said = |head: &str| format!("Tested {}, the head is now {}.\n\n", code(&short(beside.sha)), code(&short(head)));
    beside.moved_to.map(said).unwrap_or_default()
}

/// The commit that was tested, where it is not the one that the verdict stands at.
fn other_commit(results: &Results, beside: &Beside<'_>) -> String {
    if results.commit == beside.sha && !results.dirty {
        return String::new();
    }
    let commit = if results.commit.is_empty() { "unknown".into() } else { short(&results.commit) };
    let changes = if results.dirty { ", with uncommitted changes" } else { "" };
    let source = code(&results.source);
    format!("What was tested is commit {} of {source}{changes}, not {}.\n\n", code(&commit), code(&short(beside.sha)))
}

/// The first eight digits, as everywhere.
fn short(commit: &str) -> String {
    commit.chars().take(8).collect()
}

/// The first failure stays; of the others the last is left out first.
fn failures(results: &Results) -> Vec<Part> {
    let failures: Vec<_> = results.failures().map(|(_, trial)| trial).collect();
    let mut parts: Vec<Part> = Vec::new();
    for (at, trial) in failures.iter().take(SHOWN).enumerate() {
        parts.push(part(if at == 0 { 0 } else { 100 + at }, "failures", failure(trial) + "\n"));
    }
    if failures.len() > SHOWN {
        parts.push(part(0, "", format!("{} more failures are in the report.\n\n", failures.len() - SHOWN)));
    }
    parts
}

fn tiers(results: &Results) -> String {
    let mut out = String::from("| tier | result | operation | assertions |\n| --- | --- | --- | --- |\n");
    results.tiers.iter().for_each(|tier| out += &format!("{}\n", row(tier)));
    out + &format!("| teardown | {} |  |  |\n\n", teardown(results))
}

fn lines(results: &Results) -> String {
    let mut lines: Vec<String> = results.downtime.iter().map(downtime_line).collect();
    lines.extend(amount::telling(results).map(amount::line));
    listed(&lines)
}

fn stand_ins(results: &Results) -> String {
    let mut lines: Vec<String> = results.stand_ins.iter().take(SHOWN).cloned().collect();
    if results.stand_ins.len() > SHOWN {
        lines.push(format!("and {} more", results.stand_ins.len() - SHOWN));
    }
    listed(&lines)
}

fn listed(lines: &[String]) -> String {
    let list: String = lines.iter().map(|line| format!("- {}\n", text(line))).collect();
    if list.is_empty() { list } else { list + "\n" }
}

/// The addresses were looked at by whoever gave them: nothing in them ends a link.
fn links(links: &[(String, String)]) -> String {
    let links: Vec<String> = links.iter().map(|(name, address)| format!("[{}](<{address}>)", text(name))).collect();
    if links.is_empty() { String::new() } else { format!("{}\n\n", links.join(" · ")) }
}

/// What to type at home. The commit is named, because a branch moves, and a path of the CI server is nobody else's.
fn repeat(results: &Results) -> String {
    let run = format!("{} engine, run {}, harness {}", results.engine, results.run_id, results.harness);
    let took = seconds(Duration::from_millis(results.millis));
    format!("The same at home:\n\n{}\n\n<sub>{}, {took}</sub>\n", fenced(&again(results)), text(&run))
}

/// The command that does the same run again.
pub fn again(results: &Results) -> String {
    if results.commit.is_empty() || results.dirty {
        return format!("harness test {}", results.arguments);
    }
    let base = results.base.as_ref().map(|base| format!(" --base {}", quoted(base))).unwrap_or_default();
    let engine = match results.engine.as_str() {
        "none" | "" => String::new(),
        engine => format!(" --engine {}", quoted(engine)),
    };
    format!("harness test {} --ref {}{base}{engine}", quoted(&results.recipe), quoted(&results.commit))
}

/// All parts that there is room for, in their order, and what was left out.
fn within(mut parts: Vec<Part>, limit: usize) -> String {
    let mut left_out: Vec<&str> = Vec::new();
    let size = |parts: &[Part]| parts.iter().map(|part| part.text.len()).sum::<usize>();
    while size(&parts) > limit - LEFT_OUT {
        let last = parts.iter().enumerate().filter(|(_, part)| part.rank > 0).max_by_key(|(_, part)| part.rank);
        let Some(at) = last.map(|(at, _)| at) else { break };
        let name = parts.remove(at).name;
        if !left_out.contains(&name) {
            left_out.push(name);
        }
    }
    let mut out: String = parts.into_iter().map(|part| part.text).collect();
    if !left_out.is_empty() {
        out += &format!("\nToo long for a comment, and left out: {}. The report has it all.\n", left_out.join(", "));
    }
    out
}
