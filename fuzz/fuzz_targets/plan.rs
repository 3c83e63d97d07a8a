//! Everything that `--plan` reads of a recipe, with a NUL between the files: `.env.sample`, `abra.sh` and compose files of
//! up to a mebibyte together. However they are put together, reading them takes little memory and time.
#![no_main]

use std::time::{Duration, Instant};

use harness::recipe::AppState;
use harness::recipe::abra::Form;
use harness::recipe::env::AppEnv;
use harness::recipe::policy::Policy;
use harness::recipe::tree::{Entry, Tree};
use libfuzzer_sys::fuzz_target;

/// Of processor time; the build is one with coverage and without most optimisations.
const TIME: Duration = Duration::from_secs(2);
/// Kibibytes beyond what the process had before.
const MEMORY: u64 = 256 << 10;

fuzz_target!(|text: &str| {
    let mut tree = Tree::default();
    for (name, part) in [".env.sample", "abra.sh", "compose.yml", "compose.more.yml", "vars.env"].iter().zip(text.split('\0')) {
        tree.files.insert((*name).into(), Entry::File { bytes: part.as_bytes().to_vec(), executable: false });
    }
    let (start, before) = (Instant::now(), peak());
    plan(&tree);
    let (took, more) = (start.elapsed(), peak().saturating_sub(before));
    assert!(took < TIME, "it took {took:?}");
    assert!(more < MEMORY, "it took {more} KiB");
});

fn plan(tree: &Tree) {
    const DOMAIN: &str = "wiki-3fa9c1.harness.test";
    let recipe = "wiki".parse().expect("a name");
    let Ok(env) = AppEnv::new(tree, &recipe, DOMAIN, &Default::default()) else { return };
    assert_eq!((env.stack(), env.get("DOMAIN")), ("wiki-3fa9c1_harness_test", Some(DOMAIN)));
    let Ok(state) = AppState::load(&recipe, tree, DOMAIN, env, &Form::Pinned { version: "1.0.0+1".into() }) else { return };
    assert_eq!(state.stack.name, "wiki-3fa9c1_harness_test");
    let _ = Policy::default().judge(&state.findings);
}

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}
