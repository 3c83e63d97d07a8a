//! Whatever the files of a recipe say: what would be created and removed on a Swarm is the run's own.

use std::cell::Cell;
use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use super::inventory::Ours;
use super::{RUN_LABEL, STACK_LABEL, deploy, document};
use crate::recipe::AppState;
use crate::recipe::abra::Form;
use crate::recipe::env::{AppEnv, stack_name};
use crate::recipe::policy::Policy;
use crate::recipe::tree::{Entry, Tree};

const DOMAIN: &str = "wiki-3fa9c1.harness.test";
const RUN: &str = "wiki-20261128t101112-3fa9c1";
/// The app beside it, and names that it has on the Swarm.
const VICTIM: &str = "victim_example_org";
const OF_VICTIM: [&str; 4] = ["victim_example_org_app", "victim_example_org_data", "victim_example_org_pw_v1", "proxy"];

/// Names of apps and of parts of them, in all the ways in which a file may come to say them.
const FOREIGN: [&str; 9] = [
    VICTIM,
    "victim.example.org",
    "victim",
    "wiki",
    "$X",
    "${Y:-victim_example_org_data}",
    "victim_example_org_data",
    "victim_example_org_${Z}",
    "",
];

fn word() -> impl Strategy<Value = &'static str> {
    named(&["$STACK_NAME", "$DOMAIN", "${STACK_NAME}_data"])
}

/// One of these as often as of those that are somebody else's: what is refused at once proves nothing of what is not.
fn named(own: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => proptest::sample::select(own), 1 => proptest::sample::select(&FOREIGN[..])]
}

fn variables(prefix: &'static str) -> impl Strategy<Value = String> {
    let key = proptest::sample::select(vec!["STACK_NAME", "DOMAIN", "X", "Y", "Z", "TYPE", "LETS_ENCRYPT_ENV"]);
    let line = (key, word()).prop_map(move |(key, value)| format!("{prefix}{key}={value}\n"));
    proptest::collection::vec(line, 0..4).prop_map(|lines| lines.concat())
}

/// One section with an object `data`.
fn section(kind: &'static str) -> impl Strategy<Value = String> {
    let label = named_label();
    // A secret is external in every recipe.
    let external = proptest::bool::weighted(if kind == "secrets" { 0.95 } else { 0.1 });
    let name = named(&["${STACK_NAME}_data", "${STACK_NAME}_data_v1", "${STACK_NAME}_x_$X"]);
    let name = proptest::option::weighted(if kind == "secrets" { 0.95 } else { 0.5 }, name);
    (external, name, proptest::option::weighted(0.1, (label, word()))).prop_map(move |(external, name, label)| {
        let mut text = format!("{kind}:\n  data:\n    external: {external}\n");
        text += &name.map(|name| format!("    name: \"{name}\"\n")).unwrap_or_default();
        text += if kind == "configs" && !external { "    file: conf\n" } else { "" };
        text + &label.map(|(key, value)| format!("    labels: {{{key}: \"{value}\"}}\n")).unwrap_or_default()
    })
}

fn named_label() -> impl Strategy<Value = &'static str> {
    let harmless = proptest::sample::select(vec!["backupbot.backup", "coop-cloud.x", "traefik.enable"]);
    prop_oneof![4 => harmless, 1 => proptest::sample::select(vec![STACK_LABEL, RUN_LABEL])]
}

fn compose() -> impl Strategy<Value = String> {
    let label = (named_label(), word());
    let sections = (section("volumes"), section("networks"), section("configs"), section("secrets"));
    (label, named(&["$DOMAIN", "www.$DOMAIN"]), sections).prop_map(|((key, value), host, (volumes, networks, configs, secrets))| {
        format!(
            "services:\n  app:\n    image: nginx:1\n    volumes: [data:/data]\n    networks: [data]\n    configs: [data]\n    \
             secrets: [data]\n    deploy:\n      labels:\n        {key}: \"{value}\"\n        \
             traefik.http.routers.${{STACK_NAME}}.rule: \"Host(`{host}`)\"\n{volumes}{networks}{configs}{secrets}"
        )
        // A key of a mapping is no place for a variable.
        .replace("traefik.http.routers.${STACK_NAME}.rule", "traefik.http.routers.wiki-3fa9c1_harness_test.rule")
    })
}

fn state(sample: &str, abra_sh: &str, compose: &str) -> anyhow::Result<AppState> {
    let files = [(".env.sample", sample), ("abra.sh", abra_sh), ("compose.yml", compose), ("conf", "conf")];
    let file = |text: &str| Entry::File { bytes: text.as_bytes().to_vec(), executable: false };
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect();
    let tree = Tree { files, submodules: Vec::new() };
    let recipe = "wiki".parse()?;
    let env = AppEnv::new(&tree, &recipe, DOMAIN, &Default::default())?;
    AppState::load(&recipe, &tree, DOMAIN, env, &Form::Pinned { version: "1.0.0+1".into() })
}

/// What is wrong with what would be done for a state.
fn trespass(state: &AppState) -> Option<String> {
    let own = format!("{}_", stack_name(DOMAIN));
    let stack = state.stack.clone().with_own_secrets();
    let secrets = stack.secrets.values().filter(|secret| !secret.external).map(|secret| secret.name.clone());
    let made = deploy::objects(&stack).into_iter().map(|(_, name)| name).chain(secrets);
    let dir = tempfile::tempdir().unwrap();
    let networks = Default::default();
    let changes = document::Changes { run_id: RUN, without_ipvs: false, networks: &networks, dir: dir.path() };
    let written: Value = serde_json::from_str(&document::write(&state.document, &stack, &changes).unwrap()).unwrap();
    let named = ["volumes", "networks", "configs", "secrets"].into_iter().flat_map(|section| {
        let objects = written[section].as_object().cloned().unwrap_or_default();
        objects.into_iter().filter(|(_, object)| object["external"] != true)
    });
    // Without a name Docker makes it of the stack's.
    let named = named.filter_map(|(_, object)| object["name"].as_str().map(str::to_owned));
    let foreign = made.chain(named.collect::<Vec<_>>()).find(|name| !name.starts_with(&own));
    let labelled = |key: &str, value: &str| {
        let text = written.to_string();
        text.contains(&format!("\"{key}\":\"{value}")) || text.contains(&format!("{key}={value}"))
    };
    let ours = Ours::new(&stack.name, RUN);
    let labels: HashMap<String, String> = [(STACK_LABEL.to_owned(), VICTIM.to_owned())].into();
    let removed = OF_VICTIM.into_iter().find(|name| ours.are(name, &labels) || ours.are(name, &HashMap::new()));
    foreign
        .map(|name| format!("`{name}` would be made"))
        .or(removed.map(|name| format!("`{name}` would be removed")))
        .or(labelled(STACK_LABEL, "victim").then(|| "something would be labelled as the other app's".into()))
        .or((stack.name != stack_name(DOMAIN)).then(|| format!("the stack is `{}`", stack.name)))
}

#[test]
fn whatever_a_recipe_says_only_what_is_the_runs_own_is_made_and_removed() {
    let mut runner = TestRunner::new(Config { cases: 2000, ..Config::default() });
    let (read, accepted, refused) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let cases = (variables(""), variables("export "), compose());
    runner
        .run(&cases, |(sample, abra_sh, compose)| {
            let Ok(state) = state(&sample, &abra_sh, &compose) else { return Ok(()) };
            read.set(read.get() + 1);
            if !Policy::default().judge(&state.findings).refused.is_empty() {
                refused.set(refused.get() + 1);
                return Ok(());
            }
            accepted.set(accepted.get() + 1);
            prop_assert_eq!(trespass(&state), None);
            Ok(())
        })
        .unwrap();
    // A policy that refused everything, or nothing, would make this a proof of nothing.
    let counts = (read.get(), accepted.get(), refused.get());
    assert!(accepted.get() > 20 && refused.get() > 200, "read, accepted and refused: {counts:?}");
}
