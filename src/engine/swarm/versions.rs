//! Which specification of a service is the current one, and which task was made for which. The API gives tasks no
//! version of their specification, so they are told apart by its content.

use std::collections::BTreeMap;

use bollard::models::TaskSpec;
use serde::Serialize;

/// What was seen of one service's specifications.
#[derive(Debug, Default)]
pub struct Versions {
    /// Grows whenever the specification differs from the last one seen.
    pub current: u64,
    spec: String,
    template: String,
    /// The version for which a template was last the current one.
    templates: BTreeMap<String, u64>,
}

impl Versions {
    /// Takes note of a service's specification as it is now.
    pub fn note(&mut self, spec: &impl Serialize, template: &TaskSpec) {
        let spec = text(spec);
        if self.spec != spec {
            self.advance();
        }
        self.spec = spec;
        self.template = comparable(template);
        self.templates.insert(self.template.clone(), self.current);
    }

    /// The specification was changed, and is what it was before by now: rolled back before anybody could look.
    pub fn advance(&mut self) {
        self.current += 1;
    }

    /// The version that a task was made for; 0 when its specification was never seen.
    pub fn of_task(&self, task: &TaskSpec) -> u64 {
        let template = comparable(task);
        if template == self.template { self.current } else { self.templates.get(&template).copied().unwrap_or(0) }
    }
}

/// A template without what a task lacks (`Runtime`) and what Swarm replaces no task for (`Placement`).
fn comparable(template: &TaskSpec) -> String {
    text(&TaskSpec { runtime: None, placement: None, ..template.clone() })
}

fn text(value: &impl Serialize) -> String {
    // As a value first: its maps are sorted, those of the models are not.
    serde_json::to_value(value).map(|value| sorted(&value)).unwrap_or_default()
}

/// JSON text in which every object's keys are in order.
fn sorted(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<&String, String> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            let fields: Vec<String> = ordered.into_iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(sorted).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{ServiceSpec, TaskSpecContainerSpec};

    fn template(image: &str) -> TaskSpec {
        let container = TaskSpecContainerSpec { image: Some(image.into()), ..Default::default() };
        TaskSpec { container_spec: Some(container), ..TaskSpec::default() }
    }

    fn spec(image: &str, label: &str) -> ServiceSpec {
        let labels = Some([("version".to_owned(), label.to_owned())].into());
        ServiceSpec { task_template: Some(template(image)), labels, ..ServiceSpec::default() }
    }

    #[test]
    fn a_task_belongs_to_the_spec_it_was_made_for() {
        let mut versions = Versions::default();
        versions.note(&spec("a", "1"), &template("a"));
        versions.note(&spec("a", "1"), &template("a"));
        assert_eq!((versions.current, versions.of_task(&template("a"))), (1, 1));
        versions.note(&spec("b", "2"), &template("b"));
        assert_eq!((versions.current, versions.of_task(&template("b")), versions.of_task(&template("a"))), (2, 2, 1));
        assert_eq!(versions.of_task(&template("c")), 0);
        let task = TaskSpec { runtime: Some("container".into()), ..template("b") };
        assert_eq!(versions.of_task(&task), 2, "a task's copy lacks some fields");
    }

    #[test]
    fn changed_labels_are_a_new_version_with_the_same_tasks_and_so_is_a_rollback() {
        let mut versions = Versions::default();
        versions.note(&spec("a", "1"), &template("a"));
        versions.note(&spec("a", "2"), &template("a"));
        assert_eq!((versions.current, versions.of_task(&template("a"))), (2, 2));
        versions.note(&spec("b", "3"), &template("b"));
        versions.note(&spec("a", "2"), &template("a"));
        assert_eq!((versions.current, versions.of_task(&template("a")), versions.of_task(&template("b"))), (4, 4, 3));
    }
}
