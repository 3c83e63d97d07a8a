//! What the head defines otherwise than the base, as a reviewer wants it: images, variables, configs, volumes and mounts,
//! and the rest by number.

use std::collections::BTreeMap;

use super::super::amount;
use super::super::markdown::{code, text};
use super::super::results::Results;
use super::{Part, SHOWN, part};
use crate::engine::Measured;
use crate::keeper::facts::{Change, ChangeKind};

/// The parts of the section, the most important first; none where nothing is known to have changed.
pub fn parts(results: &Results) -> Vec<Part> {
    if results.changes.is_empty() {
        return Vec::new();
    }
    let of = |kind: ChangeKind| results.changes.iter().filter(move |change| change.kind == kind);
    let compose: Vec<&Change> = of(ChangeKind::Compose).filter(|change| !is_own(change)).collect();
    let (mounts, rest): (Vec<&Change>, Vec<&Change>) = compose.into_iter().partition(|change| is_mount(change));
    let (configs, rest): (Vec<&Change>, Vec<&Change>) =
        rest.into_iter().partition(|it| it.place.starts_with("configs."));
    let all = [
        (5, "changed images", images(results, &of(ChangeKind::Image).collect::<Vec<_>>())),
        (6, "changed volumes and mounts", listed("volumes and mounts", &mounts)),
        (7, "changed variables", env(&of(ChangeKind::Env).collect::<Vec<_>>())),
        (8, "changed configs", listed("configs", &configs)),
        (9, "other changes", others(&rest)),
    ];
    let mut parts: Vec<Part> = all
        .into_iter()
        .filter(|(.., text)| !text.is_empty())
        .map(|(rank, name, text)| part(rank, name, text))
        .collect();
    // What stands behind it begins anew.
    let Some(last) = parts.last_mut() else { return parts };
    last.text.push('\n');
    let title =
        format!("**Changed** from {} to {}\n\n", code(results.base.as_deref().unwrap_or("?")), code(&results.head));
    [part(5, "changed images", title)].into_iter().chain(parts).collect()
}

/// The mark that the harness sets itself, at the revision that it deploys.
fn is_own(change: &Change) -> bool {
    change.place.contains(".labels.coop-cloud.")
}

fn is_mount(change: &Change) -> bool {
    let mut parts = change.place.split('.');
    match parts.next() {
        Some("volumes") => true,
        // Behind the service's name; a label may be called so, too.
        Some("services") => matches!(parts.nth(1), Some("volumes" | "tmpfs")),
        _ => false,
    }
}

/// Each with what it resolved to, and how large it lies on the machine, as far as that is known.
fn images(results: &Results, changes: &[&Change]) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let sizes: BTreeMap<&str, u64> =
        results.tiers.iter().filter_map(|tier| tier.usage.as_ref()).flat_map(sizes).collect();
    let image = |reference: &Option<String>| {
        let Some(reference) = reference else { return "none".to_owned() };
        let digest = results.images.get(reference).map(|digest| format!(" {}", code(&short(digest))));
        let size = sizes.get(reference.as_str()).map(|size| format!(", {}", amount::bytes(*size)));
        format!("{}{}{}", code(reference), digest.unwrap_or_default(), size.unwrap_or_default())
    };
    let row = |change: &&Change| {
        format!("| {} | {} | {} |\n", code(&change.place), image(&change.before), image(&change.after))
    };
    let rows: String = changes.iter().take(SHOWN).map(row).collect();
    format!("| image of | base | head |\n| --- | --- | --- |\n{rows}\n{}", more(changes.len(), "images"))
}

fn sizes(usage: &crate::keeper::usage::TierUsage) -> impl Iterator<Item = (&str, u64)> {
    usage.images.iter().filter_map(|(reference, size)| match size {
        Measured::Amount(bytes) => Some((reference.as_str(), *bytes)),
        Measured::NotMeasured { .. } => None,
    })
}

/// The digits by which people tell digests apart.
fn short(digest: &str) -> String {
    match digest.rsplit_once("sha256:") {
        Some((_, hex)) => format!("sha256:{}", hex.chars().take(12).collect::<String>()),
        None => digest.to_owned(),
    }
}

/// Names alone: a value may be somebody's.
fn env(changes: &[&Change]) -> String {
    let named = |what: &str, takes: fn(&Change) -> bool| {
        let names: Vec<&str> = changes.iter().filter(|it| takes(it)).map(|it| it.place.as_str()).collect();
        let shown: Vec<String> = names.iter().take(SHOWN).map(|name| code(name)).collect();
        let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
        (!names.is_empty()).then(|| format!("- {what}: {}{more}\n", shown.join(", ")))
    };
    let lines = [
        named("new variables", |it| it.before.is_none()),
        named("variables that are gone", |it| it.after.is_none()),
        named("variables with another value", |it| it.before.is_some() && it.after.is_some()),
    ];
    lines.into_iter().flatten().collect()
}

fn listed(what: &str, changes: &[&Change]) -> String {
    let side = |value: &Option<String>| value.as_ref().map_or("nothing".to_owned(), |value| code(value));
    let line = |change: &&Change| {
        format!("- {what}: {}: {} → {}\n", code(&change.place), side(&change.before), side(&change.after))
    };
    let lines: String = changes.iter().take(SHOWN).map(line).collect();
    lines + &more(changes.len(), what)
}

fn others(changes: &[&Change]) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let places: Vec<String> = changes.iter().take(SHOWN).map(|change| code(&change.place)).collect();
    let more = if changes.len() > SHOWN { format!(" and {} more", changes.len() - SHOWN) } else { String::new() };
    format!("- also in the compose files: {}{more}\n", places.join(", "))
}

fn more(count: usize, what: &str) -> String {
    if count > SHOWN { format!("- and {} more {}\n", count - SHOWN, text(what)) } else { String::new() }
}
