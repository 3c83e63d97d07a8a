//! Strict order between tiers: a trial waits until every selected trial of the earlier tiers has ended.

use std::sync::{Condvar, Mutex, MutexGuard};

use crate::tier::Tier;

/// One more than the tiers: teardown is the last of the turns.
const TURNS: usize = Tier::ALL.len() + 1;

/// How many selected trials are still to come, by tier. No deadlock is possible, because libtest-mimic takes trials in
/// the given order: when a trial waits here, all earlier ones were taken already.
#[derive(Default)]
pub struct Turns {
    pending: Mutex<[usize; TURNS]>,
    ended: Condvar,
}

/// A trial's turn; dropping it, however the trial ends, lets later tiers go on.
pub struct Turn<'a> {
    turns: &'a Turns,
    at: usize,
}

impl Turns {
    /// One more trial will come.
    pub fn expect(&self, tier: Option<Tier>) {
        self.pending()[index(tier)] += 1;
    }

    /// Waits for the earlier tiers.
    pub fn wait(&self, tier: Option<Tier>) -> Turn<'_> {
        let at = index(tier);
        let earlier_are_left = |pending: &mut [usize; TURNS]| pending[..at].iter().any(|count| *count > 0);
        let pending = self.ended.wait_while(self.pending(), earlier_are_left);
        drop(pending.unwrap_or_else(|poisoned| poisoned.into_inner()));
        Turn { turns: self, at }
    }

    fn pending(&self) -> MutexGuard<'_, [usize; TURNS]> {
        self.pending.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.pending()[self.at] -= 1;
        self.turns.ended.notify_all();
    }
}

fn index(tier: Option<Tier>) -> usize {
    tier.map_or(TURNS - 1, Tier::index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_later_tier_waits_for_the_earlier_one_even_if_that_panics() {
        let turns = Turns::default();
        turns.expect(Some(Tier::Install));
        turns.expect(Some(Tier::Upgrade));
        turns.expect(None);
        let install_ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let turn = turns.wait(Some(Tier::Install));
            scope.spawn(|| {
                let _turn = turns.wait(Some(Tier::Upgrade));
                assert!(install_ended.load(Ordering::SeqCst), "upgrade ran before install had ended");
            });
            let panicked = scope.spawn(|| {
                let _turn = turn;
                install_ended.store(true, Ordering::SeqCst);
                panic!("an assertion panics");
            });
            assert!(panicked.join().is_err());
        });
        drop(turns.wait(None));
    }
}
