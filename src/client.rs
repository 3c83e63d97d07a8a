//! The assertion's side of a run: it starts the keeper when the first trial needs it, and sees that it ends.

mod down;
pub mod look;
mod runtime;
mod watchdog;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;
use tokio::sync::Mutex;

use crate::app::App;
use crate::config::state::create_private;
use crate::fault::{Failure, Fault};
use crate::keeper::journal::{self, Record};
use crate::keeper::lock::{self, RunLock};
use crate::keeper::protocol::{Answer, Blocked, Call, Context, TeardownReport};
use crate::keeper::silence::Silence;
use crate::keeper::socket::{self, Wire};
use crate::keeper::spec::RunSpec;
use crate::keeper::{self, sweep};
use crate::mask::Masks;
use crate::poll::{Look, Poll};
use crate::process;
use crate::tier::Tier;
use down::Replaced;
pub use down::{Down, down};
pub use runtime::runtime;
use watchdog::Watched;

/// A keeper that lives and has not answered by then never will. It is long, because many runs may start at once.
const START: Duration = Duration::from_secs(30);
/// A keeper that has torn down sweeps what dead runs have left before it ends, within a minute.
const END: Duration = Duration::from_secs(90);

/// One run, as the test process sees it.
pub struct Session {
    pub spec: RunSpec,
    pub run_dir: PathBuf,
    /// The lock under which one of several processes starts the keeper; the others join it.
    shared: Option<PathBuf>,
    is_resumed: bool,
    /// The keeper, once it was started, or why it could not be: nobody tries again.
    keeper: OnceLock<Result<Watched, Failure>>,
    silence: Silence,
    ended: Mutex<Option<TeardownReport>>,
    /// What must not stand in anything that this process prints or writes: the app's secrets, as far as it was told
    /// them, and the keeper's canary.
    secrets: std::sync::Mutex<BTreeSet<String>>,
}

/// What entering a tier gave.
pub enum Entry {
    /// The app, as it stays for as long as the lease is held.
    Entered(Box<App>, Lease),
    Blocked(Blocked),
}

/// A place in a tier: no further operation begins before it is dropped. It is apart from the [`App`], so that an
/// assertion that hangs cannot hold on to it.
pub struct Lease {
    _wire: Wire,
}

impl Session {
    /// A run that is decided but not begun: nothing exists yet.
    pub fn new(spec: RunSpec, run_dir: PathBuf) -> Self {
        Session {
            spec,
            run_dir,
            shared: None,
            is_resumed: false,
            keeper: OnceLock::new(),
            silence: Silence::default(),
            ended: Mutex::default(),
            secrets: Default::default(),
        }
    }

    /// The same, for one of several processes with the same run.
    pub fn shared(spec: RunSpec, run_dir: PathBuf, lock: PathBuf) -> Self {
        Session { shared: Some(lock), ..Session::new(spec, run_dir) }
    }

    /// A run that an earlier process has begun and left up.
    pub fn resumed(spec: RunSpec, run_dir: PathBuf) -> Result<Self, Failure> {
        let session = Session { is_resumed: true, ..Session::new(spec, run_dir) };
        let keeper = session.join()?;
        Ok(Session { keeper: OnceLock::from(Ok(keeper)), ..session })
    }

    /// Whether an earlier process has begun this run.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Whether other processes have the same run, so that it does not end with this one.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether a keeper was started.
    pub fn has_begun(&self) -> bool {
        matches!(self.keeper.get(), Some(Ok(_)))
    }

    /// Why the keeper was killed by this process, if it was.
    pub fn given_up(&self) -> Option<&str> {
        self.silence.reason()
    }

    /// Whether this process has seen the end of the run.
    pub fn has_ended(&self) -> bool {
        self.ended.try_lock().is_ok_and(|ended| ended.is_some())
    }

    /// Every secret that this process knows of.
    pub fn secrets(&self) -> BTreeSet<String> {
        self.secrets.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// A text without them.
    pub fn masked(&self, text: &str) -> String {
        match Masks::new(self.secrets().iter().map(String::as_str)) {
            Ok(masks) => masks.mask(text),
            Err(error) => format!("the text is withheld, because its secrets cannot be masked: {error:#}"),
        }
    }

    fn remember(&self, secrets: impl IntoIterator<Item = String>) {
        self.secrets.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(secrets);
    }

    /// Starts the keeper, unless somebody has already. Whoever asks after a failure is told the first one.
    pub fn begin(&self) -> Result<(), Failure> {
        self.keeper
            .get_or_init(|| match &self.shared {
                None => self.start().map_err(Failure::infrastructure),
                Some(lock) => self.start_or_join(lock),
            })
            .as_ref()
            .map(|_| ())
            .map_err(Clone::clone)
    }

    /// Joins a run that another process has begun; nothing is begun here.
    pub fn join_begun(&self) -> Result<(), Failure> {
        if self.is_shared() && self.was_begun() { self.begin() } else { Ok(()) }
    }

    fn was_begun(&self) -> bool {
        RunSpec::is_in(&self.run_dir)
    }

    fn start_or_join(&self, lock: &Path) -> Result<Watched, Failure> {
        let file = std::fs::File::create(lock).with_context(|| format!("failed to create `{}`", lock.display()));
        let file = file.map_err(Failure::infrastructure)?;
        let held = flock(&file, FlockOperation::LockExclusive).context("failed to lock the run");
        held.map_err(Failure::infrastructure)?;
        if self.was_begun() { self.join() } else { self.start().map_err(Failure::infrastructure) }
    }

    /// The keeper that another process has started. One that is dead is joined too: its run has to be cleaned up.
    fn join(&self) -> Result<Watched, Failure> {
        let records = journal::read(&self.run_dir.join(journal::FILE)).unwrap_or_default();
        if journal::is_torn_down(&records) {
            return Err(Failure::new(Fault::Assertion, "came too late: the app is torn down"));
        }
        Ok(Watched::stranger(&self.run_dir, journal::keeper(&records), &self.silence))
    }

    /// Enters a tier. Hooks that stand before an operation are run through `hooks` if this client is chosen to.
    pub async fn enter(&self, tier: Tier, hooks: impl AsyncFn(App, Tier) -> Result<(), Failure>) -> Result<Entry> {
        let mut wire = self.connect().await?;
        wire.send(&Call::Enter { tier }).await.map_err(|error| self.gone(error))?;
        loop {
            match wire.receive().await.map_err(|error| self.gone(error))? {
                Some(Answer::Entered(context)) => {
                    self.remember(context.masks.iter().cloned());
                    return Ok(Entry::Entered(Box::new(self.app(*context)), Lease { _wire: wire }));
                }
                Some(Answer::Blocked(blocked)) => return Ok(Entry::Blocked(blocked)),
                Some(Answer::RunHooks(context)) => {
                    self.remember(context.masks.iter().cloned());
                    let tier = context.tier;
                    let failure = hooks(self.app(*context), tier).await.err();
                    wire.send(&Call::HooksDone { failure }).await.map_err(|error| self.gone(error))?;
                }
                Some(Answer::Failed(failure)) => return Err(failure.into()),
                Some(other) => return Err(self.gone(anyhow!("it answered with something else: {other:?}"))),
                None => return Err(self.gone(anyhow!("it closed the connection"))),
            }
        }
    }

    /// Tears the run down, once, and returns the report. A keeper that is gone or does not answer is replaced by a
    /// sweep of what it left.
    pub async fn tear_down(&self, reason: &str) -> Result<TeardownReport> {
        let mut ended = self.place_of_report(reason).await;
        if let Some(report) = &*ended {
            return Ok(report.clone());
        }
        if !self.has_begun() {
            return Ok(TeardownReport::default());
        }
        let report = match self.ask_for_teardown(reason).await {
            Some(report) => report,
            None => {
                let Replaced { why, leftovers } = self.sweep().await?;
                let leftovers = [vec![why], leftovers].concat();
                TeardownReport { leftovers, ..TeardownReport::default() }
            }
        };
        *ended = Some(report.clone());
        Ok(report)
    }

    /// What the keeper says of its teardown; `None` when it is gone, or had to be killed because it came to no end.
    async fn ask_for_teardown(&self, reason: &str) -> Option<TeardownReport> {
        let limit = down::limit();
        let asked = tokio::time::timeout(limit, self.ask(&Call::Teardown { reason: reason.to_owned() })).await;
        match asked {
            Ok(Ok(Answer::TornDown(report))) => Some(self.after_keeper(report).await),
            Ok(_) => None,
            Err(_) => {
                let limit = humantime::format_duration(limit);
                self.silence.because(format!("it did not end its teardown within {limit}, so it was killed"));
                self.kill();
                None
            }
        }
    }

    fn kill(&self) {
        if let Some(Ok(keeper)) = self.keeper.get() {
            keeper.kill();
        }
    }

    /// Leaves the app up: the keeper outlives this process.
    pub async fn keep(&self) -> Result<TeardownReport> {
        self.let_go(&Call::Keep).await
    }

    /// Leaves the app up until `limit` has passed or somebody goes on with it. An error leaves the run this process's.
    pub async fn leave(&self, limit: Duration) -> Result<TeardownReport> {
        self.let_go(&Call::Leave { limit }).await
    }

    async fn let_go(&self, call: &Call) -> Result<TeardownReport> {
        match self.ask(call).await? {
            Answer::TornDown(report) => {
                *self.ended.lock().await = Some(report.clone());
                Ok(report)
            }
            Answer::Failed(failure) => Err(failure.into()),
            other => Err(self.gone(anyhow!("it answered with something else: {other:?}"))),
        }
    }

    /// Hands every record of the run to `seen`, past ones first, until the keeper ends.
    pub async fn watch(&self, mut seen: impl FnMut(Record)) -> Result<()> {
        let mut wire = self.connect().await?;
        wire.send(&Call::Watch).await?;
        while let Some(Answer::Record(record)) = wire.receive().await? {
            seen(*record);
        }
        Ok(())
    }

    /// The report, once the keeper itself is gone: a run that has ended has no process left.
    async fn after_keeper(&self, mut report: TeardownReport) -> TeardownReport {
        self.remember(report.secrets.0.clone());
        if !self.keeper_has_ended().await {
            // Everything is torn down: it would only take the machine's time, and hold the lock of its run.
            self.kill();
            report.leftovers.push(match self.keeper_has_ended().await {
                true => "the keeper's own process, which did not end after teardown, so it was killed".into(),
                false => {
                    "the keeper's own process, which did not end after teardown, and not when it was killed".into()
                }
            });
        } else if report.leftovers.is_empty()
            && let Err(error) = RunLock::clear(&self.run_dir)
        {
            report.leftovers.push(format!("the lock of the run: {error:#}"));
        }
        report
    }

    async fn keeper_has_ended(&self) -> bool {
        let Some(Ok(keeper)) = self.keeper.get() else { return true };
        keeper.has_ended(END).await
    }

    /// Cleans up after a keeper that died. Its lock is free only once its process is gone altogether.
    async fn sweep(&self) -> Result<Replaced> {
        let log = format!("its log is `{}`", self.run_dir.join("keeper.log").display());
        let mut leftovers = Vec::new();
        if !self.keeper_has_ended().await {
            // One that lives on would hold on to everything that has to be swept.
            self.kill();
            if !self.keeper_has_ended().await {
                leftovers.push("the keeper's own process, which does not answer and does not end".into());
            }
        }
        let why = match self.silence.reason() {
            Some(reason) => format!("the keeper was given up: {reason}; {log}"),
            None => format!("the keeper died; {log}"),
        };
        let swept = sweep::one(&self.run_dir).await.with_context(|| format!("{why}, and the sweep after it failed"))?;
        match swept {
            Some(swept) => leftovers.extend(swept.leftovers),
            None if !lock::exists(&self.run_dir) => {}
            None => leftovers.push(format!("everything in `{}`, whose lock is still held", self.run_dir.display())),
        }
        Ok(Replaced { why, leftovers })
    }

    /// One question, one answer.
    pub async fn ask(&self, call: &Call) -> Result<Answer> {
        let mut wire = self.connect().await?;
        wire.send(call).await?;
        wire.receive().await?.ok_or_else(|| anyhow!("the keeper closed the connection"))
    }

    async fn connect(&self) -> Result<Wire> {
        socket::connect(&self.run_dir).await.map_err(|error| self.gone(error))
    }

    fn gone(&self, error: anyhow::Error) -> anyhow::Error {
        self.silence.failure(error)
    }

    fn app(&self, context: Context) -> App {
        App::new(context, self.run_dir.clone(), self.silence.clone())
    }

    fn start(&self) -> Result<Watched> {
        create_private(&self.run_dir)?;
        self.spec.write(&self.run_dir)?;
        let log =
            std::fs::File::create(self.run_dir.join("keeper.log")).context("failed to create the keeper's log")?;
        let mut command = process::command("/proc/self/exe");
        command.arg(keeper::SUBCOMMAND).arg(&self.run_dir).stdin(std::process::Stdio::null());
        let canary = keeper::leaks::new_canary();
        self.remember([canary.clone()]);
        command.env(keeper::leaks::CANARY, canary);
        command.stdout(log.try_clone().context("failed to share the keeper's log")?).stderr(log);
        // The keeper outlives this call on purpose; a thread takes its exit code, so that no zombie is left.
        let mut child = command.spawn().context("failed to start the keeper")?;
        let watched = Watched::child(&self.run_dir, Pid::from_child(&child), &self.silence, move || drop(child.wait()));
        runtime().block_on(async {
            if let Err(error) = self.wait_for_keeper(&watched).await {
                return Err(self.give_up(&watched, error).await);
            }
            Ok(watched)
        })
    }

    /// A keeper that did not answer must not begin after all, and what it has begun is removed.
    async fn give_up(&self, keeper: &Watched, error: anyhow::Error) -> anyhow::Error {
        keeper.kill();
        keeper.has_ended(END).await;
        match sweep::one(&self.run_dir).await {
            Ok(Some(swept)) if !swept.leftovers.is_empty() => error.context(swept.to_string()),
            Ok(_) => error,
            Err(failed) => error.context(format!("the sweep after it failed: {failed:#}")),
        }
    }

    async fn wait_for_keeper(&self, keeper: &Watched) -> Result<()> {
        let poll = Poll { interval: Duration::from_millis(2), deadline: START };
        let answered = poll.until("the keeper to answer", async || {
            // Looked up first: a keeper that answered and ended since then is still one that answered.
            let has_ended = *keeper.ended.borrow();
            match socket::connect(&self.run_dir).await {
                Ok(_) => Ok(Look::Ready(())),
                Err(_) if has_ended => bail!("the keeper ended before it answered{}", log_of(&self.run_dir)),
                Err(error) => Ok(Look::NotYet(format!("{error:#}{}", log_of(&self.run_dir)))),
            }
        });
        answered.await
    }
}

fn log_of(run_dir: &Path) -> String {
    let log = std::fs::read_to_string(run_dir.join("keeper.log")).unwrap_or_default();
    if log.trim().is_empty() { String::new() } else { format!("; its log says: {}", log.trim()) }
}
