//! Whose fault it is when an engine answers with an error.

use std::path::Path;

use super::journal::{self, Record};
use super::silence;
use crate::engine::disk::{FULL, free};
use crate::engine::{self, EngineSpec};
use crate::fault::{Failure, Fault};

/// The recipe's, unless the engine could not even be asked or is in trouble of its own, somebody else has what only this
/// run should have, or this machine's disk is full.
pub fn blame(error: anyhow::Error) -> Failure {
    match engine::is_out_of_reach(&error) || engine::is_taken(&error) || is_out_of_space(&error) {
        true => Failure::infrastructure(error),
        false => Failure::recipe(error),
    }
}

/// Whether the harness itself could not write. What a container of the app says about its own disk is not looked at.
fn is_out_of_space(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.into_iter().any(|cause| matches!(cause.kind(), StorageFull | QuotaExceeded))
}

/// A failure on a machine whose disk is full by now says nothing about the recipe: also an app's own program cannot
/// write then. Looked at are the run's own directory, and where the engine keeps what it creates.
pub fn unless_full(failure: Failure, dir: &Path, engine: &EngineSpec) -> Failure {
    let places = [Some(dir), engine.data_root()].into_iter().flatten();
    places.fold(failure, |failure, place| with_free(failure, free(place), place))
}

/// What fails in a run that somebody is tearing down, or has torn down, says nothing about the recipe.
pub fn unless_torn_down(failure: Failure, records: &[Record]) -> Failure {
    let is_told = matches!(failure.fault, Fault::Recipe | Fault::Assertion) || silence::is_behind(&failure);
    match journal::torn_down_because(records) {
        Some(reason) if is_told => {
            let what = format!("the run was torn down meanwhile, {reason}: {}", failure.message);
            let failure = Failure::new(Fault::Infrastructure, what);
            // Trials say in words whose fault it is.
            Failure::new(failure.fault, &failure)
        }
        _ => failure,
    }
}

fn with_free(failure: Failure, free: Option<u64>, dir: &Path) -> Failure {
    match (failure.fault, free) {
        (Fault::Recipe | Fault::Assertion, Some(free)) if free < FULL => {
            let (place, message) = (dir.display(), failure.message);
            Failure::new(
                Fault::Infrastructure,
                format!("the disk is full: {free} bytes are free at `{place}`: {message}"),
            )
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::swarm::NameTaken;
    use anyhow::anyhow;

    #[test]
    fn only_what_a_recipe_can_do_is_blamed_on_it() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let taken = anyhow!("409").context(NameTaken("the secret `x`".into())).context("failed to deploy");
        let cases = [
            (anyhow!("no such image"), Fault::Recipe),
            (anyhow!("the app said: No space left on device"), Fault::Recipe),
            (anyhow::Error::from(full).context("failed to write the archive"), Fault::Infrastructure),
            (anyhow!("Cannot connect to the Docker daemon"), Fault::Infrastructure),
            (taken, Fault::Infrastructure),
        ];
        for (error, fault) in cases {
            let text = format!("{error:#}");
            assert_eq!(blame(error).fault, fault, "{text}");
        }
    }

    #[test]
    fn what_fails_in_a_run_that_is_torn_down_is_nobodys_fault() {
        let failure = Failure::new(Fault::Assertion, "no answer");
        assert_eq!(unless_torn_down(failure.clone(), &[]), failure);
        let reason = "asked for with `harness down`".to_owned();
        let torn_down = [Record::now(journal::Event::TeardownStarted { reason })];
        let message = "infrastructure trouble, not the recipe's fault: the run was torn down meanwhile, asked for with \
                       `harness down`: no answer";
        assert_eq!(unless_torn_down(failure, &torn_down), Failure::new(Fault::Infrastructure, message));
        let leftovers = Failure::new(Fault::Harness, "something is left");
        assert_eq!(unless_torn_down(leftovers.clone(), &torn_down), leftovers);
    }

    #[test]
    fn a_failure_on_a_disk_with_room_stays_what_it_is() {
        let failure = Failure::new(Fault::Recipe, "the hook failed");
        let dir = Path::new("/runs/a");
        let kept = |free| with_free(failure.clone(), free, dir) == failure;
        assert!(kept(Some(FULL)) && kept(None));
        let message = "the disk is full: 4096 bytes are free at `/runs/a`: the hook failed";
        assert_eq!(with_free(failure.clone(), Some(4096), dir), Failure::new(Fault::Infrastructure, message));
        let harness = Failure::new(Fault::Harness, "a bug");
        assert_eq!(with_free(harness.clone(), Some(0), dir), harness);
    }
}
