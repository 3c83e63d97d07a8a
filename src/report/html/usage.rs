//! The page's table of what the app used: a row for each figure, a column for each tier.

use super::super::amount;
use super::super::markdown::printable;
use super::super::results::Results;
use crate::engine::Measured;
use crate::keeper::usage::TierUsage;
use crate::tier::Tier;

/// The table; without columns nothing was measured.
pub struct UsageView {
    pub tiers: Vec<&'static str>,
    pub rows: Vec<Row>,
}

/// One figure over the tiers.
pub struct Row {
    pub kind: &'static str,
    pub name: String,
    pub cells: Vec<Cell>,
}

/// A figure after one tier, or why there is none after several.
pub struct Cell {
    pub tiers: String,
    /// How many columns it takes.
    pub span: usize,
    pub text: String,
    pub measured: bool,
}

pub fn view(results: &Results) -> UsageView {
    let columns: Vec<(Tier, &TierUsage)> =
        results.tiers.iter().filter_map(|tier| Some((tier.tier, tier.usage.as_ref()?))).collect();
    let mut rows = Vec::new();
    let mut add = |kind, names: fn(&TierUsage) -> Vec<&String>, cell: fn(&TierUsage, &str) -> Option<Words>| {
        let mut all: Vec<&String> = columns.iter().flat_map(|(_, usage)| names(usage)).collect();
        all.sort();
        all.dedup();
        for name in all {
            let cells = columns.iter().map(|(tier, usage)| to_cell(*tier, cell(usage, name)));
            rows.push(Row { kind, name: printable(name), cells: joined(cells) });
        }
    };
    add("memory", services, |usage, name| Some(size(&usage.services.get(name)?.memory)));
    add("most memory", services, |usage, name| Some(size(&usage.services.get(name)?.memory_peak)));
    add("processor", services, |usage, name| Some(time(&usage.services.get(name)?.cpu_millis)));
    add("volume", |usage| usage.volumes.keys().collect(), |usage, name| usage.volumes.get(name).map(size));
    add("image", |usage| usage.images.keys().collect(), |usage, name| usage.images.get(name).map(size));
    UsageView { tiers: columns.iter().map(|(tier, _)| tier.name()).collect(), rows }
}

/// What a cell says, and whether it is a figure.
type Words = (String, bool);

fn services(usage: &TierUsage) -> Vec<&String> {
    usage.services.keys().collect()
}

fn size(measured: &Measured) -> Words {
    (amount::size(measured), measured.amount().is_some())
}

fn time(measured: &Measured) -> Words {
    (amount::time(measured), measured.amount().is_some())
}

fn to_cell(tier: Tier, words: Option<Words>) -> Cell {
    let (text, measured) = words.unwrap_or_else(|| ("not there".into(), false));
    Cell { tiers: tier.name().into(), span: 1, text: printable(&text), measured }
}

/// Neighbours with the same reason for no figure are one cell: a reason is long, and read once.
fn joined(cells: impl Iterator<Item = Cell>) -> Vec<Cell> {
    let mut joined: Vec<Cell> = Vec::new();
    for cell in cells {
        match joined.last_mut().filter(|last| !last.measured && !cell.measured && last.text == cell.text) {
            Some(last) => {
                last.tiers.push_str(&format!(", {}", cell.tiers));
                last.span += 1;
            }
            None => joined.push(cell),
        }
    }
    joined
}
