//! Two compose files and an `.env`, through loading, merging, typing, labels and the policy, with a NUL between them.
#![no_main]

use harness::recipe::AppState;
use harness::recipe::abra::Form;
use harness::recipe::compose;
use harness::recipe::env::AppEnv;
use harness::recipe::policy::Policy;
use harness::recipe::tree::{Entry, Tree};
use harness::recipe::version::Revision;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut parts = text.split('\0');
    let mut tree = Tree::default();
    for name in ["compose.yml", "compose.more.yml", "vars.env"] {
        let bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        tree.files.insert(name.into(), Entry::File { bytes, executable: false });
    }
    let Ok(mut env) = AppEnv::parse(parts.next().unwrap_or_default()) else { return };
    if !text.contains('\0') {
        tree.files.remove("compose.more.yml");
    }
    env.set("COMPOSE_FILE", if text.contains('\0') { "compose.yml:compose.more.yml" } else { "compose.yml" });
    let revision = Revision {
        version: None,
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        dirty: false,
        tree: "0123456789abcdef0123456789abcdef01234567".into(),
        label: "commit".into(),
    };
    let recipe = "wiki".parse().expect("a name");
    let Ok(state) = AppState::load(&recipe, &tree, "app.example.org", env, &Form::Chaos { revision }) else { return };
    compose::for_stack_deploy(&state.document).expect("a document that was read can be written");
    let judged = Policy::default().judge(&state.findings);
    assert!(judged.refused.iter().all(|line| !line.contains(['\n', '\u{1b}'])), "{judged:?}");
});
