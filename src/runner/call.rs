//! Calling an assertion or a hook: on a task of its own, under a deadline.

use std::time::Duration;

use crate::app::{App, CouldNotLook};
use crate::assertion::Answer;
use crate::fault::{Failure, Fault, panic_text};

/// Of a stop, at most so much counts against a deadline.
const STEP: Duration = Duration::from_millis(250);

/// Calls an assertion or hook on a task of its own: a panic is its failure, and a deadline ends it.
pub async fn call(app: App, function: for<'a> fn(&'a App) -> Answer<'a>) -> Result<(), CallFailure> {
    let deadline = app.settings().assertion;
    let mut task = tokio::spawn(async move { function(&app).await });
    let ended = tokio::select! {
        biased;
        ended = &mut task => Some(ended),
        () = running_time(deadline) => None,
    };
    match ended {
        Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(match error.downcast::<CouldNotLook>() {
            Ok(reason) => CallFailure::CouldNotLook(reason.0),
            Err(error) => CallFailure::Failed(match error.downcast::<Failure>() {
                Ok(failure) => failure,
                Err(error) => Failure::new(Fault::Recipe, format!("{error:#}")),
            }),
        }),
        Some(Err(error)) => {
            Err(CallFailure::Failed(Failure::new(Fault::Assertion, format!("panicked: {}", panic_text(error)))))
        }
        None => {
            task.abort();
            let waited = humantime::format_duration(deadline);
            Err(CallFailure::Failed(Failure::new(Fault::Assertion, format!("did not end within {waited}"))))
        }
    }
}

/// Waits for so long, not counting the time for which the process stood still: at a breakpoint, or after Ctrl-Z. A step
/// counts as what it was meant to take, however long it took.
async fn running_time(limit: Duration) {
    let mut left = limit;
    while !left.is_zero() {
        let step = left.min(STEP);
        tokio::time::sleep(step).await;
        left -= step;
    }
}

/// Why a call did not pass.
pub enum CallFailure {
    CouldNotLook(String),
    Failed(Failure),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::runtime;
    use crate::config::Settings;
    use crate::keeper::protocol::Context;
    use crate::tier::Tier;

    /// Long enough for a machine with much else to do.
    const PATIENT: Duration = Duration::from_secs(60);

    /// An app that nobody serves: enough for functions that do not ask it anything.
    fn app(assertion: Duration) -> App {
        let settings = Settings {
            policy: Default::default(),
            https: Default::default(),
            screenshots: Default::default(),
            recipe_toml: Default::default(),
            deploy: None,
            backup: Duration::from_secs(1),
            assertion,
            call: Duration::from_secs(1),
            stable: Duration::ZERO,
            settle: Duration::ZERO,
        };
        let context = Context {
            recipe: "wiki".into(),
            run_id: "wiki-1".into(),
            tier: Tier::Install,
            domain: "wiki.harness.test".into(),
            host: "wiki.harness.test".into(),
            stack: "wiki_harness_test".into(),
            url: Err("nobody serves it".into()),
            rewrites: Vec::new(),
            settings,
            masks: Vec::new(),
        };
        App::new(context, "/nowhere".into(), Default::default())
    }

    fn failure(deadline: Duration, function: for<'a> fn(&'a App) -> Answer<'a>) -> Failure {
        match runtime().block_on(call(app(deadline), function)) {
            Err(CallFailure::Failed(failure)) => failure,
            Err(CallFailure::CouldNotLook(reason)) => panic!("could not look: {reason}"),
            Ok(()) => panic!("passed"),
        }
    }

    #[test]
    fn an_assertion_passes_fails_or_could_not_look() {
        assert!(runtime().block_on(call(app(PATIENT), |_| Box::pin(async { Ok(()) }))).is_ok());
        let failed = failure(PATIENT, |_| Box::pin(async { anyhow::bail!("expected 1, seen 2") }));
        assert_eq!(failed, Failure::new(Fault::Recipe, "expected 1, seen 2"));
        let skipped = runtime().block_on(call(app(PATIENT), |_| Box::pin(async { crate::skip("nothing to see") })));
        assert!(matches!(skipped, Err(CallFailure::CouldNotLook(reason)) if reason == "nothing to see"));
    }

    #[test]
    fn a_panic_is_the_assertions_own_failure() {
        let panicked = failure(PATIENT, |_| Box::pin(async { panic!("out of cheese") }));
        assert_eq!(panicked, Failure::new(Fault::Assertion, "panicked: out of cheese"));
    }

    #[test]
    fn an_assertion_that_hangs_ends_at_its_deadline_even_if_it_blocks_its_thread() {
        let soon = Duration::from_millis(200);
        let expected = Failure::new(Fault::Assertion, "did not end within 200ms");
        assert_eq!(failure(soon, |_| Box::pin(std::future::pending())), expected);
        let blocks = failure(soon, |_| {
            Box::pin(async {
                let (_never, wait) = std::sync::mpsc::channel::<()>();
                let _ = wait.recv_timeout(Duration::from_secs(9));
                Ok(())
            })
        });
        assert_eq!(blocks, expected);
    }

    #[test]
    fn a_keeper_that_is_gone_is_the_harnesss_fault() {
        let gone = failure(PATIENT, |app| Box::pin(async { app.services().await.map(|_| ()) }));
        assert_eq!(gone.fault, Fault::Harness);
        assert!(gone.message.starts_with("the keeper does not answer: failed to open `/nowhere`"), "{}", gone.message);
    }
}
