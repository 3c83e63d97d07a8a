//! Trials and hooks that are programs of their own: they run in a cage, with the app described to them.

use std::sync::Arc;

use super::calls::Calls;
use super::recipe_run::RecipeRun;
use super::trial::Verdict;
use crate::app::App;
use crate::fault::{Failure, Fault};
use crate::script::run::{self, About, Said, Stage};
use crate::script::{Code, Part, Role, Script};
use crate::tier::Tier;

/// Runs one trial in a tier that was entered.
pub async fn trial(run: &Arc<RecipeRun>, app: &App, script: &Script, part: &Part) -> Verdict {
    if let Some(why) = &part.overlooked {
        return Verdict::Ignored(format!("because {why}"));
    }
    if script.role == Role::NotCompiled {
        return Verdict::Ignored(format!(
            "unverified: `{}` is Rust, which `cargo test --test recipe` in a checkout compiles, and this program cannot",
            script.shown()
        ));
    }
    if part.function.is_some() {
        match run::has_pytest(&run.prepared.run_dir).await {
            Ok(true) => {}
            Ok(false) => {
                return cannot(
                    "there is no pytest for the machine's own Python: on Debian, apt-get install python3-pytest",
                );
            }
            Err(error) => return cannot(&format!("the cage cannot be used here: {error:#}")),
        }
    }
    match perform(run, app, script, part.function.as_deref()).await {
        Ok((Said::Passed, _)) => Verdict::Passed,
        Ok((Said::Skipped(reason), _)) => Verdict::Ignored(reason),
        Ok((Said::Failed(what), trouble)) => failed(run, script, part, blamed(what, trouble, Fault::Recipe)),
        // The recipe has not even been asked.
        Ok((Said::Broken(what), trouble)) => failed(run, script, part, blamed(what, trouble, author(script))),
        Err(error) => cannot(&format!("the cage cannot be used here: {error:#}")),
    }
}

/// Runs the hooks before an operation, one after another, and stops at the first that fails.
pub async fn hooks(run: &Arc<RecipeRun>, app: &App, tier: Tier) -> Result<(), Failure> {
    let before = |script: &&Script| script.role == Role::Before && script.tier == tier;
    for script in run.prepared.scripts.iter().filter(before) {
        let name = script.shown();
        let (said, trouble) = perform(run, app, script, None).await.map_err(Failure::infrastructure)?;
        let what = match said {
            Said::Passed => continue,
            Said::Skipped(reason) => format!("gave up: {reason}"),
            Said::Failed(what) | Said::Broken(what) => format!("failed: {what}"),
        };
        let (what, fault) = blamed(what, trouble, author(script));
        return Err(Failure::new(fault, run.session.masked(&format!("the hook `{name}` {what}"))));
    }
    Ok(())
}

/// Whose fault it is that a program is wrong by itself.
fn author(script: &Script) -> Fault {
    match script.code {
        Code::Overlay { .. } => Fault::Assertion,
        Code::RepoLocal { .. } => Fault::Recipe,
    }
}

fn failed(run: &RecipeRun, script: &Script, part: &Part, (what, fault): (String, Fault)) -> Verdict {
    let text = format!("`{}`: {what}\nrun only this again: {}", script.shown(), run.again(&part.name));
    Verdict::Failed(Failure::new(fault, text))
}

/// Locally nothing is proven then; in CI that is a failure.
fn cannot(why: &str) -> Verdict {
    match std::env::var("CI").as_deref() {
        Ok("true") => Verdict::Failed(Failure::new(Fault::Infrastructure, why)),
        _ => Verdict::Ignored(format!("because {why}")),
    }
}

/// Whoever failed to answer a call of the program is to be blamed for what the program made of it.
fn blamed(what: String, trouble: Option<Failure>, fault: Fault) -> (String, Fault) {
    match trouble {
        Some(trouble) => (format!("{what}\na call of it could not be answered: {}", trouble.message), trouble.fault),
        None => (what, fault),
    }
}

/// Runs a program, and says what went wrong with the machine or the harness while its calls were answered.
async fn perform(
    run: &Arc<RecipeRun>,
    app: &App,
    script: &Script,
    function: Option<&str>,
) -> anyhow::Result<(Said, Option<Failure>)> {
    let spec = &run.prepared.spec;
    let https = &app.settings().https;
    let (door, url) = match app.base() {
        Ok(base) => {
            let (mut door, url) = run::door(base, app.host(), https).await?;
            door.changes = app.changes();
            (Some(door), Some(url))
        }
        Err(_) => (None, None),
    };
    let about = About {
        recipe: app.recipe().to_owned(),
        run_id: spec.run_id.clone(),
        tier: app.tier(),
        domain: app.domain().to_owned(),
        stack: app.stack().to_owned(),
        url,
        calls: Some(Calls::url()),
        tls_verify: https.verify,
        base: spec.plan.base.as_ref().map(ToString::to_string),
        head: spec.plan.head.commit.clone(),
    };
    let tree = spec.mirror.tree(&spec.plan.head)?;
    let deadline = app.settings().assertion;
    let calls = Calls::open(app.clone());
    let hatch = Some(calls.hatch.clone());
    let stage = Stage { dir: &run.prepared.run_dir, tree: &tree, about, door, hatch, deadline };
    let said = run::run(script, function, &stage).await?;
    Ok((said, calls.trouble()))
}
