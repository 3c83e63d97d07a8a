//! The end of a run: as the trial `tier::teardown` where that was selected, and in any case before the exit code.

use std::sync::Arc;

use super::recipe_run::RecipeRun;
use super::selection::TEARDOWN;
use super::trial::Verdict;
use crate::client::runtime;
use crate::config::Keep;
use crate::fault::{Failure, Fault};
use crate::keeper::protocol::{ENDED, TeardownReport};
use crate::plain::printed;
use crate::report::kept;

/// The last trial of a run.
pub fn trial(run: &Arc<RecipeRun>) -> Verdict {
    if let Err(failure) = run.session.join_begun() {
        return Verdict::Failed(failure);
    }
    if !run.session.has_begun() {
        return Verdict::Ignored("nothing was deployed, so there is nothing to tear down".into());
    }
    match end(run) {
        Ok(report) if report.kept && run.warm.is_some() => {
            Verdict::Ignored("the app was left up for the next run, because of HARNESS_WARM".into())
        }
        Ok(report) if report.kept => Verdict::Ignored("the app was left up, because of --keep".into()),
        Ok(_) => Verdict::Passed,
        Err(message) => Verdict::Failed(Failure::new(Fault::Harness, message)),
    }
}

/// Ends every run that has not ended yet, and says on standard error what went wrong; false when something did.
pub fn finish(runs: &[Arc<RecipeRun>]) -> bool {
    let mut clean = true;
    for run in runs {
        if let Err(message) = at_last(run) {
            eprintln!("error: teardown of `{}` failed: {}", run.prepared.spec.plan.recipe, printed(message));
            clean = false;
        }
    }
    clean
}

/// Ends a run of which no trial does: once, however often it is asked for.
pub fn at_last(run: &RecipeRun) -> &Result<(), String> {
    const NOTHING_TO_DO: &Result<(), String> = &Ok(());
    match run.session.has_begun() && !run.selects(TEARDOWN) {
        true => run.ended.get_or_init(|| end(run).map(drop)),
        false => NOTHING_TO_DO,
    }
}

fn end(run: &RecipeRun) -> Result<TeardownReport, String> {
    let keep = match run.keep {
        Keep::Always => true,
        Keep::OnFailure => run.has_failed(),
        Keep::Never => false,
    };
    let ended = if keep {
        runtime().block_on(run.session.keep())
    } else if let Some(warm) = &run.warm {
        warm.leave(&run.session)
    } else {
        runtime().block_on(run.session.tear_down(ENDED))
    };
    let report = ended.map_err(|error| format!("{error:#}"))?;
    if report.kept && run.warm.is_none() {
        kept::print(run);
    }
    judge(report)
}

/// A proven zero, and exactly one deploy.
fn judge(report: TeardownReport) -> Result<TeardownReport, String> {
    if !report.leftovers.is_empty() {
        return Err(format!("teardown left something behind:\n  {}", report.leftovers.join("\n  ")));
    }
    if report.deploys != report.expected_deploys {
        return Err(format!("deploy-count = {} (expect {})", report.deploys, report.expected_deploys));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_deploy_and_anything_left_behind_fail_the_run() {
        let right = TeardownReport { deploys: 1, expected_deploys: 1, ..TeardownReport::default() };
        assert!(judge(right.clone()).is_ok());
        let twice = judge(TeardownReport { deploys: 2, ..right.clone() }).unwrap_err();
        assert_eq!(twice, "deploy-count = 2 (expect 1)");
        let left = judge(TeardownReport { leftovers: vec!["volume `x_content`".into()], ..right }).unwrap_err();
        assert_eq!(left, "teardown left something behind:\n  volume `x_content`");
    }
}
