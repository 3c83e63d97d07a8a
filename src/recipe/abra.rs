//! abra's marks on a deployment: the labels that say which recipe, version and commit it is.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::env::AppEnv;
use super::name::RecipeName;
use super::stack::Stack;
use super::version::{Revision, Version};

/// The one service that abra labels and gives the `.env` to.
pub const APP: &str = "app";

/// Swarm refuses longer names of secrets and configs.
const LONGEST_OBJECT: usize = 64;
/// Swarm refuses longer service names, `<stack>_<service>`.
const LONGEST_SERVICE: usize = 63;

/// The two ways in which abra deploys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `abra app deploy <version>`: a published version, checked out by its tag.
    Pinned { version: String },
    /// `abra app deploy --chaos`: whatever the checkout holds.
    Chaos { revision: Revision },
}

impl Form {
    /// How a published version is deployed: pinned, or as chaos from its commit where its tag is lightweight, because
    /// abra refuses the pinned form then.
    pub fn of_version(version: &Version, revision: &Revision) -> Form {
        if version.annotated {
            Form::Pinned { version: version.tag.clone() }
        } else {
            Form::Chaos { revision: revision.clone() }
        }
    }
}

/// Labels service `app` and gives it the app's environment, exactly as abra does before it deploys.
///
/// Only `app` gets `coop-cloud.<stack>.recipe`, `.chaos`, `.chaos-version` (chaos only) and `.version`. Under chaos
/// `.version` keeps the value that the compose file wrote. Every key of the `.env` that the service does not set
/// itself is injected (abra's `ExposeAllEnv`), `TYPE` with the version behind it.
pub fn label(stack: &mut Stack, recipe: &RecipeName, env: &AppEnv, form: &Form) {
    let name = stack.name.clone();
    let Some(app) = stack.services.get_mut(APP) else { return };
    let labels = &mut app.deploy.labels;
    let key = |what: &str| format!("coop-cloud.{name}.{what}");
    labels.insert(key("recipe"), recipe.to_string());
    let version = match form {
        Form::Pinned { version } => {
            labels.insert(key("chaos"), "false".into());
            labels.insert(key("version"), version.clone());
            version.clone()
        }
        Form::Chaos { revision } => {
            labels.insert(key("chaos"), "true".into());
            labels.insert(key("chaos-version"), revision.chaos_version());
            revision.chaos_version()
        }
    };
    app.environment.entry("TYPE".into()).or_insert(format!("{recipe}:{version}"));
    for (key, value) in env.iter() {
        app.environment.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
}

/// What a deployment says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub recipe: Option<String>,
    pub version: Option<String>,
    pub chaos: bool,
    /// The first digits of the commit that a chaos deployment was made from.
    pub commit: Option<String>,
    /// The checkout had uncommitted changes (`+U`).
    pub dirty: bool,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.as_ref().map_or("none".to_owned(), |value| format!("`{value}`"));
        let (recipe, version, commit) = (shown(&self.recipe), shown(&self.version), shown(&self.commit));
        let form = if self.chaos { "chaos" } else { "no chaos" };
        let changes = if self.dirty { ", with uncommitted changes" } else { "" };
        write!(f, "recipe {recipe}, version {version}, {form}, commit {commit}{changes}")
    }
}

impl Identity {
    /// Whether this is a deployment of the commit. abra shortens a commit to 8 digits, so a prefix must do, but never
    /// fewer digits than that.
    pub fn is_commit(&self, commit: &str) -> bool {
        self.commit.as_ref().is_some_and(|short| short.len() >= 8 && commit.starts_with(short.as_str()))
    }
}

/// Reads the labels of service `app`.
pub fn identity(labels: &std::collections::BTreeMap<String, String>, stack: &str) -> Identity {
    let label = |what: &str| labels.get(&format!("coop-cloud.{stack}.{what}")).filter(|it| !it.is_empty()).cloned();
    let chaos = label("chaos").as_deref() == Some("true");
    // A pinned deployment may carry the label of an earlier chaos one; it means nothing then.
    let commit = label("chaos-version").filter(|_| chaos);
    let dirty = commit.as_ref().is_some_and(|it| it.ends_with("+U"));
    Identity {
        recipe: label("recipe"),
        version: label("version"),
        chaos,
        commit: commit.map(|it| it.trim_end_matches("+U").to_owned()),
        dirty,
    }
}

/// The recipe's own deadline for converging: `coop-cloud.<stack>.timeout`, in seconds, usually `${TIMEOUT:-300}`. One that
/// is no number is refused by [`problems`] before anything waits for it.
pub fn timeout(stack: &Stack) -> Option<Duration> {
    let (_, label) = timeout_label(stack)?;
    label.parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

fn timeout_label(stack: &Stack) -> Option<(String, &String)> {
    let key = format!("coop-cloud.{}.timeout", stack.name);
    let label = stack.services.get(APP)?.deploy.labels.get(&key)?;
    // `${TIMEOUT}` of a sample that leaves it out: abra takes an empty label for none.
    (!label.is_empty()).then_some((key, label))
}

/// What abra or Swarm would refuse, each as one sentence.
pub fn problems(stack: &Stack) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some((key, label)) = timeout_label(stack).filter(|_| timeout(stack).is_none()) {
        let label = label.escape_debug();
        problems.push(format!(
            "the label `{key}` of service `{APP}` is `{label}`: it has to be a number of seconds, as in `300`"
        ));
    }
    let mut check = |kind: &str, name: &str, limit: usize| {
        if name.chars().count() > limit {
            let length = name.chars().count();
            problems.push(format!("{kind} `{name}` has {length} characters, but Swarm allows {limit}"));
        }
    };
    for (kind, objects) in [("secret", &stack.secrets), ("config", &stack.configs)] {
        objects.values().for_each(|object| check(kind, &object.name, LONGEST_OBJECT));
    }
    stack.services.keys().for_each(|name| check("service", &format!("{}_{name}", stack.name), LONGEST_SERVICE));
    problems
}

/// Configs whose content differs between two revisions although their name does not, each as one sentence. Swarm
/// refuses such an update with "only updates to Labels are allowed"; a recipe gives the config a new version instead.
pub fn check_configs(base: &Stack, head: &Stack) -> Vec<String> {
    let changed = |key: &str, new: &super::stack::FileObject| {
        let old = base.configs.values().find(|old| old.name == new.name)?;
        let differ = old.content.is_some() && new.content.is_some() && old.content != new.content;
        differ.then(|| {
            format!(
                "config `{key}` has other content in the head than in the base, under the same name `{}`: give it a new \
                 version in `abra.sh`",
                new.name
            )
        })
    };
    head.configs.iter().filter_map(|(key, new)| changed(key, new)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::stack::{FileObject, Service};

    const COMMIT: &str = "9a1b2c3d4e5f60718293a4b5c6d7e8f901234567";

    #[test]
    fn an_identity_is_told_in_words() {
        let of_nothing = Identity::default();
        assert_eq!(of_nothing.to_string(), "recipe none, version none, no chaos, commit none");
        let commit = Some("9a1b2c3d".to_owned());
        let chaos = Identity { recipe: Some("wiki".into()), version: None, chaos: true, commit, dirty: true };
        let said = "recipe `wiki`, version none, chaos, commit `9a1b2c3d`, with uncommitted changes";
        assert_eq!(chaos.to_string(), said);
    }

    fn stack() -> Stack {
        let mut app = Service::default();
        app.deploy.labels.insert("coop-cloud.s_x.version".into(), "1.1.0+2".into());
        app.deploy.labels.insert("coop-cloud.s_x.timeout".into(), "90".into());
        app.environment.insert("DOMAIN".into(), "own".into());
        let services = [(APP.to_owned(), app), ("db".to_owned(), Service::default())].into();
        Stack { name: "s_x".into(), services, ..Stack::default() }
    }

    fn labelled(form: &Form) -> Stack {
        let mut stack = stack();
        let env = AppEnv::parse("TYPE=wiki\nDOMAIN=s.x\nKEY=value\n").unwrap();
        label(&mut stack, &"wiki".parse().unwrap(), &env, form);
        stack
    }

    fn chaos(dirty: bool) -> Form {
        let revision =
            Revision { commit: COMMIT.into(), tree: "t".into(), dirty, version: None, label: "branch main".into() };
        Form::Chaos { revision }
    }

    #[test]
    fn a_pinned_deployment_says_its_version_and_no_commit() {
        let stack = labelled(&Form::Pinned { version: "1.0.0+1".into() });
        let identity = identity(&stack.services[APP].deploy.labels, "s_x");
        let expected = Identity { recipe: Some("wiki".into()), version: Some("1.0.0+1".into()), ..Identity::default() };
        assert_eq!(identity, expected);
        assert!(!identity.is_commit(COMMIT));
        assert_eq!(stack.services[APP].environment["TYPE"], "wiki:1.0.0+1");
    }

    #[test]
    fn a_chaos_deployment_says_its_commit_and_keeps_the_version_of_the_compose_file() {
        let identity = identity(&labelled(&chaos(false)).services[APP].deploy.labels, "s_x");
        assert_eq!((identity.version.as_deref(), identity.commit.as_deref()), (Some("1.1.0+2"), Some("9a1b2c3d")));
        assert!(identity.is_commit(COMMIT) && !identity.dirty);
        assert!(!identity.is_commit("9a1b2c3e00000000000000000000000000000000"));
    }

    #[test]
    fn uncommitted_changes_show_and_do_not_hide_the_commit() {
        let stack = labelled(&chaos(true));
        assert_eq!(stack.services[APP].deploy.labels["coop-cloud.s_x.chaos-version"], "9a1b2c3d+U");
        let identity = identity(&stack.services[APP].deploy.labels, "s_x");
        assert!(identity.dirty && identity.is_commit(COMMIT));
    }

    #[test]
    fn a_short_or_missing_commit_is_no_proof() {
        assert!(!Identity::default().is_commit(COMMIT));
        assert!(!Identity { commit: Some("9a1b".into()), ..Identity::default() }.is_commit(COMMIT));
        assert!(!Identity { commit: Some(String::new()), ..Identity::default() }.is_commit(COMMIT));
    }

    #[test]
    fn only_app_is_labelled_and_its_own_environment_wins() {
        let stack = labelled(&chaos(false));
        assert!(stack.services["db"].deploy.labels.is_empty() && stack.services["db"].environment.is_empty());
        assert_eq!(stack.services[APP].environment["DOMAIN"], "own");
        assert_eq!(stack.services[APP].environment["KEY"], "value");
    }

    #[test]
    fn the_timeout_label_is_read_and_nonsense_is_a_problem() {
        assert_eq!((timeout(&stack()), problems(&stack())), (Some(Duration::from_secs(90)), vec![]));
        for value in ["soon", "0", " ", "-5", "5m", "1e3"] {
            let mut odd = stack();
            odd.services.get_mut(APP).unwrap().deploy.labels.insert("coop-cloud.s_x.timeout".into(), value.into());
            let expected = format!(
                "the label `coop-cloud.s_x.timeout` of service `app` is `{value}`: it has to be a number of seconds, as in \
                 `300`"
            );
            assert_eq!((timeout(&odd), problems(&odd)), (None, vec![expected]));
        }
        let mut empty = stack();
        empty.services.get_mut(APP).unwrap().deploy.labels.insert("coop-cloud.s_x.timeout".into(), String::new());
        assert_eq!((timeout(&empty), problems(&empty)), (None, vec![]));
        let mut without = stack();
        without.services.get_mut(APP).unwrap().deploy.labels.clear();
        assert_eq!((timeout(&without), problems(&without)), (None, vec![]));
    }

    #[test]
    fn a_config_that_changed_needs_a_new_version() {
        let with = |name: &str, content: &str| {
            let config = FileObject { name: name.into(), content: Some(content.into()), ..FileObject::default() };
            Stack { configs: [("conf".to_owned(), config)].into(), ..stack() }
        };
        let base = with("s_x_conf_v1", "a");
        assert!(check_configs(&base, &with("s_x_conf_v1", "a")).is_empty());
        assert!(check_configs(&base, &with("s_x_conf_v2", "b")).is_empty());
        assert_eq!(
            check_configs(&base, &with("s_x_conf_v1", "b")),
            [
                "config `conf` has other content in the head than in the base, under the same name `s_x_conf_v1`: give it a \
              new version in `abra.sh`"
            ]
        );
    }

    #[test]
    fn names_beyond_swarms_limits_are_found() {
        let mut stack = stack();
        assert!(problems(&stack).is_empty());
        let name = "x".repeat(65);
        stack.configs.insert("c".into(), FileObject { name: name.clone(), ..FileObject::default() });
        assert_eq!(problems(&stack), [format!("config `{name}` has 65 characters, but Swarm allows 64")]);
        stack.configs.clear();
        stack.services.insert("y".repeat(60), Service::default());
        assert!(problems(&stack)[0].ends_with("has 64 characters, but Swarm allows 63"));
    }
}
