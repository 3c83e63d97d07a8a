//! What is known of a run before it begins, as the journal records it: a report needs nothing but the journal.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::spec::RunSpec;
use crate::config::wants::Wants;
use crate::plan::{Action, Step};
use crate::recipe::AppState;
use crate::recipe::version::Revision;
use crate::tier::Tier;

/// The facts of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The harness's own version.
    pub harness: String,
    pub run_id: String,
    pub recipe: String,
    /// Where the recipe came from, for people.
    pub source: String,
    /// The published version that install deploys; `None` when it deploys the head.
    pub base: Option<String>,
    /// The revision under test, for people.
    pub head: String,
    /// The head's commit, 40 hex digits; empty when it was not found out.
    pub commit: String,
    /// The head is a working copy that differs from its commit.
    pub dirty: bool,
    pub domain: String,
    pub engine: String,
    /// Which engine, and why, for people.
    pub engine_why: String,
    /// One line for every image that something else stands in for.
    pub stand_ins: Vec<String>,
    pub steps: Vec<Step>,
    pub skip_generic: BTreeSet<Tier>,
    pub notes: Vec<String>,
    /// The harness's own arguments, to repeat the run.
    pub arguments: String,
    /// Every trial that the planned tiers have.
    pub trials: Vec<TrialFact>,
    /// The trials that were asked for; `None` when nobody knows, as under nextest, which decides by itself.
    pub selected: Option<BTreeSet<String>>,
    /// A fingerprint of whoever judges, and of what the app was made from beside its commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_by: Option<String>,
    /// How much has to be proven.
    #[serde(default, skip_serializing_if = "Wants::is_plain")]
    pub wants: Wants,
    pub changes: Vec<Change>,
}

/// One trial that a run could have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialFact {
    pub name: String,
    /// `None` for teardown.
    pub tier: Option<Tier>,
    pub kind: TrialKind,
}

/// What a trial shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrialKind {
    /// The operation of a tier.
    Operation,
    /// An assertion that every recipe gets.
    Generic,
    /// An assertion of the recipe's own, also where it is a program.
    Overlay,
    /// The proof that nothing is left.
    Teardown,
}

/// Something that the head defines otherwise than the base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    pub kind: ChangeKind,
    /// The service, the variable, or the place in the compose document.
    pub place: String,
    /// `None` when the base does not have it.
    pub before: Option<String>,
    /// `None` when the head does not have it.
    pub after: Option<String>,
}

/// Where a change stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// The image of a service.
    Image,
    /// A variable of the app's `.env`.
    Env,
    /// Anything else in the merged compose document.
    Compose,
}

impl Facts {
    /// Those of a run of which no more is known yet than its recipe's name.
    pub fn unknown(run_id: &str, recipe: &str) -> Self {
        Facts {
            harness: env!("CARGO_PKG_VERSION").into(),
            run_id: run_id.into(),
            recipe: recipe.into(),
            source: "nobody knows yet".into(),
            base: None,
            head: "unknown".into(),
            commit: String::new(),
            dirty: false,
            domain: String::new(),
            engine: "none".into(),
            engine_why: "none was chosen yet".into(),
            stand_ins: Vec::new(),
            steps: Tier::ALL.map(|tier| Step { tier, action: Action::Observe }).to_vec(),
            skip_generic: BTreeSet::new(),
            notes: Vec::new(),
            arguments: String::new(),
            trials: Vec::new(),
            selected: None,
            judged_by: None,
            wants: Wants::default(),
            changes: Vec::new(),
        }
    }

    /// The tiers that were asked for, before anybody knows what will be done in them.
    pub fn will(&mut self, tiers: &BTreeSet<Tier>) {
        let step = |tier: &Tier| Step { tier: *tier, action: Action::Observe };
        self.steps = tiers.iter().map(step).collect();
    }

    /// The head, once it is found.
    pub fn is_about(&mut self, head: &Revision) {
        (self.head, self.commit, self.dirty) = (head.to_string(), head.commit.clone(), head.dirty);
    }

    /// The engine, once it is chosen.
    pub fn runs_on(&mut self, engine: &str, why: &str, stand_ins: &[String]) {
        (self.engine, self.engine_why) = (engine.into(), why.into());
        self.stand_ins = stand_ins.to_vec();
    }

    pub fn of(spec: &RunSpec) -> Self {
        let plan = &spec.plan;
        Facts {
            harness: env!("CARGO_PKG_VERSION").into(),
            run_id: spec.run_id.clone(),
            recipe: plan.recipe.to_string(),
            source: plan.source.clone(),
            base: plan.base.as_ref().map(|base| base.to_string()),
            head: plan.head.to_string(),
            commit: plan.head.commit.clone(),
            dirty: plan.head.dirty,
            domain: spec.domain.clone(),
            engine: spec.engine.name().into(),
            engine_why: spec.about.engine.clone(),
            stand_ins: spec.about.stand_ins.clone(),
            steps: plan.steps.clone(),
            skip_generic: plan.skip_generic.clone(),
            notes: plan.notes.clone(),
            arguments: spec.about.arguments.clone(),
            trials: spec.about.trials.clone(),
            selected: spec.about.selected.clone(),
            judged_by: spec.about.judged_by.clone(),
            wants: spec.about.wants,
            changes: spec.base.as_ref().map(|base| changes(base, &spec.head)).unwrap_or_default(),
        }
    }
}

/// What the head defines otherwise than the base, images first.
fn changes(base: &AppState, head: &AppState) -> Vec<Change> {
    let images = |state: &AppState| -> BTreeMap<String, String> {
        state.stack.services.iter().map(|(name, service)| (name.clone(), service.image.clone())).collect()
    };
    let env = |state: &AppState| -> BTreeMap<String, String> {
        state.env.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    let compose = |state: &AppState| {
        let mut leaves = BTreeMap::new();
        flatten("", &state.document, &mut leaves);
        // The images have their own rows.
        leaves.retain(|place, _| !(place.starts_with("services.") && place.ends_with(".image")));
        leaves
    };
    let mut changes = compare(ChangeKind::Image, &images(base), &images(head));
    changes.extend(compare(ChangeKind::Env, &env(base), &env(head)));
    changes.extend(compare(ChangeKind::Compose, &compose(base), &compose(head)));
    changes
}

fn compare(kind: ChangeKind, base: &BTreeMap<String, String>, head: &BTreeMap<String, String>) -> Vec<Change> {
    let places: BTreeSet<&String> = base.keys().chain(head.keys()).collect();
    let changed = places.into_iter().filter(|place| base.get(*place) != head.get(*place));
    let change = |place: &String| Change {
        kind,
        place: place.clone(),
        before: base.get(place).cloned(),
        after: head.get(place).cloned(),
    };
    changed.map(change).collect()
}

/// Every leaf of a document by its path, such as `services.app.deploy.labels.0`.
fn flatten(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| flatten(&below(key), value, leaves));
        }
        Value::Array(list) if !list.is_empty() => {
            list.iter().enumerate().for_each(|(at, value)| flatten(&below(&at.to_string()), value, leaves));
        }
        Value::String(text) => drop(leaves.insert(path.to_owned(), text.clone())),
        other => drop(leaves.insert(path.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named_by_its_place_with_both_sides() {
        let leaves = |text: &str| {
            let mut leaves = BTreeMap::new();
            flatten("", &serde_json::from_str(text).unwrap(), &mut leaves);
            leaves
        };
        let base = leaves(r#"{"services": {"app": {"tty": true, "ports": ["80"]}}, "volumes": {}}"#);
        let head = leaves(r#"{"services": {"app": {"tty": false, "ports": ["80", "81"]}}}"#);
        let change = |place: &str, before: Option<&str>, after: Option<&str>| Change {
            kind: ChangeKind::Compose,
            place: place.into(),
            before: before.map(Into::into),
            after: after.map(Into::into),
        };
        assert_eq!(
            compare(ChangeKind::Compose, &base, &head),
            [
                change("services.app.ports.1", None, Some("81")),
                change("services.app.tty", Some("true"), Some("false")),
                change("volumes", Some("{}"), None),
            ]
        );
        assert_eq!(compare(ChangeKind::Compose, &base, &base), []);
    }
}
