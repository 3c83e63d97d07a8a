//! Strict order between the trials of a recipe: each waits until every selected trial of the earlier tiers has ended, and
//! until its number is up.

use std::sync::{Condvar, Mutex, MutexGuard};

use crate::tier::Tier;

/// Two more than the tiers: the last look at the app comes after every other trial, and teardown is the last of all.
const TURNS: usize = Tier::ALL.len() + 2;

/// Which turn a trial has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Tier(Tier),
    LastLook,
    Teardown,
}

/// Which of the selected trials are still to come. No deadlock is possible, because libtest-mimic takes trials in the
/// given order: when a trial waits here, all earlier ones of its recipe were taken already.
pub struct Turns {
    at_once: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Trials that have not ended, by tier.
    pending: [usize; TURNS],
    given: usize,
    begun: usize,
    running: usize,
}

/// A trial's number: trials begin in this order.
#[derive(Clone, Copy)]
pub struct Ticket(usize);

/// A trial's turn; dropping it, however the trial ends, lets the next ones go on.
pub struct Turn<'a> {
    turns: &'a Turns,
    at: usize,
}

impl Turns {
    /// For so many trials at the same time, which is for one recipe what `--test-threads` is for a test executable.
    pub fn new(at_once: usize) -> Self {
        Turns { at_once: at_once.max(1), state: Mutex::default(), changed: Condvar::new() }
    }

    /// One more trial will come.
    pub fn expect(&self, place: Place) -> Ticket {
        let mut state = self.state();
        state.pending[index(place)] += 1;
        state.given += 1;
        Ticket(state.given - 1)
    }

    /// Waits for the earlier tiers, and for whoever comes before.
    pub fn wait(&self, ticket: Ticket, place: Place) -> Turn<'_> {
        let at = index(place);
        let has_to_wait = |state: &mut State| {
            state.begun < ticket.0
                || state.running >= self.at_once
                || state.pending[..at].iter().any(|count| *count > 0)
        };
        let waited = self.changed.wait_while(self.state(), has_to_wait);
        let mut state = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        state.begun += 1;
        state.running += 1;
        drop(state);
        self.changed.notify_all();
        Turn { turns: self, at }
    }

    /// Whether every trial that was expected has ended.
    pub fn are_over(&self) -> bool {
        self.state().pending.iter().all(|count| *count == 0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.pending[self.at] -= 1;
        state.running -= 1;
        drop(state);
        self.turns.changed.notify_all();
    }
}

fn index(place: Place) -> usize {
    match place {
        Place::Tier(tier) => tier.index(),
        Place::LastLook => TURNS - 2,
        Place::Teardown => TURNS - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[test]
    fn a_later_tier_waits_for_the_earlier_one_even_if_that_panics() {
        let turns = Turns::new(9);
        let [install, upgrade, teardown] =
            [Place::Tier(Tier::Install), Place::Tier(Tier::Upgrade), Place::Teardown].map(|it| (turns.expect(it), it));
        let install_ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let turn = turns.wait(install.0, install.1);
            scope.spawn(|| {
                let _turn = turns.wait(upgrade.0, upgrade.1);
                assert!(install_ended.load(Ordering::SeqCst), "upgrade ran before install had ended");
            });
            let panicked = scope.spawn(|| {
                let _turn = turn;
                install_ended.store(true, Ordering::SeqCst);
                panic!("an assertion panics");
            });
            assert!(panicked.join().is_err());
        });
        assert!(!turns.are_over());
        drop(turns.wait(teardown.0, teardown.1));
        assert!(turns.are_over());
    }

    #[test]
    fn trials_of_one_tier_begin_in_order_and_only_so_many_run_at_once() {
        let turns = Turns::new(2);
        let tickets: Vec<Ticket> = (0..20).map(|_| turns.expect(Place::Tier(Tier::Custom))).collect();
        let (running, begun) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            // Taken in the wrong order, as threads may be scheduled.
            for (number, ticket) in tickets.iter().enumerate().rev() {
                let (turns, running, begun) = (&turns, &running, &begun);
                scope.spawn(move || {
                    let _turn = turns.wait(*ticket, Place::Tier(Tier::Custom));
                    assert!(running.fetch_add(1, Ordering::SeqCst) < 2, "more than two ran");
                    begun.lock().unwrap().push(number);
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let mut begun = begun.into_inner().unwrap();
        // Two that run at once may write in either order.
        assert!(begun.iter().enumerate().all(|(at, number)| at.abs_diff(*number) <= 1), "{begun:?}");
        begun.sort();
        assert_eq!(begun, (0..20).collect::<Vec<_>>());
    }
}
