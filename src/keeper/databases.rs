//! Rows that the harness puts into the app's databases, through the server and its own client: a volume that is kept
//! whole helps nobody whose database has begun anew elsewhere, and a dump that lies in a snapshot nobody into whose
//! database it is never loaded.
//!
//! One file a kind of database below this one; a new kind is such a file and a line in [`KINDS`].

mod mariadb;
mod postgresql;
mod recognise;
mod redis;
mod script;
mod sqlite;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use data_encoding::HEXLOWER;

use super::Keeper;
use super::blame::blame;
use super::contents::Listing;
use super::operate::backup::volumes_of;
use super::protocol::{Databases, Row};
use super::rig::Rig;
use crate::engine::{CallError, Exec};
use crate::fault::Failure;
use crate::poll::{Look, Poll};
use crate::recipe::AppState;
use crate::recipe::stack::Stack;
use recognise::Store;
use script::{Op, Said};

pub use recognise::has_server;

/// A kind of database.
pub struct Kind {
    pub name: &'static str,
    /// Words that the last part of an image's name has.
    images: &'static [&'static str],
    /// Programs in the command of its service.
    programs: &'static [&'static str],
    /// Variables that nobody sets for anything but the server.
    variables: &'static [&'static str],
    /// A file that lies in the directory of its data.
    marker: Option<&'static str>,
    /// Without a volume it is one.
    may_be_a_cache: bool,
    /// See [`script`].
    script: &'static str,
}

/// Every kind that is known.
const KINDS: [&Kind; 4] = [&postgresql::KIND, &mariadb::KIND, &redis::KIND, &sqlite::KIND];

/// One call of a client.
const CLIENT: Duration = Duration::from_secs(20);
/// How long a server may take before its first client; whoever cannot be opened then is not waited for again.
const OPENS: Duration = Duration::from_secs(5);

/// A row as it was written.
#[derive(Clone)]
pub struct Planted {
    kind: &'static Kind,
    service: String,
    /// The volume in which the database lies, by its key.
    volume: Option<String>,
    /// Where the table is, as the kind's script says it.
    place: String,
    /// Of the table, or the key.
    name: String,
    /// What the row must say.
    word: String,
    /// Whether the labels put the database into a snapshot, by itself or as a dump.
    backed_up: bool,
}

/// What the harness knows of the databases.
#[derive(Default)]
pub struct Record {
    pub planted: Vec<Planted>,
    /// A sentence for every database that nobody could look into, by what it is.
    closed: BTreeMap<String, String>,
}

/// Writes a row into every database of what is deployed. Where there is one of an earlier tier it says something else
/// from now on.
pub async fn plant(keeper: &Arc<Keeper>, listing: &Listing) -> Result<(), Failure> {
    let (state, known, closed) = {
        let app = keeper.app.lock().await;
        (app.deployed.state.clone(), app.databases.planted.clone(), app.databases.closed.clone())
    };
    let Some(state) = state else { return Ok(()) };
    let unwatched = &keeper.spec.settings.recipe_toml.databases.unwatched;
    let mut record = Record::default();
    let stores = recognise::stores(&state.stack, listing);
    record.closed.extend(recognise::strangers(&stores, listing));
    for store in stores.into_iter().filter(|store| !unwatched.contains(&store.service)) {
        let what = store.what();
        let old = known.iter().find(|it| it.kind.name == store.kind.name && it.is_of(&store));
        let patience = if closed.contains_key(&what) { Duration::ZERO } else { OPENS };
        match written(keeper, &state, &store, old, patience).await? {
            Ok(Some(planted)) => record.planted.push(planted),
            Ok(None) => {}
            Err(why) => _ = record.closed.insert(what, why),
        }
    }
    for row in &record.planted {
        let text = format!("{} is watched from inside: the table or key `{}` is the harness's", row.what(), row.name);
        keeper.note_once(text).await?;
    }
    keeper.app.lock().await.databases = record;
    Ok(())
}

/// Writes one row; a reason where nobody can, and nothing where the database is a cache.
async fn written(
    keeper: &Keeper,
    state: &AppState,
    store: &Store,
    old: Option<&Planted>,
    patience: Duration,
) -> Result<Result<Option<Planted>, String>, Failure> {
    let (kind, service) = (store.kind, store.service.clone());
    let name = old.map_or_else(name, |old| old.name.clone());
    let word = HEXLOWER.encode(&rand::random::<[u8; 12]>());
    let planted = Planted {
        place: store.file.clone().unwrap_or_default(),
        volume: store.volume.clone(),
        backed_up: is_backed_up(state, store),
        kind,
        service,
        name,
        word,
    };
    let engine = keeper.engine().await?;
    Ok(match answered(&engine, &state.stack, &planted, Op::Write, patience).await? {
        Ok(Said::Text(place)) => Ok(Some(Planted { place, ..planted })),
        Ok(Said::Cache(_)) => Ok(None),
        Ok(Said::Closed(why) | Said::Gone(why)) | Err(why) => Err(why),
    })
}

/// Changes every row that a snapshot holds, so that its return proves something.
pub async fn change(keeper: &Arc<Keeper>) -> Result<(), Failure> {
    let (stack, planted) = deployed(keeper).await;
    let engine = keeper.engine().await?;
    for row in planted.iter().filter(|row| row.backed_up) {
        let changed = Planted { word: format!("changed-{}", row.word), ..row.clone() };
        let written = patiently(&engine, &stack, &changed, Op::Write, keeper.spec.settings.call).await;
        match written.with_context(|| format!("failed to change the row in {}", row.what())).map_err(blame)? {
            Said::Text(_) => {}
            Said::Gone(why) | Said::Cache(why) | Said::Closed(why) => {
                let error = anyhow!("failed to change the row in {} before the restore: {why}", row.what());
                return Err(Failure::recipe(error));
            }
        }
    }
    Ok(())
}

/// What became of the rows. After the restore only those that the snapshot holds prove anything.
pub async fn look(keeper: &Arc<Keeper>) -> Result<Databases, Failure> {
    let (stack, planted) = deployed(keeper).await;
    let (closed, restored) = {
        let app = keeper.app.lock().await;
        (app.databases.closed.clone(), app.restored.is_some())
    };
    let dropped = &keeper.spec.settings.recipe_toml.upgrade.drops;
    let is_dropped = |row: &Planted| row.volume.as_ref().is_some_and(|volume| dropped.contains(volume));
    let judged: Vec<&Planted> = planted.iter().filter(|row| !is_dropped(row)).collect();
    let mut seen = Databases {
        closed: closed.iter().map(|(what, why)| format!("{what} cannot be opened: {why}")).collect(),
        outside: judged.iter().filter(|row| restored && !row.backed_up).map(|row| row.what()).collect(),
        rows: Vec::new(),
    };
    for row in judged.into_iter().filter(|row| !restored || row.backed_up) {
        seen.rows.push(read_row(keeper, &stack, row).await?);
    }
    Ok(seen)
}

async fn read_row(keeper: &Keeper, stack: &Stack, row: &Planted) -> Result<Row, Failure> {
    let engine = keeper.engine().await?;
    let found = match answered(&engine, stack, row, Op::Read, keeper.spec.settings.call).await? {
        Ok(Said::Text(word)) => Ok(word),
        Ok(Said::Gone(why) | Said::Cache(why) | Said::Closed(why)) | Err(why) => Err(why),
    };
    Ok(Row { what: row.what(), expected: row.word.clone(), found })
}

/// Takes the tables away again, as a planted fault has it.
pub async fn lose(keeper: &Keeper, engine: &Rig) -> Result<()> {
    let (stack, planted) = deployed(keeper).await;
    for row in &planted {
        match asked(engine, &stack, row, Op::Lose).await? {
            Ok(Said::Text(_)) => {}
            other => bail!("failed to take the row out of {}: {other:?}", row.what()),
        }
    }
    Ok(())
}

async fn deployed(keeper: &Keeper) -> (Stack, Vec<Planted>) {
    let app = keeper.app.lock().await;
    let stack = app.deployed.state.as_ref().map(|state| state.stack.clone()).unwrap_or_default();
    (stack, app.databases.planted.clone())
}

/// What a client says, or why none got in. A daemon that is away says nothing about the database.
async fn answered(
    engine: &Rig,
    stack: &Stack,
    row: &Planted,
    op: Op,
    deadline: Duration,
) -> Result<Result<Said, String>, Failure> {
    match patiently(engine, stack, row, op, deadline).await {
        Ok(said) => Ok(Ok(said)),
        Err(error) if crate::engine::is_out_of_reach(&error) => Err(blame(error)),
        Err(error) => Ok(Err(format!("{error:#}"))),
    }
}

/// Has the script do something with a row, again and again until the database takes a client.
async fn patiently(engine: &Rig, stack: &Stack, row: &Planted, op: Op, deadline: Duration) -> Result<Said> {
    let poll = Poll { interval: Duration::from_millis(100), deadline };
    let what = format!("{} to take a client", row.what());
    poll.until_done(what, async || {
        let said = asked(engine, stack, row, op).await?;
        Ok(said.map_or_else(|error| Look::NotYet(format!("{error:#}")), Look::Ready))
    })
    .await
}

/// Has the script do something with a row. The inner error may pass by itself.
async fn asked(engine: &Rig, stack: &Stack, row: &Planted, op: Op) -> Result<Result<Said>> {
    let Some(service) = stack.services.get(&row.service) else {
        return Ok(Ok(Said::Gone(format!("there is no service `{}` any more", row.service))));
    };
    let mut stdin = recognise::password(service).unwrap_or_default().into_bytes();
    stdin.push(b'\n');
    let argv = script::argv(row.kind, op, &row.name, &row.word, &row.place);
    let exec = Exec { service: row.service.clone(), argv, stdin, deadline: CLIENT, user: None };
    match engine.exec(&exec).await {
        Ok(output) => Ok(script::read(&output)),
        Err(CallError::Interrupted(error)) => Ok(Err(error)),
        Err(CallError::NotFound(error) | CallError::Failed(error)) => Err(error),
    }
}

/// Whether the labels put a database into a snapshot: as a dump that a hook of its own service writes, or with its files.
fn is_backed_up(state: &AppState, store: &Store) -> bool {
    let dumped = |service: &crate::recipe::backup::BackupService| {
        service.service == store.service && service.pre_hook.is_some() && !service.volumes.is_empty()
    };
    let files = store.volume.as_ref().and_then(|volume| {
        let limits = volumes_of(&state.backup).find(|(it, _)| it == volume).map(|(_, limits)| limits)?;
        Some(super::canary::is_backed_up(&store.path, &limits))
    });
    state.backup.services.iter().any(dumped) || files == Some(true)
}

impl Planted {
    fn is_of(&self, store: &Store) -> bool {
        self.service == store.service && store.file.as_ref().is_none_or(|file| *file == self.place)
    }

    /// The database, for people.
    fn what(&self) -> String {
        recognise::what(self.kind, &self.service, self.kind.is_file().then_some(self.place.as_str()))
    }
}

impl Kind {
    /// Whether it is a file of a volume, and no server.
    fn is_file(&self) -> bool {
        self.programs.is_empty()
    }
}

/// A name for a table that no app has, and that no app can know beforehand.
fn name() -> String {
    (0..14).map(|_| char::from(b'a' + rand::random::<u8>() % 26)).collect()
}
