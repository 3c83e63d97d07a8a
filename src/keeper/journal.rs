//! The journal of a run: append-only, synced before anything is created, and the one record that every report and
//! every cleanup is folded from.

mod clock;
mod halt;
mod hide;

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::facts::Facts;
use super::photo::Picture;
use super::protocol::Invocation;
use super::spec::Client;
use super::usage::TierUsage;
use crate::engine::abra::lint::Rule;
use crate::engine::{Kind, Ledger};
use crate::fault::{Failure, Fault};
use crate::mask::Masks;
use crate::tier::Tier;

/// The journal's file name in a run directory.
pub const FILE: &str = "events.jsonl";

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When, as RFC 3339 with milliseconds, UTC.
    pub at: String,
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// An event that happens now.
    pub fn now(event: Event) -> Self {
        Record { at: clock::now(), event }
    }
}

/// Everything that can happen in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    RunStarted {
        run_id: String,
        recipe: String,
        engine: String,
        pid: u32,
        /// When the process started, as [`Client`] has it: its number alone may be another's later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        started: Option<u64>,
    },
    Planned(Box<Facts>),
    /// Nothing was created, and nothing ever will be.
    CouldNotBegin {
        failure: Failure,
    },
    Creating {
        kind: Kind,
        name: String,
    },
    Created {
        kind: Kind,
        name: String,
        id: String,
    },
    Removed {
        kind: Kind,
        name: String,
    },
    /// A stack is about to be handed to the engine. `in_place` is false exactly for the one create-and-deploy.
    Deploying {
        what: String,
        in_place: bool,
    },
    /// What the image references resolved to, by reference: a registry's digest, or the id of an image that only this
    /// machine has.
    Images {
        digests: std::collections::BTreeMap<String, String>,
    },
    HookFinished {
        tier: Tier,
        name: String,
        millis: u64,
        failure: Option<String>,
    },
    OperationStarted {
        tier: Tier,
        what: String,
    },
    /// What a visitor would have seen of the app while an operation changed it.
    Probed(Downtime),
    /// The app as a visitor sees it after an operation.
    Photographed {
        tier: Tier,
        picture: Picture,
    },
    /// What the app used during an operation and after it.
    Measured(Box<TierUsage>),
    OperationFinished {
        tier: Tier,
        millis: u64,
        failure: Option<Failure>,
    },
    TrialFinished(Trial),
    /// What an operation waits for at the moment. Told to whoever watches, and never written.
    Waiting {
        what: String,
    },
    Note {
        text: String,
    },
    /// What `abra recipe lint` says of the head, or why it could not be asked. It has no weight for the verdict.
    Linted {
        rules: Vec<Rule>,
        failure: Option<String>,
    },
    /// The app stays up for so long, in case somebody goes on with it.
    Left {
        millis: u64,
    },
    /// Another process goes on with it: what ends from here on is its own.
    Resumed(Box<Invocation>),
    TeardownStarted {
        reason: String,
    },
    /// What is still there afterwards; empty is the proven zero.
    TeardownFinished {
        millis: u64,
        leftovers: Vec<String>,
    },
}

/// One trial that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub name: String,
    /// `None` for teardown.
    pub tier: Option<Tier>,
    pub outcome: Outcome,
    /// From when it was let into its tier: the operation's time is the operation's.
    pub millis: u64,
    /// Why it failed or was ignored, masked.
    pub message: String,
    /// Whose fault a failure is.
    pub fault: Option<Fault>,
}

/// How long an app did not answer while an operation changed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Downtime {
    pub tier: Tier,
    /// The path that was asked for, about 20 times a second.
    pub path: String,
    /// How often it was asked for.
    pub probes: u32,
    /// How often no answer came at all.
    pub unanswered: u32,
    /// How often the app answered with a status of 500 or above.
    pub errors: u32,
    /// From the last good answer before to the first good one after, all gaps together.
    pub millis: u64,
    /// The longest of the gaps.
    pub longest_millis: u64,
    /// What the first bad probe saw.
    pub first: Option<String>,
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    Failed,
    Ignored,
}

/// An open journal; every record goes to the file first, then to whoever watches.
pub struct Journal {
    path: PathBuf,
    file: Mutex<Appended>,
    halt: Option<halt::Halt>,
    /// Values that must not stand in a record.
    masks: RwLock<Masks>,
    watchers: broadcast::Sender<Record>,
}

/// The file, and how many records this process has written to it.
struct Appended {
    file: File,
    records: usize,
}

impl Journal {
    /// Opens the journal of a run, creating it. What cannot be journalled must not be created, so failing here ends
    /// the run. A torn last line goes: what is appended must not become part of it.
    pub fn open(run_dir: &Path) -> Result<Self> {
        let path = run_dir.join(FILE);
        let open = || {
            let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
            cut_torn_line(&file)?;
            Ok::<File, std::io::Error>(file)
        };
        let file = open().with_context(|| format!("failed to open the journal `{}`", path.display()))?;
        let file = Mutex::new(Appended { file, records: 0 });
        Ok(Journal { path, file, halt: None, masks: RwLock::default(), watchers: broadcast::Sender::new(1024) })
    }

    /// The same for a keeper, which tests stop at a record of their choice.
    pub fn open_for_keeper(run_dir: &Path) -> Result<Self> {
        Ok(Journal { halt: halt::from_env(halt::KEEPER), ..Journal::open(run_dir)? })
    }

    /// The same for a sweep.
    pub fn open_for_sweep(run_dir: &Path) -> Result<Self> {
        Ok(Journal { halt: halt::from_env(halt::SWEEP), ..Journal::open(run_dir)? })
    }

    /// From now on these values are masked in every record, and no others.
    pub fn hide<'a>(&self, values: impl IntoIterator<Item = &'a str>) -> Result<()> {
        *self.masks.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Masks::new(values)?;
        Ok(())
    }

    /// Appends a record; the caller goes on only when it is written.
    pub fn write(&self, event: Event) -> Result<()> {
        self.append(event, false)
    }

    /// Appends a record and syncs it to the disk: for everything that teardown after a power loss depends on.
    pub fn write_synced(&self, event: Event) -> Result<()> {
        self.append(event, true)
    }

    /// Tells whoever watches, masked like every record, and writes nothing.
    pub fn tell(&self, event: Event) {
        let Ok(mut record) = serde_json::to_value(Record::now(event)) else { return };
        hide::mask(&mut record, &self.masks.read().unwrap_or_else(|poisoned| poisoned.into_inner()));
        if let Ok(record) = serde_json::from_value(record) {
            let _ = self.watchers.send(record);
        }
    }

    fn append(&self, event: Event, sync: bool) -> Result<()> {
        if let Some(halt) = self.halt {
            halt.at(&event);
        }
        let mut record = serde_json::to_value(Record::now(event)).context("failed to encode a journal record")?;
        hide::mask(&mut record, &self.masks.read().unwrap_or_else(|poisoned| poisoned.into_inner()));
        let mut line = serde_json::to_vec(&record).context("failed to encode a journal record")?;
        let record = serde_json::from_value(record).context("failed to decode a journal record")?;
        line.push(b'\n');
        let mut appended = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let written = self.put(&mut appended, &line, sync);
        written.with_context(|| format!("failed to write to the journal `{}`", self.path.display()))?;
        // Nobody watching is fine: the file is the record.
        let _ = self.watchers.send(record);
        Ok(())
    }

    fn put(&self, appended: &mut Appended, line: &[u8], sync: bool) -> std::io::Result<()> {
        appended.records += 1;
        let number = appended.records;
        self.halt.map_or(Ok(()), |halt| halt.before(number))?;
        if let Err(error) = appended.file.write_all(line) {
            // Half a record would make the next one unreadable. Where even that fails, the reader says so.
            let _ = cut_torn_line(&appended.file);
            return Err(error);
        }
        if sync {
            appended.file.sync_data()?;
        }
        self.halt.map_or(Ok(()), |halt| halt.after(number))
    }

    /// The records so far, and a receiver of those to come; none is lost or doubled between the two.
    pub fn follow(&self) -> Result<(Vec<Record>, broadcast::Receiver<Record>)> {
        let _still = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Ok((read(&self.path)?, self.watchers.subscribe()))
    }

    pub fn read(&self) -> Result<Vec<Record>> {
        read(&self.path)
    }
}

impl Ledger for Journal {
    fn creating(&self, kind: Kind, name: &str) -> Result<()> {
        self.write_synced(Event::Creating { kind, name: name.to_owned() })
    }

    fn created(&self, kind: Kind, name: &str, id: &str) -> Result<()> {
        self.write_synced(Event::Created { kind, name: name.to_owned(), id: id.to_owned() })
    }

    fn removed(&self, kind: Kind, name: &str) -> Result<()> {
        self.write(Event::Removed { kind, name: name.to_owned() })
    }
}

/// Cuts the file off after its last whole line.
fn cut_torn_line(mut file: &File) -> std::io::Result<()> {
    let mut text = Vec::new();
    std::io::Seek::rewind(&mut file)?;
    file.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < text.len() { file.set_len(whole as u64) } else { Ok(()) }
}

/// Reads a journal. A torn last line, as a power loss leaves it, is ignored; a broken line elsewhere is an error.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    // A run's directory may come from another machine: a pipe would never open, and a link lead anywhere.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.with_context(|| format!("failed to open the journal `{}`", path.display()))?;
    anyhow::ensure!(file.metadata().is_ok_and(|it| it.is_file()), "the journal `{}` is no file", path.display());
    let mut reader = BufReader::new(file);
    let mut records = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        read.with_context(|| format!("failed to read the journal `{}`", path.display()))?;
        if line.last() != Some(&b'\n') {
            return Ok(records);
        }
        let number = records.len() + 1;
        let record = serde_json::from_slice(&line)
            .with_context(|| format!("line {number} of the journal `{}` is broken", path.display()))?;
        records.push(record);
    }
}

/// The keeper's process. A journal that does not say when it started names none for certain.
pub fn keeper(records: &[Record]) -> Option<Client> {
    records.iter().find_map(|record| match record.event {
        Event::RunStarted { pid, started: Some(started), .. } => Some(Client { pid: pid as i32, started }),
        _ => None,
    })
}

/// How often the app was created and deployed; a run is right only with 1.
pub fn deploy_count(records: &[Record]) -> usize {
    records.iter().filter(|record| matches!(record.event, Event::Deploying { in_place: false, .. })).count()
}

/// What was created, or about to be, and not removed: what a sweep has to look for.
pub fn outstanding(records: &[Record]) -> Vec<(Kind, String)> {
    let mut open: Vec<(Kind, String)> = Vec::new();
    for record in records {
        match &record.event {
            Event::Creating { kind, name } if !open.contains(&(*kind, name.clone())) => {
                open.push((*kind, name.clone()))
            }
            Event::Removed { kind, name } => open.retain(|it| it != &(*kind, name.clone())),
            _ => {}
        }
    }
    open
}

/// Why the run's teardown began, if it did: the last one that did.
pub fn torn_down_because(records: &[Record]) -> Option<&str> {
    records.iter().rev().find_map(|record| match &record.event {
        Event::TeardownStarted { reason } => Some(reason.as_str()),
        _ => None,
    })
}

/// Whether the run's teardown ended in a proven zero.
pub fn is_torn_down(records: &[Record]) -> bool {
    records.iter().any(|it| matches!(&it.event, Event::TeardownFinished { leftovers, .. } if leftovers.is_empty()))
}

/// Whether a run is over and done with: torn down, or never begun.
pub fn is_over(records: &[Record]) -> bool {
    is_torn_down(records) || records.iter().any(|it| matches!(it.event, Event::CouldNotBegin { .. }))
}

/// Milliseconds, as the journal counts.
pub fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (tempfile::TempDir, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        (dir, journal)
    }

    #[test]
    fn what_was_written_is_read_back_in_order() {
        let (_dir, journal) = journal();
        journal.creating(Kind::Volume, "a_content").unwrap();
        journal.created(Kind::Volume, "a_content", "17").unwrap();
        journal.creating(Kind::Service, "a_app").unwrap();
        journal.removed(Kind::Volume, "a_content").unwrap();
        let records = journal.read().unwrap();
        assert_eq!(records.len(), 4);
        assert_eq!(outstanding(&records), [(Kind::Service, "a_app".to_owned())]);
    }

    #[test]
    fn a_torn_last_line_is_ignored_at_every_length() {
        let (dir, journal) = journal();
        journal.write(Event::Note { text: "first".into() }).unwrap();
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        journal.write(Event::Note { text: "second".into() }).unwrap();
        let both = std::fs::read(dir.path().join(FILE)).unwrap();
        for cut in whole.len()..both.len() {
            std::fs::write(dir.path().join(FILE), &both[..cut]).unwrap();
            assert_eq!(journal.read().unwrap().len(), 1, "cut at byte {cut}");
        }
    }

    #[test]
    fn what_is_appended_to_a_torn_journal_is_read_back_at_every_length() {
        let (dir, journal) = journal();
        journal.write(Event::Note { text: "first".into() }).unwrap();
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let again = Journal::open(dir.path()).unwrap();
            again.write(Event::Note { text: "after the crash".into() }).unwrap();
            let records = again.read().unwrap();
            assert_eq!(records.len(), 1 + usize::from(cut == whole.len()), "cut at byte {cut}");
            assert_eq!(records.last().unwrap().event, Event::Note { text: "after the crash".into() });
        }
    }

    #[test]
    fn a_broken_line_that_is_not_the_last_is_an_error() {
        let (dir, journal) = journal();
        std::fs::write(dir.path().join(FILE), "{\"at\":\n{}\n").unwrap();
        let error = journal.read().unwrap_err().to_string();
        assert!(error.starts_with("line 1 of the journal `"), "{error}");
    }

    #[test]
    fn an_unwritable_journal_refuses_the_record() {
        let error = Journal::open(Path::new("/proc")).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "failed to open the journal `/proc/events.jsonl`");
    }

    #[test]
    fn only_the_first_deploy_counts() {
        let (_dir, journal) = journal();
        journal.write(Event::Deploying { what: "base".into(), in_place: false }).unwrap();
        journal.write(Event::Deploying { what: "head".into(), in_place: true }).unwrap();
        assert_eq!(deploy_count(&journal.read().unwrap()), 1);
    }

    #[tokio::test]
    async fn a_watcher_sees_the_past_and_the_future_once() {
        let (_dir, journal) = journal();
        journal.write(Event::Note { text: "past".into() }).unwrap();
        let (past, mut future) = journal.follow().unwrap();
        journal.write(Event::Note { text: "future".into() }).unwrap();
        assert_eq!(past.len(), 1);
        assert_eq!(future.recv().await.unwrap().event, Event::Note { text: "future".into() });
        assert!(future.try_recv().is_err());
    }

    #[test]
    fn a_secret_is_masked_in_every_record_but_never_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        journal.hide(["hunter22", "message"]).unwrap();
        let message = "said hunter22 in a message, or aHVudGVyMjI".to_owned();
        let (name, outcome) = ("hunter22".to_owned(), Outcome::Failed);
        let fault = Some(Fault::Recipe);
        journal.write(Event::TrialFinished(Trial { name, tier: None, outcome, millis: 1, message, fault })).unwrap();
        let records = journal.read().unwrap();
        let Event::TrialFinished(Trial { name, message, .. }) = &records[0].event else { panic!("{records:?}") };
        assert_eq!((name.as_str(), message.as_str()), ("***", "said *** in a ***, or ***"));
    }
}
