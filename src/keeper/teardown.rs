//! Teardown: services first, everything else after, and a look at the end that proves nothing is left.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::journal::{self, Event, millis};
use super::protocol::{ENDED, TeardownReport};
use super::rig::Rig;
use super::{Keeper, leaks, logs, photo, surroundings};
use crate::engine::{self, Engine, Kind, Ledger as _};
use crate::fault::{Failure, panic_text};

/// The engine's removals may take this long; what is then still there is reported as left over.
const LIMIT: Duration = Duration::from_secs(60);

/// The services' logs are read within this time, or not at all.
const LOGS: Duration = Duration::from_secs(10);

/// A look at what there is takes a moment.
const LOOK: Duration = Duration::from_secs(15);

/// Tears the run down, once; whoever comes later gets the same report. It never fails: what went wrong is in the
/// leftovers.
pub async fn run(keeper: &Arc<Keeper>, reason: &str) -> TeardownReport {
    let mut done = match keeper.teardown.try_lock() {
        Ok(done) => done,
        Err(_) => {
            // Whoever holds it may wait for a picture, for which there is no time any more.
            keeper.progress(|progress| progress.down |= reason != ENDED);
            keeper.teardown.lock().await
        }
    };
    if let Some(report) = &*done {
        return report.clone();
    }
    // On a task of its own: whoever asked may be cut off, and a panic must not end in a keeper that lives on for nothing.
    let leaving = Leaving::default();
    let task = tokio::spawn({
        let (keeper, leaving, reason) = (keeper.clone(), leaving.clone(), reason.to_owned());
        async move { tear_down(&keeper, &leaving, &reason).await }
    });
    let report = match task.await {
        Ok(report) => report,
        Err(error) => after_panic(keeper, leaving, &panic_text(error)).await,
    };
    *done = Some(report.clone());
    report
}

/// The engine from the moment on at which nobody else may ask it anything.
type Leaving = Arc<OnceLock<Rig>>;

async fn tear_down(keeper: &Arc<Keeper>, leaving: &Leaving, reason: &str) -> TeardownReport {
    if reason == ENDED {
        photo::settle(keeper).await;
    }
    // Waiting for a picture is no time of the teardown.
    let start = Instant::now();
    keeper.progress(|progress| progress.down = true);
    // A full disk must not keep anything from being removed: the journal's failure is said, not obeyed.
    let mut leftovers = Vec::new();
    note(&mut leftovers, keeper.journal.write(Event::TeardownStarted { reason: reason.to_owned() }));
    photo::settle(keeper).await;
    end_operation(keeper).await;
    let mut notes = Vec::new();
    leftovers.extend(remove_engine(keeper, leaving, &mut notes).await);
    let engine_is_clean = leftovers.is_empty();
    leftovers
        .extend(remove_directories(&keeper.dir, engine_is_clean, |dir| keeper.journal.removed(Kind::Directory, dir)));
    leftovers.extend(leaks::search(keeper).await);
    let took = start.elapsed();
    let finished = Event::TeardownFinished { millis: millis(took), leftovers: leftovers.clone() };
    note(&mut leftovers, keeper.journal.write_synced(finished));
    let deploys = keeper.journal.read().map(|records| journal::deploy_count(&records));
    let deploys = deploys.unwrap_or_else(|error| {
        leftovers
            .push(format!("the journal cannot be read, so nobody knows how often the app was deployed: {error:#}"));
        0
    });
    let (expected_deploys, secrets) = (expected(keeper, deploys), leaks::values(keeper).await);
    TeardownReport { leftovers, deploys, expected_deploys, took, kept: false, notes, secrets }
}

/// What a teardown that panicked has not removed is removed as a sweep would; that it panicked fails the run.
async fn after_panic(keeper: &Arc<Keeper>, leaving: Leaving, panicked: &str) -> TeardownReport {
    let start = Instant::now();
    // On a task of its own as well: whatever panics next, the sweep takes place.
    let _ = tokio::spawn(let_go(keeper.clone(), leaving)).await;
    let mut leftovers = engine::sweep(&keeper.engine_dir()).await;
    let engine_is_clean = leftovers.is_empty();
    leftovers
        .extend(remove_directories(&keeper.dir, engine_is_clean, |dir| keeper.journal.removed(Kind::Directory, dir)));
    leftovers.push(format!("nobody knows what else: teardown panicked: {panicked}"));
    let took = start.elapsed();
    let finished = Event::TeardownFinished { millis: millis(took), leftovers: leftovers.clone() };
    note(&mut leftovers, keeper.journal.write_synced(finished));
    let deploys = keeper.journal.read().map_or(0, |records| journal::deploy_count(&records));
    TeardownReport {
        leftovers,
        deploys,
        expected_deploys: expected(keeper, deploys),
        took,
        ..TeardownReport::default()
    }
}

/// Ends what a teardown that panicked has not ended: it would go on creating what the sweep removes.
async fn let_go(keeper: Arc<Keeper>, leaving: Leaving) {
    end_operation(&keeper).await;
    if let Some(engine) = keeper.engine.write().await.take() {
        let _ = leaving.set(engine);
    }
    if let Some(engine) = leaving.get() {
        engine.let_go().await;
    }
}

/// The report of a run that stays up on purpose: nothing is removed, but the count must be right all the same.
pub fn kept(keeper: &Keeper) -> Result<TeardownReport, Failure> {
    let records = keeper.journal.read().map_err(Failure::infrastructure)?;
    let deploys = journal::deploy_count(&records);
    Ok(TeardownReport { kept: true, deploys, expected_deploys: expected(keeper, deploys), ..TeardownReport::default() })
}

/// How many deploys are right: one, but a run that never got as far as the deploy is right without.
fn expected(keeper: &Keeper, deploys: usize) -> usize {
    let installed = keeper.progress(|progress| progress.reached.is_some());
    if installed { 1 } else { deploys.min(1) }
}

/// A removal that nobody can read about later is not proven.
fn note(leftovers: &mut Vec<String>, result: Result<()>) {
    if let Err(error) = result {
        leftovers.push(format!("no record of its whole teardown: {error:#}"));
    }
}

/// Ends an operation that is under way, and waits until it is: it might still create something.
async fn end_operation(keeper: &Arc<Keeper>) {
    let operation = keeper.operation.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    if let Some(operation) = operation {
        operation.abort();
        while !operation.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    // After the operation, whose last act is to begin it: a pull that went on would hold the engine.
    keeper.fetching.end();
    super::usage::settle(keeper).await;
    super::lint::end(keeper).await;
    let keeper = keeper.clone();
    // Only the lock is wanted: whoever held it has ended, and nobody takes it any more.
    let _ = tokio::task::spawn_blocking(move || drop(keeper.disk.lock())).await;
}

async fn remove_engine(keeper: &Keeper, leaving: &Leaving, notes: &mut Vec<String>) -> Vec<String> {
    let Some(engine) = keeper.engine.write().await.take() else { return engine::sweep(&keeper.engine_dir()).await };
    let engine = leaving.get_or_init(|| engine);
    let mut leftovers = Vec::new();
    if let Some(text) = save_logs(keeper, engine).await {
        note(&mut leftovers, keeper.journal.write(Event::Note { text: text.clone() }));
        notes.push(text);
    }
    let vanished = vanished(engine).await;
    match tokio::time::timeout(LIMIT, engine.remove()).await {
        Ok(Ok(left)) if left.is_empty() => leftovers.extend(second_look(engine).await),
        Ok(Ok(left)) => leftovers.extend(named(left)),
        Ok(Err(error)) => leftovers.push(format!("{error:#}")),
        Err(_) => leftovers.push(format!("the engine did not end within {}", humantime::format_duration(LIMIT))),
    }
    if leftovers.is_empty() {
        surroundings::compare(keeper, engine).await;
    }
    leftovers.extend(vanished);
    leftovers
}

/// A thing of this run that is gone before the run removes it was somebody else's doing: nobody knows what else they did,
/// or whether a thing of theirs stands in its place.
async fn vanished(engine: &Engine) -> Vec<String> {
    let gone = |(kind, name)| format!("{kind} `{name}` was gone before teardown, and this run did not remove it");
    match tokio::time::timeout(LIMIT, engine.vanished()).await {
        Ok(Ok(vanished)) => vanished.into_iter().map(gone).collect(),
        Ok(Err(error)) => vec![format!("nobody knows what was gone before teardown: {error:#}")],
        Err(_) => vec![format!(
            "nobody knows what was gone before teardown: no answer within {}",
            humantime::format_duration(LIMIT)
        )],
    }
}

/// What a removal says about itself is no proof: the engine is asked once more what there is.
async fn second_look(engine: &Engine) -> Vec<String> {
    match tokio::time::timeout(LOOK, engine.left()).await {
        Ok(Ok(left)) => named(left),
        Ok(Err(error)) => vec![format!("nobody knows what is left: {error:#}")],
        Err(_) => vec![format!("nobody knows what is left: no answer within {}", humantime::format_duration(LOOK))],
    }
}

fn named(left: Vec<(Kind, String)>) -> Vec<String> {
    left.into_iter().map(|(kind, name)| format!("{kind} `{name}`")).collect()
}

/// Keeps every service's log, or says why they are not all kept. That is worth no failure, and no more of teardown's time.
async fn save_logs(keeper: &Keeper, engine: &Rig) -> Option<String> {
    let why = match tokio::time::timeout(LOGS, logs::save(keeper, engine)).await {
        Ok(saved) => format!("{:#}", saved.err()?),
        Err(_) => format!("they were not read within {}", humantime::format_duration(LOGS)),
    };
    Some(format!("the logs of the services are not all kept: {why}"))
}

/// Removes what a run keeps in its directory beside the record of it, and says what could not be removed. The engine's
/// directory stays while anything of the engine's does: it is what the next sweep finds that by.
pub fn remove_directories(run_dir: &Path, engine_is_clean: bool, removed: impl Fn(&str) -> Result<()>) -> Vec<String> {
    let mut leftovers = Vec::new();
    let names = ["recipe", "snapshots", "cage", "engine"];
    for name in names.into_iter().filter(|name| engine_is_clean || *name != "engine") {
        let dir = run_dir.join(name);
        match std::fs::remove_dir_all(&dir) {
            Ok(()) => note(&mut leftovers, removed(&dir.display().to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => leftovers.push(format!("{} `{}`: {error}", Kind::Directory, dir.display())),
        }
    }
    for name in ["app.env", "keeper.sock"] {
        match std::fs::remove_file(run_dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => leftovers.push(format!("`{name}`: {error}")),
            _ => {}
        }
    }
    leftovers
}
