//! Looks at the app as a visitor while an operation changes it: how long it does not answer, and with what errors.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Keeper;
use super::journal::{Downtime, Event, millis};
use crate::fault::Failure;
use crate::http;
use crate::tier::Tier;

/// From the end of one request to the next.
const PAUSE: Duration = Duration::from_millis(50);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes a change, and journals what a visitor saw of it. An app without an address is not looked at.
pub async fn during<T>(
    keeper: &Arc<Keeper>,
    tier: Tier,
    change: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // Dropped at the end, also when the change is broken off: the probing ends with it.
    let (over, told) = oneshot::channel::<()>();
    let probing = tokio::spawn(probe(keeper.clone(), tier, told));
    let result = change.await;
    drop(over);
    if let Ok(Some(downtime)) = probing.await {
        keeper.journal.write(Event::Probed(downtime)).map_err(Failure::infrastructure)?;
    }
    result
}

async fn probe(keeper: Arc<Keeper>, tier: Tier, mut over: oneshot::Receiver<()>) -> Option<Downtime> {
    let settings = &keeper.spec.settings;
    let (mut seen, host) = (Seen::new(tier, &settings.recipe_toml.http.path), keeper.spec.host());
    loop {
        let url = keeper.app.lock().await.url.clone().ok();
        if let Some(url) = &url {
            let start = Instant::now();
            let path = &settings.recipe_toml.http.path;
            let look = http::look(url, &host, &settings.https, path, PATIENCE);
            let status = tokio::select! {
                status = look => status.map_err(|error| format!("{error:#}")),
                _ = &mut over => break,
            };
            // The way to the app was laid anew meanwhile: that is the harness's doing, and not the app's.
            if keeper.app.lock().await.url.as_ref().ok() == Some(url) {
                seen.note(start, Instant::now(), status);
            }
        }
        if tokio::time::timeout(PAUSE, &mut over).await.is_ok() {
            break;
        }
    }
    seen.end(Instant::now())
}

/// What was seen so far.
struct Seen {
    downtime: Downtime,
    last_good: Option<Instant>,
    /// Since when the app has not answered well.
    gap: Option<Instant>,
}

impl Seen {
    fn new(tier: Tier, path: &str) -> Self {
        let downtime = Downtime {
            tier,
            path: path.into(),
            probes: 0,
            unanswered: 0,
            errors: 0,
            millis: 0,
            longest_millis: 0,
            first: None,
        };
        Seen { downtime, last_good: None, gap: None }
    }

    fn note(&mut self, start: Instant, end: Instant, status: Result<u16, String>) {
        self.downtime.probes += 1;
        let bad = match status {
            Ok(status) if status < 500 => {
                self.close(end);
                self.last_good = Some(end);
                return;
            }
            Ok(status) => {
                self.downtime.errors += 1;
                format!("status {status}")
            }
            Err(error) => {
                self.downtime.unanswered += 1;
                error
            }
        };
        self.downtime.first.get_or_insert(bad);
        self.gap.get_or_insert(self.last_good.unwrap_or(start));
    }

    fn close(&mut self, at: Instant) {
        if let Some(since) = self.gap.take() {
            let gap = millis(at.saturating_duration_since(since));
            self.downtime.millis += gap;
            self.downtime.longest_millis = self.downtime.longest_millis.max(gap);
        }
    }

    /// The whole; `None` when nobody could look.
    fn end(mut self, at: Instant) -> Option<Downtime> {
        self.close(at);
        (self.downtime.probes > 0).then_some(self.downtime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probes that take 10 ms each, every 100 ms.
    fn downtime(statuses: &[Result<u16, &str>]) -> Option<Downtime> {
        let zero = Instant::now();
        let mut seen = Seen::new(Tier::Upgrade, "/");
        let mut at = zero;
        for status in statuses {
            seen.note(at, at + Duration::from_millis(10), status.map_err(Into::into));
            at += Duration::from_millis(100);
        }
        seen.end(at)
    }

    #[test]
    fn an_app_that_always_answers_has_no_downtime() {
        let seen = downtime(&[Ok(200), Ok(404), Ok(302)]).unwrap();
        assert_eq!((seen.probes, seen.millis, seen.first), (3, 0, None));
    }

    #[test]
    fn a_gap_reaches_from_the_last_good_answer_to_the_next() {
        let seen = downtime(&[Ok(200), Err("refused"), Ok(503), Ok(200), Err("reset"), Ok(200)]).unwrap();
        assert_eq!((seen.unanswered, seen.errors, seen.probes), (2, 1, 6));
        assert_eq!((seen.millis, seen.longest_millis), (500, 300));
        assert_eq!(seen.first.as_deref(), Some("refused"));
    }

    #[test]
    fn a_gap_at_the_end_is_one_and_without_a_look_nothing_is_said() {
        let seen = downtime(&[Ok(500), Ok(500)]).unwrap();
        assert_eq!((seen.errors, seen.millis), (2, 200));
        assert_eq!(downtime(&[]), None);
    }
}
