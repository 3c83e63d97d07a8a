//! An app that was left up: how to reach it, and how to remove it.

use crate::client::runtime;
use crate::keeper::protocol::{Answer, Call};
use crate::prepare::again::quoted;
use crate::runner::RecipeRun;
use crate::spelling;

/// Prints where the kept app is, and the one command that removes it.
pub fn print(run: &RecipeRun) {
    let recipe = &run.prepared.spec.plan.recipe;
    eprintln!("\nkept     {recipe} is still up, under the domain {}", run.prepared.spec.domain);
    match runtime().block_on(run.session.ask(&Call::Address)) {
        Ok(Answer::Address(Ok(url))) => {
            let address = format!("{url}{}", run.prepared.spec.settings.recipe_toml.http.path);
            eprintln!("reach    curl -H 'Host: {}' {}", run.prepared.spec.host(), quoted(&address));
        }
        Ok(Answer::Address(Err(reason))) => eprintln!("reach    no address: {reason}"),
        _ => eprintln!("reach    the keeper did not say"),
    }
    eprintln!("logs     {}", run.prepared.run_dir.display());
    eprintln!("remove   {}", spelling::harness(&format!("down {}", run.prepared.spec.run_id)));
}
