//! `[[data]]` of `recipe.toml` in a run: made before an operation, looked at after it, and lost on purpose before a
//! restore.
//!
//! Hooks make and lose, because assertions never change anything. What went wrong there is kept by the keeper, and told
//! by the entry's own trials: a path with a mistake in it must not look like an upgrade that fails.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::recipe_run::RecipeRun;
use super::trial::Verdict;
use crate::app::App;
use crate::config::data::{Data, Lose, Make, See, Wanted, named};
use crate::engine::ExecOutput;
use crate::fault::{Failure, Fault};
use crate::http::Page;
use crate::keeper::journal::millis;
use crate::keeper::protocol::Call;
use crate::plan::Plan;
use crate::poll::Look;
use crate::report::explain;
use crate::tier::Tier;

/// What a spoiled file holds.
const SPOILED: &str = "spoiled by the harness, so that a restore which does nothing is seen\n";
/// So much of what was seen is shown.
const SHOWN: usize = 200;

/// What one look gave.
enum Seen {
    AsWanted,
    /// Something else, in words.
    Else(String),
}

/// Does what has to be done before an operation, for every entry.
pub async fn hooks(run: &Arc<RecipeRun>, app: &App, tier: Tier) -> Result<(), Failure> {
    let plan = &run.prepared.spec.plan;
    for (name, data) in named(&app.settings().recipe_toml.data) {
        let start = Instant::now();
        let done = match tier {
            _ if tier == made_before(plan) => make(app, data).await,
            Tier::Backup => keep(app, &name, data, plan).await,
            Tier::Restore if data.comes_back() => lose(app, &name, data).await,
            _ => continue,
        };
        let failure = done.err().map(failure_of);
        let said = failure.as_ref().map(|failure| failure.message.clone());
        let told = remember(app, &name, tier, failure).await;
        let hook = format!("recipe.toml::data_{name}");
        let ended = Call::HookFinished { tier, name: hook, millis: millis(start.elapsed()), failure: said };
        // As for other hooks: the journal is the keeper's, and without one the operation fails by itself.
        let _ = run.session.ask(&ended).await;
        told.map_err(failure_of)?;
    }
    Ok(())
}

/// The trial of an entry, in a tier that was entered.
pub async fn trial(run: &Arc<RecipeRun>, app: &App, name: &str, data: &Data, trial: &str) -> Verdict {
    let failure = match judge(run, app, name, data).await {
        Ok(()) => return Verdict::Passed,
        Err(error) => failure_of(error),
    };
    // Where the infrastructure is in trouble, so are the logs, and they have nothing to do with it.
    let logs = match failure.fault {
        Fault::Infrastructure => String::new(),
        _ => explain::logs(&run.session, &failure.message).await,
    };
    let text = format!("{failure}{logs}\nrun only this again: {}", run.again(trial));
    Verdict::Failed(Failure::new(failure.fault, text))
}

async fn judge(run: &Arc<RecipeRun>, app: &App, name: &str, data: &Data) -> Result<()> {
    let made = made_before(&run.prepared.spec.plan);
    let hooks = [Tier::Upgrade, Tier::Backup, Tier::Restore].into_iter();
    for tier in hooks.filter(|tier| *tier >= made && *tier <= app.tier()) {
        if let Some(failure) = recall(app, name, tier).await? {
            return Err(failure.into());
        }
    }
    let Seen::Else(seen) = look(app, data).await? else { return Ok(()) };
    let (place, wanted) = described(data);
    let history = format!("it was {}, and seen there before the {made}", how_made(data));
    Err(match app.tier() {
        Tier::Restore => Failure::new(
            Fault::Recipe,
            format!(
                "the restore did not bring back the data `{name}`: {place} must be {wanted}, but is {seen}; {history}, and \
                 after the backup it was lost: {}",
                how_lost(data)
            ),
        ),
        _ => Failure::new(
            Fault::Recipe,
            format!("the data `{name}` did not survive the upgrade: {place} must be {wanted}, but is {seen}; {history}"),
        ),
    }
    .into())
}

/// The tier before whose operation data is made: the first that has to leave it alone.
fn made_before(plan: &Plan) -> Tier {
    if plan.base.is_some() { Tier::Upgrade } else { Tier::Backup }
}

/// Makes the data, and sees that it is there: what is not seen now would say nothing later.
async fn make(app: &App, data: &Data) -> Result<()> {
    let made = match data.make().context("an entry of `[[data]]` that makes nothing")? {
        Make::Write { path, text } => app.write(data.service(), path, text).await,
        Make::Run(command) => app.exec(data.service(), command.argv()).await.and_then(succeeded),
        Make::Send { method, path, body } => {
            app.send(method, path, &data.headers, body).await.and_then(|page| accepted(&page))
        }
    };
    made.map_err(|error| in_context(error, &format!("the data could not be {}", how_made(data))))?;
    let (place, wanted) = described(data);
    let seen = app.eventually("the data to be seen", async || {
        Ok(match look(app, data).await? {
            Seen::AsWanted => Look::Ready(()),
            Seen::Else(seen) => Look::NotYet(seen),
        })
    });
    let what = format!(
        "the data was {}, and cannot be seen even before anything happened to it: {place} must be {wanted}",
        how_made(data)
    );
    seen.await.map_err(|error| in_context(error, &what))
}

/// What an upgrade has lost, no backup can hold.
async fn keep(app: &App, name: &str, data: &Data, plan: &Plan) -> Result<()> {
    if recall(app, name, made_before(plan)).await?.is_some() {
        return Ok(());
    }
    let Seen::Else(seen) = look(app, data).await? else { return Ok(()) };
    let (place, wanted) = described(data);
    bail!(Failure::new(
        Fault::Recipe,
        format!("the data `{name}` was lost before the backup already: {place} must be {wanted}, but is {seen}")
    ))
}

/// Loses the data, and sees that it is gone: otherwise a restore that does nothing would pass.
async fn lose(app: &App, name: &str, data: &Data) -> Result<()> {
    if recall(app, name, Tier::Backup).await?.is_some() {
        return Ok(());
    }
    let lost = match data.lose().context("an entry of `[[data]]` that loses nothing")? {
        Lose::WriteOver(path) => app.write(data.service(), path, SPOILED).await,
        Lose::Run(command) => app.exec(data.service(), command.argv()).await.and_then(succeeded),
        Lose::Delete(path) => app.send("DELETE", path, &data.headers, "").await.and_then(|page| accepted(&page)),
    };
    lost.map_err(|error| {
        let hint = match data.ruin.is_none() && data.delete.is_none() {
            true => " (`ruin` or `delete` in the entry would say another way)",
            false => "",
        };
        in_context(error, &format!("the data could not be lost before the restore{hint}: {}", how_lost(data)))
    })?;
    let (place, wanted) = described(data);
    let gone = app.eventually("the data to be gone", async || {
        Ok(match look(app, data).await? {
            Seen::AsWanted => Look::NotYet("it is there".into()),
            Seen::Else(_) => Look::Ready(()),
        })
    });
    let what = format!(
        "the data was to be lost before the restore ({}), and is still seen: {place} is {wanted}, so that a restore which \
         does nothing would pass",
        how_lost(data)
    );
    gone.await.map_err(|error| in_context(error, &what))
}

/// Looks once. That there is nothing to see is something else than what is wanted; only trouble of others is an error.
async fn look(app: &App, data: &Data) -> Result<Seen> {
    let seen = match data.see().context("an entry of `[[data]]` that sees nothing")? {
        See::Read(path) => app.read(data.service(), path).await.map(|bytes| Ok(lossy(&bytes))),
        See::Run(command) => app.exec(data.service(), command.argv()).await.map(|output| match output.code {
            0 => Ok(lossy(&output.stdout)),
            code => Err(format!("exit code {code} and {}", shown(&lossy(&output.stderr)))),
        }),
        See::Get(path) => app.get_with(path, &data.headers).await.map(|page| match page.status {
            200..=299 => Ok(page.text()),
            status => Err(format!("{status} and {}", shown(&page.text()))),
        }),
    };
    let wanted = data.wanted().context("an entry of `[[data]]` that wants nothing")?;
    match seen {
        Ok(Ok(text)) if is_as_wanted(wanted, &text) => Ok(Seen::AsWanted),
        Ok(Ok(text)) => Ok(Seen::Else(shown(&text))),
        Ok(Err(text)) => Ok(Seen::Else(text)),
        Err(error) => match failure_of(error) {
            failure if matches!(failure.fault, Fault::Recipe | Fault::Assertion) => {
                Ok(Seen::Else(format!("not to be had: {}", failure.message)))
            }
            failure => Err(failure.into()),
        },
    }
}

/// Editors, `echo` and databases add line breaks at the end that nobody means.
fn is_as_wanted(wanted: Wanted<'_>, text: &str) -> bool {
    let trimmed = |text: &str| text.trim_end_matches(['\r', '\n']).to_owned();
    match wanted {
        Wanted::Equal(expected) => trimmed(text) == trimmed(expected),
        Wanted::Containing(part) => text.contains(part),
    }
}

fn succeeded(output: ExecOutput) -> Result<()> {
    output.success().map(drop)
}

fn accepted(page: &Page) -> Result<()> {
    if page.status >= 400 {
        bail!("the app answered {page:?}");
    }
    Ok(())
}

/// Where the data is looked for, and what has to be there.
fn described(data: &Data) -> (String, String) {
    let service = data.service();
    let place = match data.see() {
        Some(See::Read(path)) => format!("`{path}` in service `{service}`"),
        Some(See::Run(command)) => format!("what `{command}` prints in service `{service}`"),
        Some(See::Get(path)) => format!("the app's `{path}`"),
        None => String::new(),
    };
    (place, data.wanted().map(|wanted| wanted.to_string()).unwrap_or_default())
}

fn how_made(data: &Data) -> String {
    let service = data.service();
    match data.make() {
        Some(Make::Write { path, .. }) => format!("written to `{path}` in service `{service}`"),
        Some(Make::Run(command)) => format!("made by `{command}` in service `{service}`"),
        Some(Make::Send { method, path, .. }) => format!("sent by {method} to the app's `{path}`"),
        None => String::new(),
    }
}

fn how_lost(data: &Data) -> String {
    let service = data.service();
    match data.lose() {
        Some(Lose::WriteOver(path)) => format!("`{path}` in service `{service}` was written over"),
        Some(Lose::Run(command)) => format!("`{command}` in service `{service}`"),
        Some(Lose::Delete(path)) => format!("DELETE of the app's `{path}`"),
        None => String::new(),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{more}")
}

/// The failure that an error carries; one without is the entry's own.
fn failure_of(error: anyhow::Error) -> Failure {
    error.downcast::<Failure>().unwrap_or_else(|error| Failure::new(Fault::Assertion, format!("{error:#}")))
}

/// Puts words before a failure. What the recipe is blamed for while data is made or lost is a mistake of the entry as
/// well as not: nothing has been proven of the recipe yet.
fn in_context(error: anyhow::Error, what: &str) -> anyhow::Error {
    let failure = failure_of(error);
    let fault = if failure.fault == Fault::Recipe { Fault::Assertion } else { failure.fault };
    Failure::new(fault, format!("{what}: {}", failure.message)).into()
}

/// What the keeper keeps of the hook of an entry before an operation: its failure, or that there was none.
async fn remember(app: &App, name: &str, tier: Tier, failure: Option<Failure>) -> Result<()> {
    let text = serde_json::to_string(&failure).context("failed to encode what became of a hook")?;
    app.remember(&key(name, tier), text).await
}

async fn recall(app: &App, name: &str, tier: Tier) -> Result<Option<Failure>> {
    let text = app.recall(&key(name, tier)).await?;
    serde_json::from_str(&text).context("failed to understand what became of a hook")
}

fn key(name: &str, tier: Tier) -> String {
    format!("recipe.toml::data_{name} before {tier}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_at_the_end_do_not_count_and_everything_else_does() {
        for (wanted, text, expected) in [
            (Wanted::Equal("hello"), "hello\r\n\n", true),
            (Wanted::Equal("hello\n"), "hello", true),
            (Wanted::Equal("hello"), " hello", false),
            (Wanted::Equal("hello"), "hello world", false),
            (Wanted::Containing("hello"), "say hello world", true),
            (Wanted::Containing("hello"), "hell", false),
        ] {
            assert_eq!(is_as_wanted(wanted, text), expected, "{wanted:?} {text:?}");
        }
    }

    #[test]
    fn an_entrys_mistake_is_not_the_recipes() {
        let of = |fault| failure_of(in_context(Failure::new(fault, "no such file").into(), "it could not be made"));
        assert_eq!(of(Fault::Recipe), Failure::new(Fault::Assertion, "it could not be made: no such file"));
        assert_eq!(of(Fault::Infrastructure).fault, Fault::Infrastructure);
    }
}
