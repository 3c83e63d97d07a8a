//! The one way to wait: ask again until it is so, it can no longer be so, or the deadline passes.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// What one look at the world gave.
#[derive(Debug)]
pub enum Look<T> {
    /// It is so.
    Ready(T),
    /// Not yet, because of this; the last of these is quoted when the deadline passes.
    NotYet(String),
}

/// How long a look that is bounded by itself may go on after the deadline.
const LOOK: Duration = Duration::from_secs(45);

/// How often to look, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    pub interval: Duration,
    pub deadline: Duration,
}

impl Poll {
    /// Looks every 20 ms until `deadline` has passed.
    pub fn within(deadline: Duration) -> Self {
        Poll { interval: Duration::from_millis(20), deadline }
    }

    /// Looks until `look` is ready. An error of `look` ends the wait at once; a time-out says what was waited for,
    /// how long, and what was last seen.
    pub async fn until<T, F>(self, what: impl Display, look: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Look<T>>>,
    {
        self.look_until(what, look, Some(Duration::ZERO)).await
    }

    /// The same for looks that are bounded by themselves: one that is under way at the deadline may end, because its
    /// error says more than that nothing was seen.
    pub async fn until_seen<T, F>(self, what: impl Display, look: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Look<T>>>,
    {
        self.look_until(what, look, Some(LOOK)).await
    }

    /// The same for attempts that have a deadline of their own: this one only ends their repetition.
    pub async fn until_done<T, F>(self, what: impl Display, attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Look<T>>>,
    {
        self.look_until(what, attempt, None).await
    }

    /// A look is cut off at the deadline and its grace; without a grace it never is.
    async fn look_until<T, F>(
        self,
        what: impl Display,
        mut look: impl FnMut() -> F,
        grace: Option<Duration>,
    ) -> Result<T>
    where
        F: Future<Output = Result<Look<T>>>,
    {
        let start = Instant::now();
        let mut last_seen = String::from("nothing yet");
        loop {
            let left = grace.map_or(Duration::MAX, |grace| self.deadline.saturating_sub(start.elapsed()) + grace);
            match tokio::time::timeout(left, look()).await {
                Ok(Ok(Look::Ready(value))) => return Ok(value),
                Ok(Ok(Look::NotYet(reason))) => last_seen = reason,
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
            if start.elapsed() + self.interval >= self.deadline {
                return Err(anyhow!(
                    "gave up waiting for {what} after {}; last seen: {last_seen}",
                    humantime::format_duration(round(start.elapsed()))
                ));
            }
            tokio::time::sleep(self.interval).await;
        }
    }
}

/// Whole milliseconds, so that a message does not end in nanoseconds.
pub fn round(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ready_look_ends_the_wait() {
        let mut looks = 0;
        let poll = Poll { interval: Duration::from_millis(1), deadline: Duration::from_secs(5) };
        let seen = poll
            .until("the third look", || {
                looks += 1;
                let look = if looks == 3 { Look::Ready(looks) } else { Look::NotYet(format!("look {looks}")) };
                async { Ok(look) }
            })
            .await;
        assert_eq!(seen.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_time_out_quotes_what_was_last_seen() {
        let poll = Poll { interval: Duration::from_millis(1), deadline: Duration::from_millis(10) };
        let error = poll
            .until("service `app`", || async { Ok(Look::<()>::NotYet("0/1 tasks run".into())) })
            .await
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("gave up waiting for service `app` after "), "{error}");
        assert!(error.ends_with("last seen: 0/1 tasks run"), "{error}");
    }

    #[tokio::test]
    async fn a_look_under_way_at_the_deadline_may_still_say_what_is_wrong() {
        let poll = Poll { interval: Duration::from_millis(1), deadline: Duration::from_millis(20) };
        let look = async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err::<Look<()>, _>(anyhow!("the daemon is away"))
        };
        assert_eq!(poll.until_seen("an answer", look).await.unwrap_err().to_string(), "the daemon is away");
    }

    #[tokio::test]
    async fn an_attempt_with_a_deadline_of_its_own_is_not_cut_off() {
        let poll = Poll { interval: Duration::from_millis(1), deadline: Duration::from_millis(20) };
        let attempt = async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(Look::Ready("dumped"))
        };
        assert_eq!(poll.until_done("a dump", attempt).await.unwrap(), "dumped");
        let again = async || Ok(Look::<()>::NotYet("the container cycles".into()));
        let error = poll.until_done("a dump", again).await.unwrap_err().to_string();
        assert!(error.ends_with("last seen: the container cycles"), "{error}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_cut_off_at_the_deadline() {
        let poll = Poll { interval: Duration::from_millis(1), deadline: Duration::from_millis(20) };
        let error = poll.until("an answer", std::future::pending::<Result<Look<()>>>).await.unwrap_err();
        assert!(error.to_string().contains("last seen: nothing yet"), "{error}");
    }
}
