//! What a deployment waits for, in a few words for whoever looks on.

use std::sync::Mutex;

use super::Keeper;
use super::converge::Expect;
use super::journal::Event;
use crate::engine::{Health, ServiceState, TaskPhase};

/// What was told last: the same is not told again.
#[derive(Default)]
pub struct Awaited(Mutex<String>);

impl Awaited {
    /// Tells what is waited for, when it has changed.
    pub fn tell(&self, keeper: &Keeper, services: &[ServiceState], expect: &Expect<'_>) {
        let waiting = services.iter().filter(|service| expect.stack.services.contains_key(&service.name));
        let what = waiting.filter_map(words).collect::<Vec<_>>().join("; ");
        let mut last = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !what.is_empty() && *last != what {
            last.clone_from(&what);
            keeper.journal.tell(Event::Waiting { what });
        }
    }
}

/// `app 0/1 starting, its health check has not answered yet`; `None` of a service that is there.
fn words(service: &ServiceState) -> Option<String> {
    let newest = service.wanted().max_by_key(|task| task.spec_version);
    let is_there = |health: Health| matches!(health, Health::Healthy | Health::None);
    let there = service
        .wanted()
        .filter(|it| it.phase == TaskPhase::Running && is_there(it.health) && it.spec_version == service.spec_version);
    let (there, replicas) = (there.count() + service.done(), service.replicas as usize);
    let how = match newest {
        None => "no task yet".to_owned(),
        Some(task) if there >= replicas && task.phase == TaskPhase::Running => return None,
        Some(task) if task.health == Health::Starting && task.health_output.is_empty() => {
            "starting, its health check has not answered yet".into()
        }
        Some(task) if task.health == Health::Starting => "starting, its health check does not pass yet".into(),
        Some(task) if task.health == Health::Unhealthy => "unhealthy".into(),
        Some(task) => task.phase.to_string(),
    };
    let ended = service.failures().count();
    let ended = if ended > 0 { format!(", {ended} ended before") } else { String::new() };
    Some(format!("{} {there}/{replicas} {how}{ended}", service.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::TaskState;

    fn task(health: Health, said: &str) -> TaskState {
        TaskState {
            id: "app.1.x".into(),
            slot: 1,
            phase: TaskPhase::Running,
            health,
            image: "nginx:2".into(),
            digest: None,
            spec_version: 2,
            desired_running: true,
            exit_code: None,
            error: String::new(),
            started_at: None,
            health_output: said.into(),
            ever_ready: false,
        }
    }

    fn said(tasks: Vec<TaskState>) -> Option<String> {
        words(&ServiceState { name: "app".into(), replicas: 1, spec_version: 2, tasks, ..Default::default() })
    }

    #[test]
    fn what_is_waited_for_has_a_name_and_a_reason() {
        let waits = |how: &str| Some(format!("app 0/1 {how}"));
        assert_eq!(said(vec![]), waits("no task yet"));
        let starting = task(Health::Starting, "");
        assert_eq!(said(vec![starting]), waits("starting, its health check has not answered yet"));
        let failing = task(Health::Starting, "exit code 22");
        assert_eq!(said(vec![failing]), waits("starting, its health check does not pass yet"));
        assert_eq!(said(vec![task(Health::Unhealthy, "ill")]), waits("unhealthy"));
        assert_eq!(said(vec![task(Health::Healthy, "")]), None);
        let preparing = TaskState { phase: TaskPhase::Starting, ..task(Health::None, "") };
        assert_eq!(said(vec![preparing]), Some(format!("app 0/1 {}", TaskPhase::Starting)));
    }
}
