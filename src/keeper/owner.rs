//! Who wants a run to go on: a process, whoever was told that it stays up, or, for a while, whoever comes next.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::journal::Event;
use super::protocol::{Invocation, OwnedBy, Standing, TeardownReport};
use super::spec::Client;
use super::{Keeper, teardown, watch};
use crate::fault::{Failure, Fault};

const BEING_TORN_DOWN: &str = "it is being torn down";

/// The owner of a run. When it is gone the keeper tears down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Client(Client),
    /// Nobody, on purpose: the app stays until it is torn down by name.
    Kept,
    /// Nobody yet: another process may go on with the app until the limit has passed.
    Idle {
        since: Instant,
        limit: Duration,
    },
}

/// Tears down when the owner is gone, or did not come in time.
pub async fn watch(keeper: Arc<Keeper>) {
    let mut changes = keeper.owner.subscribe();
    loop {
        let owner = *changes.borrow_and_update();
        let reason = tokio::select! {
            _ = changes.changed() => continue,
            reason = end_of(owner) => reason,
        };
        // Under the lock under which somebody takes the run over: it goes to the one or ends by the other.
        let ends = keeper.progress(|progress| {
            let ends = *keeper.owner.borrow() == owner;
            progress.down |= ends;
            ends
        });
        if ends {
            teardown::run(&keeper, &reason).await;
            keeper.finished.notify_one();
            return;
        }
    }
}

/// Returns, with what is to be said of it, when the owner is gone.
async fn end_of(owner: Owner) -> String {
    match owner {
        Owner::Client(client) => {
            // A thread of its own, not one of the runtime's: it waits for as long as the run lasts.
            let (gone, seen) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                watch::wait(client);
                let _ = gone.send(());
            });
            let _ = seen.await;
            "the process that asked for the run is gone".into()
        }
        Owner::Kept => std::future::pending().await,
        Owner::Idle { since, limit } => {
            tokio::time::sleep(limit.saturating_sub(since.elapsed())).await;
            format!("nobody went on with the app within {}", humantime::format_duration(limit))
        }
    }
}

impl Keeper {
    /// Where the run stands.
    pub fn standing(&self) -> Standing {
        self.progress(|progress| Standing {
            reached: progress.reached,
            failed: progress.failed.as_ref().map(|(tier, _)| *tier),
            owner: match *self.owner.borrow() {
                _ if progress.down => OwnedBy::Nobody,
                Owner::Client(client) => OwnedBy::Process { pid: client.pid },
                Owner::Kept => OwnedBy::Kept,
                Owner::Idle { since, limit } => OwnedBy::Idle { left: limit.saturating_sub(since.elapsed()) },
            },
        })
    }

    /// Whether the process that uses the app was asked for a trial. Where nobody knows, it is every trial.
    pub fn is_asked_for(&self, trial: &str) -> bool {
        let selected = self.selected.lock().unwrap_or_else(PoisonError::into_inner);
        selected.as_ref().is_none_or(|selected| selected.contains(trial))
    }

    /// The client was told that the app stays up until somebody removes it.
    pub fn keep(&self) -> Result<TeardownReport, Failure> {
        self.progress(|progress| {
            if progress.down {
                return Err(Failure::new(Fault::Harness, BEING_TORN_DOWN));
            }
            self.owner.send_replace(Owner::Kept);
            Ok(())
        })?;
        teardown::kept(self)
    }

    /// The client goes, and the app waits for the next one. An app that is not as an operation should leave it does
    /// not: there is nothing to go on from.
    pub fn leave(&self, limit: Duration) -> Result<TeardownReport, Failure> {
        self.progress(|progress| {
            if let Some((failed, _)) = &progress.failed {
                return Err(Failure::new(Fault::Recipe, format!("the operation `{failed}` failed")));
            }
            if progress.down {
                return Err(Failure::new(Fault::Harness, BEING_TORN_DOWN));
            }
            if progress.reached.is_none() || progress.busy {
                return Err(Failure::new(Fault::Harness, "no operation is done, or one is under way"));
            }
            self.owner.send_replace(Owner::Idle { since: Instant::now(), limit });
            Ok(())
        })?;
        let millis = limit.as_millis() as u64;
        self.journal.write(Event::Left { millis }).map_err(Failure::infrastructure)?;
        teardown::kept(self)
    }

    /// Another process goes on with an app that waits.
    pub fn resume(&self, invocation: Invocation) -> Result<(), Failure> {
        self.progress(|progress| {
            let waits = matches!(*self.owner.borrow(), Owner::Idle { .. }) && !progress.down;
            if !waits {
                return Err(Failure::harness(anyhow!("the app does not wait for anybody any more")));
            }
            self.owner.send_replace(Owner::Client(invocation.client));
            Ok(())
        })?;
        *self.selected.lock().unwrap_or_else(PoisonError::into_inner) = Some(invocation.selected.clone());
        self.journal.write(Event::Resumed(Box::new(invocation))).map_err(Failure::infrastructure)
    }
}
