//! A daemon that does not answer while something is waited for: it may be restarted and come back, and what it shows then
//! counts. One that stays away ends the wait, and is nobody's fault but the infrastructure's.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::engine;

/// How long the daemon may stay away.
const PATIENCE: Duration = Duration::from_secs(25);
/// A look that takes longer than this has met a daemon that does not answer.
const ANSWER: Duration = Duration::from_secs(15);

/// The same for a daemon that everybody has given up: each trial that asks would wait as long once more.
const ANSWER_LATER: Duration = Duration::from_secs(5);
/// Between two looks at a daemon that is away.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether the daemon is away, and since when.
#[derive(Default)]
pub struct Outage {
    since: Mutex<Option<Instant>>,
}

impl Outage {
    /// Looks. The inner error says that the daemon is away, which may pass; the outer one ends the wait.
    pub async fn look<T>(&self, look: impl Future<Output = Result<T>>) -> Result<Result<T, String>> {
        let is_given_up = self.since().is_some_and(|since| since.elapsed() > PATIENCE);
        self.look_within(look, if is_given_up { ANSWER_LATER } else { ANSWER }, PATIENCE).await
    }

    /// Looks until there is something to see, through an outage that passes.
    pub async fn sit_out<T, F>(&self, mut look: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            match self.look(look()).await? {
                Ok(seen) => return Ok(seen),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Whether the last look found the daemon away.
    pub fn goes_on(&self) -> bool {
        self.since().is_some()
    }

    async fn look_within<T>(
        &self,
        look: impl Future<Output = Result<T>>,
        answer: Duration,
        patience: Duration,
    ) -> Result<Result<T, String>> {
        let start = Instant::now();
        let error = match tokio::time::timeout(answer, look).await {
            Ok(Ok(seen)) => {
                *self.since() = None;
                return Ok(Ok(seen));
            }
            Ok(Err(error)) if engine::is_out_of_reach(&error) => error,
            Ok(Err(error)) => {
                *self.since() = None;
                return Err(error);
            }
            Err(_) => anyhow!("no answer within {}", humantime::format_duration(answer)),
        };
        let away = self.since().get_or_insert(start).elapsed();
        if away < patience {
            return Ok(Err(format!("the daemon is away: {error:#}")));
        }
        let away = humantime::format_duration(crate::poll::round(away));
        Err(error.context(format!("the daemon has been away for {away}")))
    }

    fn since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    fn away() -> Result<()> {
        Err(anyhow!("Cannot connect to the Docker daemon"))
    }

    #[tokio::test]
    async fn a_daemon_that_comes_back_in_time_ends_the_outage() {
        let outage = Outage::default();
        let reason = outage.look_within(async { away() }, LONG, LONG).await.unwrap().unwrap_err();
        assert_eq!(reason, "the daemon is away: Cannot connect to the Docker daemon");
        assert!(outage.goes_on());
        assert!(outage.look_within(async { Ok(()) }, LONG, LONG).await.unwrap().is_ok());
        assert!(!outage.goes_on());
    }

    #[tokio::test]
    async fn a_daemon_that_stays_away_ends_the_wait() {
        let outage = Outage::default();
        let error = outage.look_within(async { away() }, LONG, Duration::ZERO).await.unwrap_err();
        assert!(error.to_string().starts_with("the daemon has been away for "), "{error}");
    }

    #[tokio::test]
    async fn a_daemon_that_never_answers_is_away_and_what_it_answers_is_no_outage() {
        let outage = Outage::default();
        let silent = std::future::pending::<Result<()>>();
        let reason = outage.look_within(silent, SHORT, LONG).await.unwrap().unwrap_err();
        assert_eq!(reason, "the daemon is away: no answer within 20ms");
        let answered = Outage::default();
        assert!(answered.look_within(async { Err::<(), _>(anyhow!("no such service")) }, LONG, LONG).await.is_err());
        assert!(!answered.goes_on());
    }
}
