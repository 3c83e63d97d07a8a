//! One recipe's run as this process sees it: what was decided, which trials take part, and what they came to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::last_failed;
use super::selection::{Asked, Selected, TEARDOWN, What};
use super::side_by_side::Places;
use super::teardown;
use super::told_once::ToldOnce;
use super::turns::{Place, Ticket, Turn, Turns};
use super::warm::{Warm, fingerprint};
use crate::assertion::Registry;
use crate::client::Session;
use crate::config::Keep;
use crate::config::cli::Cli;
use crate::fault::Failure;
use crate::keeper::journal::{Outcome, Trial as Ended};
use crate::prepare::Prepared;
use crate::recipe::route::ports;
use crate::report::progress;
use crate::tier::Tier;

/// One recipe's run, with everything its trials share.
pub struct RecipeRun {
    pub prepared: Prepared,
    pub session: Arc<Session>,
    pub registry: Arc<Registry>,
    pub keep: Keep,
    /// The app stays up for the next run.
    pub warm: Option<Warm>,
    /// What became of the app that an earlier run has left up.
    pub said: Option<String>,
    pub results: Mutex<Vec<Ended>>,
    /// Its number among the recipes of the command line, where there are several.
    pub seat: Option<(Arc<Places>, usize)>,
    turns: Turns,
    tickets: BTreeMap<String, Ticket>,
    /// Operations whose own trial was selected. Where it was not, the first trial that needs the operation fails in
    /// its stead: otherwise a failed operation would leave nothing but ignored trials, which is no failure.
    pub(super) operations: BTreeSet<Tier>,
    pub(super) blamed: AtomicBool,
    /// What is said of a keeper that is gone.
    pub(super) gone: ToldOnce,
    /// What became of a teardown that is no trial's.
    pub(super) ended: OnceLock<Result<(), String>>,
    /// The progress display follows the run.
    watched: AtomicBool,
    pub(super) selected: BTreeSet<String>,
    /// The trials that failed last time, if no others are wanted.
    only: Option<BTreeSet<String>>,
    fail_fast: bool,
    pub(super) kind: Option<String>,
    quiet: bool,
}

impl RecipeRun {
    /// Binds a prepared run to the trials that the command line selects.
    pub fn new(prepared: Prepared, registry: Arc<Registry>, cli: &Cli, several: bool) -> Self {
        RecipeRun::bind(prepared, registry, cli, several, None)
    }

    /// The same, for a process that shares the run with others, each with a trial of its own.
    pub fn shared(prepared: Prepared, registry: Arc<Registry>, cli: &Cli, lock: PathBuf) -> Self {
        RecipeRun::bind(prepared, registry, cli, false, Some(lock))
    }

    fn bind(
        mut prepared: Prepared,
        registry: Arc<Registry>,
        cli: &Cli,
        several: bool,
        shared: Option<PathBuf>,
    ) -> Self {
        let recipe = prepared.spec.plan.recipe.to_string();
        let at_once = cli.mimic.test_threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into));
        let turns = Turns::new(at_once.unwrap_or(1));
        let (mut operations, mut selected, mut tickets) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let data = &prepared.spec.settings.recipe_toml.data;
        let mut trials = Selected::of_recipe(&registry, &recipe, &prepared.scripts, data);
        trials.retain(|it| it.is_planned(&prepared));
        prepared.spec.about.trials = trials.iter().map(Selected::fact).collect();
        let only = cli.last_failed.then(|| last_failed::names(&prepared, &trials)).flatten();
        let asked = Asked { cli, recipe: &recipe, several };
        let ignored = |trial: &Selected<'_>| shared.is_some() && trial.skip(&prepared).is_some();
        for trial in trials.iter().filter(|it| asked.takes(&it.name, ignored(it)) && is_among(&only, &it.name)) {
            tickets.insert(trial.name.clone(), turns.expect(trial.place()));
            selected.insert(trial.name.clone());
            if let (What::Operation, Some(tier)) = (&trial.what, trial.tier) {
                operations.insert(tier);
            }
        }
        prepared.spec.about.judged_by = fingerprint::of_judgement(&prepared).ok();
        prepared.spec.about.selected = shared.is_none().then(|| selected.clone());
        let (spec, run_dir) = (prepared.spec.clone(), prepared.run_dir.clone());
        RecipeRun {
            quiet: cli.mimic.quiet || shared.is_some(),
            session: Arc::new(match shared {
                None => Session::new(spec, run_dir),
                Some(lock) => Session::shared(spec, run_dir, lock),
            }),
            registry,
            keep: prepared.keep,
            warm: None,
            said: None,
            results: Mutex::default(),
            seat: None,
            turns,
            tickets,
            operations,
            blamed: AtomicBool::new(false),
            gone: ToldOnce::default(),
            ended: OnceLock::new(),
            watched: AtomicBool::new(false),
            selected,
            only,
            fail_fast: cli.fail_fast,
            kind: several.then_some(recipe),
            prepared,
        }
    }

    /// Whether any trial has failed so far.
    pub fn has_failed(&self) -> bool {
        self.finished().iter().any(|it| it.outcome == Outcome::Failed)
    }

    /// The trials that have ended, in the order in which they did.
    pub fn finished(&self) -> Vec<Ended> {
        self.results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Every trial of the recipe, which is named again because the trials' lives depend on its name.
    pub fn trials<'a>(&'a self, recipe: &'a str) -> Vec<Selected<'a>> {
        let Prepared { spec, scripts, .. } = &self.prepared;
        Selected::of_recipe(&self.registry, recipe, scripts, &spec.settings.recipe_toml.data)
    }

    /// Whether a trial is wanted at all.
    pub fn wants(&self, name: &str) -> bool {
        is_among(&self.only, name)
    }

    /// Why nothing is to begin any more, after a failure.
    pub fn stopped_by(&self) -> Option<String> {
        let failed = self.fail_fast.then(|| self.finished().into_iter().find(|it| it.outcome == Outcome::Failed));
        failed.flatten().map(|it| format!("because {} failed, and --fail-fast stops there", it.name))
    }

    /// Whether no trial takes part.
    pub fn selects_nothing(&self) -> bool {
        self.selected.is_empty()
    }

    /// Whether the trial of this name takes part.
    pub fn selects(&self, name: &str) -> bool {
        self.selected.contains(name)
    }

    /// The trials that take part.
    pub fn selected(&self) -> usize {
        self.selected.len()
    }

    /// Waits until a trial may begin: for its recipe, for the earlier tiers, and for whoever comes before it.
    pub fn wait(&self, trial: &str, place: Place) -> Option<Turn<'_>> {
        if let Some((places, number)) = &self.seat {
            places.enter(*number);
        }
        Some(self.turns.wait(*self.tickets.get(trial)?, place))
    }

    /// After the last trial of a recipe that is one of several: its app goes, and the next recipe may begin.
    pub fn leave(self: &Arc<Self>) {
        if let Some((places, number)) = &self.seat
            && self.turns.are_over()
        {
            // What went wrong is told when everything is over.
            let _ = teardown::at_last(self);
            places.leave(*number);
        }
    }

    /// Starts the keeper and the progress display, once.
    pub fn begin(&self) -> Result<(), Failure> {
        self.session.begin()?;
        if !self.watched.swap(true, Ordering::SeqCst) {
            progress::follow(&self.session, self.quiet, self.kind.is_some());
        }
        Ok(())
    }

    /// The command that runs one trial again.
    pub fn again(&self, name: &str) -> String {
        match self.session.is_shared() {
            true => format!("{} cargo nextest run --test recipe -E 'test(={name})'", self.prepared.variables),
            false => format!("{} {} --exact {name}", crate::program::test(), self.prepared.spec.about.arguments),
        }
    }
}

/// How the run ends is always shown.
fn is_among(only: &Option<BTreeSet<String>>, name: &str) -> bool {
    name == TEARDOWN || only.as_ref().is_none_or(|only| only.contains(name))
}

/// Whether base or head have ports beside that of the page.
fn has_ports(prepared: &Prepared) -> bool {
    let spec = &prepared.spec;
    spec.base.iter().chain([&spec.head]).any(|state| !ports::of(&state.stack).is_empty())
}

impl Selected<'_> {
    /// Tiers that were not asked for have no trials at all.
    pub fn is_planned(&self, prepared: &Prepared) -> bool {
        self.tier.is_none_or(|tier| prepared.spec.plan.step(tier).is_some())
            && (!self.is_about_ports() || has_ports(prepared))
    }

    /// Why it is known beforehand that this trial proves nothing.
    pub fn skip(&self, prepared: &Prepared) -> Option<String> {
        let plan = &prepared.spec.plan;
        let opted_out = |tier: &Tier| self.is_generic() && plan.skip_generic.contains(tier);
        let tier = self.tier?;
        if let What::Script(_, part) = &self.what
            && let Some(why) = &part.overlooked
        {
            return Some(format!("because {why}"));
        }
        let skip = plan.skip(tier).map(|skip| skip.to_string());
        skip.or_else(|| opted_out(&tier).then(|| "opted out of by --skip-generic".into()))
    }
}
