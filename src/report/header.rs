//! The header of a run: what is tested, how, where, and what is not as in production.

use std::path::Path;

use super::colour::{self, Colour};
use crate::engine::EngineSpec;
use crate::plain::printed;
use crate::plan::SkipKind;
use crate::prepare::Prepared;

/// Prints the header on standard error, with what became of an app that an earlier run has left up.
pub fn print(prepared: &Prepared, warm: Option<&str>) {
    let mut text = String::from("\n");
    let warm = warm.map(|line| ("warm", line.to_owned()));
    for (label, line) in lines(prepared).into_iter().chain(warm) {
        let line = printed(&format!("{label:<9}{line}"));
        let is_doubtful = ["images", "untested", "WARNING"].contains(&label);
        let wanted = is_doubtful && colour::is_wanted();
        text.push_str(&(colour::paint(&line, Colour::Doubtful, wanted) + "\n"));
    }
    eprint!("{text}");
}

/// Label and text, line by line.
pub fn lines(prepared: &Prepared) -> Vec<(&'static str, String)> {
    let spec = &prepared.spec;
    let mut lines = vec![
        ("recipe", format!("{} from {}", spec.plan.recipe, from_here(&spec.plan.source))),
        ("versions", spec.plan.versions()),
        ("engine", spec.about.engine.clone()),
    ];
    lines.extend(prepared.short_names.iter().map(|line| ("env", line.clone())));
    lines.extend(spec.about.stand_ins.iter().map(|line| ("images", line.clone())));
    lines.extend(prepared.allowed.iter().map(|line| ("allowed", line.clone())));
    match spec.engine {
        EngineSpec::Swarm(_) => {
            lines.extend(spec.settings.policy.capped(&spec.head.document).map(|line| ("limits", line)));
        }
        EngineSpec::Embedded => lines.push(("limits", crate::engine::embedded::bounds())),
        EngineSpec::Abra(_) => {}
    }
    lines.extend(prepared.approved.iter().map(|line| ("approved", line.clone())));
    lines.extend(prepared.ignored.iter().map(|line| ("ignored", line.clone())));
    lines.push(("domain", spec.domain.clone()));
    lines.push(("run", prepared.run_dir.display().to_string()));
    for step in &spec.plan.steps {
        if let Some(skip) = spec.plan.skip(step.tier) {
            let label = if skip.kind == SkipKind::Intended { "skipped" } else { "untested" };
            lines.push((label, format!("{}, {skip}", step.tier)));
        }
    }
    if let Some(sabotage) = spec.sabotage {
        lines.push(("WARNING", format!("a fault is planted, `{sabotage}`: {}", sabotage.facts().what)));
    }
    if spec.about.wants.lax_in_ci {
        lines.push(("WARNING", "strict is off although CI=true: what is not proven is no failure".into()));
    }
    for tier in &spec.plan.skip_generic {
        lines.push(("WARNING", format!("the generic assertions of `{tier}` are opted out of: they prove nothing now")));
    }
    lines.extend(spec.plan.notes.iter().map(|note| ("note", note.clone())));
    lines
}

/// A place inside the checkout is named from there.
fn from_here(source: &str) -> String {
    let root = crate::program::root();
    Path::new(source).strip_prefix(root).map_or_else(|_| source.to_owned(), |path| path.display().to_string())
}
