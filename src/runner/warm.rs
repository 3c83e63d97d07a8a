//! Apps that stay warm: with `HARNESS_WARM=10m` a run leaves its app up, and the next run of the same thing goes on with
//! it instead of deploying anew.
//!
//! What holds without it holds with it: the app was deployed once, each operation was performed once, and an assertion
//! sees the state right after its tier's operation. So an app is reused only if nothing that shaped it has changed, and
//! only if it is not past what the selected trials need.

pub mod fingerprint;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::recipe_run::RecipeRun;
use super::selection::{Selected, What};
use crate::client::{self, Session, runtime};
use crate::config::Keep;
use crate::config::state::create_private;
use crate::keeper::journal::{self, Event};
use crate::keeper::lock;
use crate::keeper::protocol::{Answer, Call, Invocation, OwnedBy, Standing, TeardownReport};
use crate::keeper::spec::RunSpec;
use crate::poll::round;
use crate::spelling::harness;
use crate::tier::Tier;
use fingerprint::Fingerprint;

/// A run that leaves its app up, and holds the recipe's only place for one until it ends.
pub struct Warm {
    limit: Duration,
    file: PathBuf,
    fingerprint: Fingerprint,
    _held: File,
}

/// The app that was left up, as the file beside the lock names it.
#[derive(Serialize, Deserialize)]
struct Left {
    run_dir: PathBuf,
    fingerprint: Fingerprint,
}

/// What a selected trial needs of an app.
struct Need {
    trial: String,
    tier: Tier,
    /// The operation itself, and not the state after it.
    operation: bool,
}

/// Binds a run to the app that an earlier one has left up, or removes that app; says which in a line of the header.
/// Nothing happens unless it was asked for.
pub fn claim(run: &mut RecipeRun) -> Result<()> {
    let Some(limit) = run.prepared.warm else { return Ok(()) };
    if let Some(other) = excluded_by(run) {
        run.said = Some(format!("not with {other}: nothing is reused, and nothing is left up for the next run"));
        return Ok(());
    }
    let dir = run.prepared.spec.state.join("warm");
    create_private(&dir)?;
    let recipe = run.prepared.spec.plan.recipe.clone();
    let Some(held) = hold(&dir.join(format!("{recipe}.lock")))? else {
        run.said = Some(format!(
            "another run of {recipe} is under way and has the app: this one deploys its own, and tears it down"
        ));
        return Ok(());
    };
    let fingerprint = Fingerprint::of(&run.prepared, &run.registry)?;
    let warm = Warm { limit, file: dir.join(format!("{recipe}.json")), fingerprint, _held: held };
    run.said = match warm.left() {
        None => Some("no app is up yet".into()),
        Some(left) => Some(warm.reuse_or_remove(run, &left)?),
    };
    run.warm = Some(warm);
    Ok(())
}

/// Other wishes for what becomes of the app.
fn excluded_by(run: &RecipeRun) -> Option<&'static str> {
    let prepared = &run.prepared;
    [
        (run.keep != Keep::Never, "--keep"),
        (prepared.own_dir, "--run-dir"),
        (prepared.spec.sabotage.is_some(), "--sabotage"),
        // Whether a value is still the same, nothing that is kept tells.
        (!prepared.spec.secrets.is_empty(), "secrets from outside"),
    ]
    .into_iter()
    .find_map(|(is_so, flag)| is_so.then_some(flag))
}

/// The lock, unless somebody has it. It ends with this process at the latest.
fn hold(path: &std::path::Path) -> Result<Option<File>> {
    let file = File::create(path).with_context(|| format!("failed to create `{}`", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to lock `{}`", path.display())),
    }
}

impl Warm {
    /// Leaves the app up at the end of a run, or tears it down if nobody could go on from there.
    pub fn leave(&self, session: &Session) -> Result<TeardownReport> {
        let id = &session.spec.run_id;
        // Written first: an app that nobody finds would only be in the way until its time is up.
        let left = self.remember(&session.run_dir).and_then(|()| runtime().block_on(session.leave(self.limit)));
        match left {
            Ok(report) => {
                let limit = humantime::format_duration(self.limit);
                let remove = harness(&format!("down {id}"));
                eprintln!("\nwarm     {id} stays up for {limit}; to remove it now: {remove}");
                Ok(report)
            }
            Err(error) => {
                eprintln!("\nwarm     {id} is not left up: {error:#}");
                runtime().block_on(session.tear_down(crate::keeper::protocol::ENDED))
            }
        }
    }

    fn left(&self) -> Option<Left> {
        let left: Left = serde_json::from_slice(&std::fs::read(&self.file).ok()?).ok()?;
        // A run that is over needs no word.
        lock::exists(&left.run_dir).then_some(left)
    }

    fn remember(&self, run_dir: &std::path::Path) -> Result<()> {
        let left = Left { run_dir: run_dir.to_owned(), fingerprint: self.fingerprint.clone() };
        let json = serde_json::to_vec_pretty(&left).context("failed to encode the app that is left up")?;
        // In one step: half a file would name no app, and leave one up that nobody finds.
        let dir = self.file.parent().context("the file has no directory")?;
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(&json)?;
            file.persist(&self.file).map_err(|error| error.error)
        };
        write().map(drop).with_context(|| format!("failed to write `{}`", self.file.display()))
    }

    fn reuse_or_remove(&self, run: &mut RecipeRun, left: &Left) -> Result<String> {
        let id = left.run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self.reuse(run, left) {
            Ok(at) => Ok(format!("reused run {id} at tier `{at}`, {}", deployed(&left.run_dir))),
            Err(why) => {
                remove(&left.run_dir).with_context(|| format!("{id} is not reused: {why:#}"))?;
                Ok(format!("{id} is not reused, and torn down: {why:#}"))
            }
        }
    }

    /// Goes on with the app, and says at which tier; an error says why not.
    fn reuse(&self, run: &mut RecipeRun, left: &Left) -> Result<Tier> {
        if let Some(changed) = self.fingerprint.difference(&left.fingerprint) {
            bail!("{changed}");
        }
        let spec = RunSpec::read(&left.run_dir)?;
        let about = run.prepared.spec.about.clone();
        let spec = RunSpec { about: about.clone(), client: run.prepared.spec.client, ..spec };
        let session = Session::resumed(spec.clone(), left.run_dir.clone()).context("its keeper cannot be joined")?;
        let answered = runtime().block_on(session.ask(&Call::Standing));
        let standing = match (answered, session.given_up()) {
            (Ok(Answer::Standing(standing)), _) => standing,
            (Ok(other), _) => bail!("its keeper answered with something else: {other:?}"),
            (Err(_), Some(reason)) => bail!("its keeper was given up: {reason}"),
            (Err(_), None) => bail!("its keeper is gone"),
        };
        let at = suits(&standing, &needs(run))?;
        let invocation = Invocation {
            client: run.prepared.spec.client,
            arguments: about.arguments.clone(),
            trials: about.trials.clone(),
            selected: about.selected.clone().unwrap_or_default(),
            judged_by: about.judged_by.clone(),
            wants: about.wants,
        };
        match runtime().block_on(session.ask(&Call::Resume(Box::new(invocation))))? {
            Answer::Done => {}
            Answer::Failed(failure) => bail!("{failure}"),
            other => bail!("its keeper answered with something else: {other:?}"),
        }
        run.prepared.spec = spec;
        run.prepared.run_dir = left.run_dir.clone();
        run.session = Arc::new(session);
        Ok(at)
    }
}

/// What the selected trials need, in the order in which they run. A trial that is known to be skipped needs nothing.
fn needs(run: &RecipeRun) -> Vec<Need> {
    let recipe = run.prepared.spec.plan.recipe.to_string();
    let trials = run.trials(&recipe);
    let need = |it: Selected<'_>| {
        let tier = it.tier.filter(|tier| run.selects(&it.name) && run.prepared.spec.plan.skip(*tier).is_none())?;
        Some(Need { operation: matches!(it.what, What::Operation), trial: it.name, tier })
    };
    trials.into_iter().filter_map(need).collect()
}

/// The tier at which an app can be used; an error says why it cannot.
fn suits(standing: &Standing, needs: &[Need]) -> Result<Tier> {
    match (standing.owner, standing.failed, standing.reached) {
        (OwnedBy::Idle { .. }, None, Some(at)) => match needs.iter().find(|need| need.is_past(at)) {
            None => Ok(at),
            Some(Need { trial, operation: true, .. }) => Err(anyhow!(
                "the app is at tier `{at}`, and `{trial}` is to show an operation that was performed already"
            )),
            Some(Need { trial, tier, .. }) => {
                Err(anyhow!("the app is at tier `{at}`, and `{trial}` needs it as it was at tier `{tier}`"))
            }
        },
        (OwnedBy::Idle { .. }, Some(failed), _) => Err(anyhow!("its operation `{failed}` failed")),
        (OwnedBy::Idle { .. }, None, None) => Err(anyhow!("it was never deployed")),
        (OwnedBy::Nobody, ..) => Err(anyhow!("its time was up")),
        (OwnedBy::Process { .. } | OwnedBy::Kept, ..) => Err(anyhow!("the run that used it was broken off")),
    }
}

impl Need {
    fn is_past(&self, at: Tier) -> bool {
        if self.operation { at >= self.tier } else { at > self.tier }
    }
}

/// Tears down the app that the last run of a recipe has left up, if it has, and says which.
pub fn end(state: &std::path::Path, recipe: &str) -> Result<Option<String>> {
    let json = std::fs::read(state.join("warm").join(format!("{recipe}.json"))).ok();
    let left = json.and_then(|json| serde_json::from_slice::<Left>(&json).ok());
    let Some(left) = left.filter(|left| lock::exists(&left.run_dir)) else { return Ok(None) };
    remove(&left.run_dir)?;
    Ok(Some(left.run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned()))
}

/// Tears an app down, and proves that nothing is left of it before anything new is begun.
fn remove(run_dir: &std::path::Path) -> Result<()> {
    let down = runtime().block_on(client::down(run_dir, "the next run could not go on with it"))?;
    if !down.leftovers.is_empty() {
        bail!("it still has: {}", down.leftovers.join(", "));
    }
    Ok(())
}

fn deployed(run_dir: &std::path::Path) -> String {
    let records = journal::read(&run_dir.join(journal::FILE)).unwrap_or_default();
    let installed = records
        .iter()
        .find(|record| matches!(&record.event, Event::OperationFinished { tier: Tier::Install, failure: None, .. }));
    let age = installed
        .and_then(|record| humantime::parse_rfc3339(&record.at).ok())
        .and_then(|at| SystemTime::now().duration_since(at).ok());
    match age {
        Some(age) => format!("deployed {} ago", humantime::format_duration(Duration::from_secs(round(age).as_secs()))),
        None => "deployed earlier".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(trial: &str, tier: Tier, operation: bool) -> Need {
        Need { trial: trial.into(), tier, operation }
    }

    fn at(reached: Option<Tier>) -> Standing {
        Standing { reached, failed: None, owner: OwnedBy::Idle { left: Duration::from_secs(9) } }
    }

    fn refusal(standing: &Standing, needs: &[Need]) -> String {
        suits(standing, needs).unwrap_err().to_string()
    }

    #[test]
    fn an_app_at_or_before_what_is_needed_is_used() {
        let upgrade = at(Some(Tier::Upgrade));
        assert_eq!(suits(&upgrade, &[need("a", Tier::Upgrade, false)]).unwrap(), Tier::Upgrade);
        assert_eq!(
            suits(&upgrade, &[need("a", Tier::Restore, false), need("b", Tier::Backup, true)]).unwrap(),
            Tier::Upgrade
        );
        assert_eq!(suits(&upgrade, &[]).unwrap(), Tier::Upgrade);
    }

    #[test]
    fn an_app_that_is_past_it_is_not() {
        let restore = at(Some(Tier::Restore));
        assert_eq!(
            refusal(&restore, &[need("x::a", Tier::Custom, false), need("generic::install::a", Tier::Install, false)]),
            "the app is at tier `restore`, and `generic::install::a` needs it as it was at tier `install`"
        );
        assert_eq!(
            refusal(&restore, &[need("tier::restore", Tier::Restore, true)]),
            "the app is at tier `restore`, and `tier::restore` is to show an operation that was performed already"
        );
    }

    #[test]
    fn an_app_that_nobody_left_on_purpose_or_that_failed_is_not() {
        let upgrade = || at(Some(Tier::Upgrade));
        let failed = Standing { failed: Some(Tier::Backup), ..upgrade() };
        assert_eq!(refusal(&failed, &[]), "its operation `backup` failed");
        assert_eq!(refusal(&at(None), &[]), "it was never deployed");
        let owned = |owner| refusal(&Standing { owner, ..upgrade() }, &[]);
        assert_eq!(owned(OwnedBy::Nobody), "its time was up");
        assert_eq!(owned(OwnedBy::Process { pid: 1 }), "the run that used it was broken off");
    }
}
