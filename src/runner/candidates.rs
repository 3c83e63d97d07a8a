//! The recipes of a command line, each decided for itself: one that cannot begin stops nothing but itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Error, Result};
use libtest_mimic::{Failed, Trial};

use super::exit::Code;
use super::recipe_run::RecipeRun;
use super::selection::{Asked, Selected};
use crate::assertion::Registry;
use crate::config::cli::Cli;
use crate::config::state::create_private;
use crate::fault::{Failure, Fault};
use crate::keeper::facts::{Facts, TrialFact};
use crate::keeper::journal::{Event, Journal, Outcome, Record, Trial as Ended};
use crate::keeper::sweep;
use crate::plain::printed;
use crate::plan::Plan;
use crate::prepare::{self, Prepared, Unbegun};
use crate::recipe::name::RecipeName;
use crate::report::results::Results;
use crate::report::{files, fold};
use crate::tier::Tier;

/// One recipe of the command line.
pub enum Candidate {
    Run(Box<RecipeRun>),
    Stopped(Box<Stopped>),
}

/// A recipe whose run cannot begin.
pub struct Stopped {
    facts: Facts,
    /// The trial that fails in the place of all: the first that was asked for.
    blamed: String,
    several: bool,
    pub failure: Failure,
    /// Nobody knows which recipe or version is meant.
    pub misnamed: bool,
    pub run_dir: PathBuf,
    state: PathBuf,
    /// What would be done, where that is known.
    pub plan: Option<Plan>,
}

impl Candidate {
    /// How many trials take part.
    pub fn selected(&self) -> usize {
        match self {
            Candidate::Run(run) => run.selected(),
            Candidate::Stopped(stopped) => stopped.facts.selected.as_ref().map_or(0, BTreeSet::len),
        }
    }

    /// What a filter may mean: the trials' names, and the last word of each.
    pub fn words(&self) -> Vec<&str> {
        let Candidate::Run(run) = self else { return Vec::new() };
        let names = run.prepared.spec.about.trials.iter().map(|trial| trial.name.as_str());
        names.flat_map(|name| [name.rsplit("::").next().unwrap_or(name), name]).collect()
    }

    pub fn recipe(&self) -> String {
        match self {
            Candidate::Run(run) => run.prepared.spec.plan.recipe.to_string(),
            Candidate::Stopped(stopped) => stopped.facts.recipe.clone(),
        }
    }
}

/// Decides every recipe. An error is one of usage, when none of them is left.
pub fn decide(cli: &Cli, registry: &Arc<Registry>, recipes: &[String]) -> Result<Vec<Candidate>> {
    for recipe in recipes {
        recipe.parse::<RecipeName>()?;
    }
    let several = recipes.len() > 1;
    let (mut candidates, mut misnamed) = (Vec::new(), None);
    for recipe in recipes {
        let candidate = match prepare::prepare(cli, recipe) {
            Ok(Ok(prepared)) => Candidate::Run(RecipeRun::new(prepared, registry.clone(), cli, several).into()),
            Ok(Err(unbegun)) => Candidate::Stopped(Stopped::new(*unbegun, registry, cli, several).into()),
            Err(error) => {
                let stopped = Stopped::misnamed(recipe, &error, registry, cli);
                misnamed.get_or_insert(error);
                Candidate::Stopped(stopped.into())
            }
        };
        candidates.push(candidate);
    }
    let is_misnamed = |it: &Candidate| matches!(it, Candidate::Stopped(stopped) if stopped.misnamed);
    match misnamed {
        Some(error) if candidates.iter().all(is_misnamed) => Err(error),
        _ => Ok(candidates),
    }
}

impl Stopped {
    /// A run of which `prepare` has found out that it cannot begin.
    pub fn new(unbegun: Unbegun, registry: &Registry, cli: &Cli, several: bool) -> Self {
        let Unbegun { mut facts, run_dir, state, failure, plan } = unbegun;
        let recipe = facts.recipe.clone();
        // That they cannot be read is known already.
        let scripts = prepare::overlay_scripts(&recipe).unwrap_or_default();
        let data = prepare::overlay_data(&recipe).unwrap_or_default();
        let mut trials = Selected::of_recipe(registry, &recipe, &scripts, &data);
        trials.retain(|it| it.tier.is_none_or(|tier| facts.steps.iter().any(|step| step.tier == tier)));
        let asked = Asked { cli, recipe: &recipe, several };
        facts.trials = trials.iter().map(Selected::fact).collect();
        facts.selected =
            Some(trials.iter().filter(|it| asked.takes(&it.name, false)).map(|it| it.name.clone()).collect());
        Stopped { plan, ..Stopped::with(facts, failure, run_dir, state, several) }
    }

    fn misnamed(recipe: &str, error: &Error, registry: &Registry, cli: &Cli) -> Self {
        let unbegun = Unbegun {
            facts: Facts::unknown(recipe, recipe),
            run_dir: PathBuf::new(),
            state: PathBuf::new(),
            failure: Failure::new(Fault::Infrastructure, format!("{error:#}")),
            plan: None,
        };
        Stopped { misnamed: true, ..Stopped::new(unbegun, registry, cli, true) }
    }

    /// A run that was decided, and for which the machine has no room after all.
    pub fn after_all(prepared: &Prepared, failure: Failure, several: bool) -> Self {
        let spec = &prepared.spec;
        Stopped::with(Facts::of(spec), failure, prepared.run_dir.clone(), spec.state.clone(), several)
    }

    fn with(facts: Facts, failure: Failure, run_dir: PathBuf, state: PathBuf, several: bool) -> Self {
        let is_asked_for = |it: &&TrialFact| facts.selected.as_ref().is_none_or(|names| names.contains(&it.name));
        let first = facts.trials.iter().filter(|it| it.tier.is_some()).find(is_asked_for);
        let first = first.or_else(|| facts.trials.iter().find(|it| is_asked_for(it)));
        let blamed = first.map_or_else(|| super::selection::operation_name(Tier::Install), |it| it.name.clone());
        Stopped { blamed, facts, several, failure, misnamed: false, run_dir, state, plan: None }
    }

    /// What is said on standard error before anything runs.
    pub fn said(&self) -> String {
        let whose = if self.several { format!("{}: ", self.facts.recipe) } else { String::new() };
        format!("error: {whose}{}\n", printed(&self.failure.message))
    }

    /// The one trial of this run, which fails.
    pub fn trial(&self) -> Trial {
        // libtest names the trial alone at the end, and every recipe has one of that name.
        let whose = if self.several { format!("{}: ", self.facts.recipe) } else { String::new() };
        let message = printed(&format!("{whose}{}: {}", fold::COULD_NOT_BEGIN, self.failure));
        let trial = Trial::test(self.blamed.clone(), move || Err(Failed::from(message)));
        if self.several { trial.with_kind(&self.facts.recipe) } else { trial }
    }

    fn events(&self) -> [Event; 3] {
        let fact = self.facts.trials.iter().find(|it| it.name == self.blamed);
        let ended = Ended {
            name: self.blamed.clone(),
            tier: fact.and_then(|it| it.tier),
            outcome: Outcome::Failed,
            millis: 0,
            message: format!("{}: {}", fold::COULD_NOT_BEGIN, self.failure.message),
            fault: Some(self.failure.fault),
        };
        [
            Event::Planned(Box::new(self.facts.clone())),
            Event::CouldNotBegin { failure: self.failure.clone() },
            Event::TrialFinished(ended),
        ]
    }

    /// The results, also where nothing can be written.
    pub fn results(&self) -> Results {
        let records: Vec<Record> = self.events().into_iter().map(Record::now).collect();
        fold::fold(&records).expect("the facts stand first")
    }

    /// Makes the run's directory, with its journal and every report; nothing of one that nobody knows.
    pub fn record(&self) -> Result<()> {
        if self.misnamed {
            return Ok(());
        }
        create_private(&self.run_dir)?;
        sweep::link(&self.state, &self.facts.run_id, &self.run_dir)?;
        let journal = Journal::open(&self.run_dir)?;
        self.events().into_iter().try_for_each(|event| journal.write(event))?;
        files::of_dir(&self.run_dir).map(drop)
    }

    /// What it makes of the exit code.
    pub fn code(&self) -> Code {
        match self.failure.fault {
            _ if self.misnamed => Code::Usage,
            Fault::Recipe | Fault::Assertion => Code::Failed,
            Fault::Infrastructure | Fault::Harness => Code::Trouble,
        }
    }
}
