//! A daemon that hangs: whatever may take long is accompanied by pings, so that nobody waits any longer for it than for
//! one that is gone. Silence is counted in pings, so that a machine that sleeps holds nothing against it.

use std::time::Duration;

use anyhow::{Result, anyhow};
use bollard::Docker;

/// Between two pings of a daemon that answers.
const EVERY: Duration = Duration::from_secs(4);
/// For the answer to one, which takes milliseconds.
const ANSWER: Duration = Duration::from_secs(8);
/// So many in a row without an answer: half a minute.
const PINGS: u32 = 3;

/// What a hanging daemon is known by in an error.
pub const HANGS: &str = "the Docker daemon hangs: ";

/// Does the work, or gives it up when the daemon answers no ping meanwhile. Large work comes in a box: an unoptimised
/// build moves it through the stack once more for every function that passes it on.
pub async fn while_alive<T>(docker: &Docker, work: impl Future<Output = T>) -> Result<T> {
    let ping = || async { drop(docker.ping().await) };
    tokio::select! {
        biased;
        done = work => Ok(done),
        error = silent(ping, EVERY, ANSWER) => Err(error),
    }
}

/// Returns once nothing answers. That a ping is refused is an answer: whoever does the work will see it himself.
async fn silent<F: Future<Output = ()>>(ping: impl Fn() -> F, every: Duration, answer: Duration) -> anyhow::Error {
    let mut unanswered = 0;
    while unanswered < PINGS {
        match tokio::time::timeout(answer, ping()).await {
            Ok(()) => {
                unanswered = 0;
                tokio::time::sleep(every).await;
            }
            Err(_) => unanswered += 1,
        }
    }
    anyhow!("{HANGS}it answered none of {PINGS} pings, each within {}", humantime::format_duration(answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const SHORT: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn a_daemon_that_answers_nothing_is_said_to_hang() {
        let error = silent(std::future::pending::<()>, SHORT, SHORT).await.to_string();
        assert_eq!(error, "the Docker daemon hangs: it answered none of 3 pings, each within 5ms");
        assert!(crate::engine::is_out_of_reach(&anyhow!(error).context("failed to deploy")));
    }

    #[tokio::test]
    async fn one_answer_in_between_begins_the_count_anew() {
        let pings = AtomicU32::new(0);
        let ping = || {
            let number = pings.fetch_add(1, Ordering::SeqCst);
            // Two of three go unanswered, and after the thirtieth every one.
            let answers = number < 30 && number.is_multiple_of(3);
            async move {
                if !answers {
                    std::future::pending::<()>().await;
                }
            }
        };
        silent(ping, SHORT, SHORT).await;
        assert!(pings.load(Ordering::SeqCst) >= 30, "{pings:?}");
    }

    #[tokio::test]
    async fn work_that_is_done_is_not_held_up() {
        let docker = Docker::connect_with_http("tcp://127.0.0.1:1", 1, bollard::API_DEFAULT_VERSION).unwrap();
        assert_eq!(while_alive(&docker, async { 7 }).await.unwrap(), 7);
    }
}
