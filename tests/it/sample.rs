//! How much of what could be tried a run of the tests tries: some of it, chosen by a seed that is printed, or all of it.

use std::io::Write as _;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Takes everything: every crash point, every planted fault on a Swarm. It takes about half an hour more.
const ALL: &str = "HARNESS_EVERY_POINT";
/// Takes what another run has taken: the number that it printed.
const SEED: &str = "HARNESS_SAMPLE";

/// Whether to try everything.
pub fn all() -> bool {
    std::env::var_os(ALL).is_some()
}

/// One of every `step`, evenly, from a beginning that the seed decides: so that every run looks somewhere else.
pub fn of<T>(what: &str, step: usize, things: Vec<T>) -> Vec<T> {
    if all() || step < 2 {
        return things;
    }
    let (count, from) = (things.len(), start(what, step.min(things.len().max(1))));
    let some: Vec<T> = things.into_iter().skip(from).step_by(step).collect();
    let seed = *CHOSEN;
    let line =
        format!("{what}: {} of {count} are tried; {SEED}={seed} tries the same, {ALL}=1 all of them\n", some.len());
    // Not with the macro, which libtest captures.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    some
}

/// Why a thing is left out, by its number, where every one is a trial of its own.
pub fn left_out(what: &str, step: usize, number: usize) -> Option<String> {
    let seed = *CHOSEN;
    let is_left_out = !all() && number % step != start(what, step);
    is_left_out.then(|| format!("{what}: one of {step} is tried; {SEED}={seed} tries the same, {ALL}=1 all of them"))
}

static CHOSEN: LazyLock<u64> = LazyLock::new(|| match std::env::var(SEED) {
    Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("{SEED}={seed} is no number")),
    Err(_) => {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) % 1_000_000
    }
});

/// Where to begin, below `step`: FNV-1a over the seed and the name, so that no two samples begin alike.
fn start(what: &str, step: usize) -> usize {
    let bytes = CHOSEN.to_le_bytes().into_iter().chain(what.bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash % step as u64) as usize
}
