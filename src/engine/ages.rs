//! How long tasks have run, whatever the clock on the wall does.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::TaskState;

/// When each task was first seen to run. An engine dates a task's start by the clock on the wall. One that is set back
/// meanwhile would make the task too young for as long as it was set back; this process's own clock does not jump.
#[derive(Default)]
pub struct Ages(Mutex<BTreeMap<String, Instant>>);

impl Ages {
    /// Whether a running task has run for that long: by its start, or by what was seen of it here.
    pub fn has_run(&self, task: &TaskState, time: Duration) -> bool {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = first.entry(task.id.clone()).or_insert_with(Instant::now).elapsed();
        let dated = task.started_at.and_then(|started| SystemTime::now().duration_since(started).ok());
        seen >= time || dated.is_some_and(|age| age >= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Health, TaskPhase};
    use crate::poll::{Look, Poll};

    fn task(started_at: Option<SystemTime>) -> TaskState {
        TaskState {
            id: "app.1.x".into(),
            slot: 1,
            phase: TaskPhase::Running,
            health: Health::None,
            image: String::new(),
            digest: None,
            spec_version: 1,
            desired_running: true,
            exit_code: None,
            error: String::new(),
            started_at,
            health_output: String::new(),
            ever_ready: true,
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_task_is_as_old_as_its_start_says() {
        assert!(Ages::default().has_run(&task(Some(SystemTime::now() - HOUR)), HOUR));
        assert!(!Ages::default().has_run(&task(Some(SystemTime::now())), HOUR));
        assert!(!Ages::default().has_run(&task(None), HOUR));
    }

    #[tokio::test]
    async fn a_task_that_seems_to_start_tomorrow_gets_older_all_the_same() {
        let (ages, tomorrow) = (Ages::default(), task(Some(SystemTime::now() + 24 * HOUR)));
        let time = Duration::from_millis(50);
        assert!(!ages.has_run(&tomorrow, time), "it was first seen right now");
        let aged = async || {
            let aged = ages.has_run(&tomorrow, time);
            Ok(if aged { Look::Ready(()) } else { Look::NotYet("too young".into()) })
        };
        Poll::within(Duration::from_secs(30)).until("the task to be old enough", aged).await.unwrap();
    }
}
