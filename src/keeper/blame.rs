//! Whose fault it is when an engine answers with an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::journal::{self, Record};
use super::silence;
use super::spec::RunSpec;
use crate::engine::disk::{FULL, NEARLY_FULL, free, taken};
use crate::engine::{self, EngineSpec, NO_ROOM};
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
/// write then. Unless it is the app that has filled it. Looked at are the run's own directory, and where the engine keeps
/// what it creates.
pub fn unless_full(failure: Failure, dir: &Path, spec: &RunSpec) -> Failure {
    let own = [(dir, vec![dir.to_owned()])].into_iter();
    let of_engine = spec.engine.data_root().map(|root| (root, volumes_of(root, &spec.stack())));
    own.chain(of_engine).fold(failure, |failure, (place, held)| {
        let Some(free) = free(place).filter(|free| *free < FULL) else { return failure };
        let before = spec.about.room.get(place).copied();
        match before.filter(|before| *before >= FULL).map(|before| (before, taken(&held))) {
            // More than half of what is gone is the app's own.
            Some((before, held)) if held >= (before - free.min(before)) / 2 => by_the_app(failure, before, held, place),
            _ => with_free(failure, free, place),
        }
    })
}

/// The bytes that are free where a run's own and its engine's things will lie.
pub fn room(run_dir: &Path, engine: &EngineSpec) -> BTreeMap<PathBuf, u64> {
    // The run's own directory is not there yet.
    let near = run_dir.ancestors().find(|ancestor| ancestor.exists()).and_then(free);
    let own = near.map(|free| (run_dir.to_owned(), free));
    let of_engine = engine.data_root().and_then(|root| Some((root.to_owned(), free(root)?)));
    own.into_iter().chain(of_engine).collect()
}

/// The stack's volumes as a Docker on this machine keeps them.
fn volumes_of(root: &Path, stack: &str) -> Vec<PathBuf> {
    let of_stack = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix(stack).is_some_and(|rest| rest.starts_with('_'))
    };
    let volumes = std::fs::read_dir(root.join("volumes")).into_iter().flatten().flatten();
    volumes.map(|entry| entry.path()).filter(of_stack).collect()
}

/// Whether an engine that says so had no room on its disk. What it says may quote the recipe, so that the disk itself is
/// looked at where it can be; elsewhere the words count that do not stand in the recipe.
pub fn had_no_room(engine: &EngineSpec, dir: &Path, document: &serde_json::Value) -> bool {
    let place = match engine {
        EngineSpec::Embedded => Some(dir),
        EngineSpec::Swarm(_) | EngineSpec::Abra(_) => engine.data_root(),
    };
    match place.and_then(free) {
        Some(free) => free < NEARLY_FULL,
        None => !NO_ROOM.iter().any(|words| document.to_string().to_lowercase().contains(words)),
    }
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

fn with_free(failure: Failure, free: u64, dir: &Path) -> Failure {
    match failure.fault {
        Fault::Recipe | Fault::Assertion => {
            let (place, message) = (dir.display(), failure.message);
            Failure::new(
                Fault::Infrastructure,
                format!("the disk is full: {free} bytes are free at `{place}`: {message}"),
            )
        }
        _ => failure,
    }
}

/// Whoever met the full disk: without the app there would be room.
fn by_the_app(failure: Failure, before: u64, held: u64, dir: &Path) -> Failure {
    let (place, message) = (dir.display(), failure.message);
    let (before, held) = (before >> 20, held >> 20);
    Failure::new(
        Fault::Recipe,
        format!(
            "the app has filled the disk: of {before} MiB that were free at `{place}` before the run, it has {held} MiB \
             now: {message}"
        ),
    )
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
        let message = "the disk is full: 4096 bytes are free at `/runs/a`: the hook failed";
        assert_eq!(with_free(failure.clone(), 4096, dir), Failure::new(Fault::Infrastructure, message));
        let harness = Failure::new(Fault::Harness, "a bug");
        assert_eq!(with_free(harness.clone(), 0, dir), harness);
        let message = "the app has filled the disk: of 64 MiB that were free at `/runs/a` before the run, it has 40 MiB \
                       now: failed to write the archive";
        let met = Failure::new(Fault::Infrastructure, "failed to write the archive");
        assert_eq!(by_the_app(met, 64 << 20, 40 << 20, dir), Failure::new(Fault::Recipe, message));
    }

    #[test]
    fn words_of_a_recipe_are_no_full_disk() {
        let engine = EngineSpec::Embedded;
        let quoted = serde_json::json!({ "command": ["/No space left on device"] });
        assert!(!had_no_room(&engine, Path::new("/"), &quoted), "this machine has room");
        // Of a file system that keeps no count, as of a disk elsewhere, nobody can look at the state.
        let nowhere = Path::new("/proc");
        assert!(!had_no_room(&engine, nowhere, &quoted));
        assert!(had_no_room(&engine, nowhere, &serde_json::json!({ "command": ["app"] })));
    }
}
