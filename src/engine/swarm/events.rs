//! The daemon's events, as hints that something may have changed. They are lost when a reader is slow, so nothing is
//! concluded from them or from their absence: whoever waits looks again anyway.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::STACK_LABEL;

/// Without any event, how long until the next look.
const QUIET: Duration = Duration::from_millis(250);
/// Swarm writes a task's new state a moment after the container's event: the next looks follow each other closely.
const CLOSE: Duration = Duration::from_millis(25);
/// For how long after an event they do.
const BUSY: Duration = Duration::from_millis(300);
/// A stream that ends at once is not asked for again at once.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows the events of one stack until it is dropped.
pub struct Events {
    happened: Arc<Notify>,
    last: std::sync::Mutex<Option<tokio::time::Instant>>,
    following: JoinHandle<()>,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Events {
    pub fn follow(docker: Docker, stack: String) -> Events {
        let happened = Arc::new(Notify::new());
        let following = tokio::spawn(listen(docker, stack, happened.clone()));
        Events { happened, last: Default::default(), following }
    }

    /// Returns at the next event, or after a moment without one.
    pub async fn next(&self) {
        let busy = {
            let last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            last.is_some_and(|at| at.elapsed() < BUSY)
        };
        let event = tokio::time::timeout(if busy { CLOSE } else { QUIET }, self.happened.notified()).await;
        if event.is_ok() {
            *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(tokio::time::Instant::now());
        }
    }
}

async fn listen(docker: Docker, stack: String, happened: Arc<Notify>) {
    let types = ["container", "service"].map(str::to_owned).to_vec();
    let filters: HashMap<String, Vec<String>> = [("type".to_owned(), types)].into();
    loop {
        let mut events = Box::pin(docker.events(Some(EventsOptionsBuilder::default().filters(&filters).build())));
        while let Some(Ok(event)) = events.next().await {
            if concerns(&event, &stack) {
                happened.notify_one();
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether an event may have changed something about the stack. The commands of health checks are events as well.
fn concerns(event: &EventMessage, stack: &str) -> bool {
    let attributes = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
    let attribute = |key: &str| attributes.and_then(|attributes| attributes.get(key)).map(String::as_str);
    let ours = attribute(STACK_LABEL) == Some(stack)
        || attribute("name").and_then(|name| name.strip_prefix(stack)).is_some_and(|rest| rest.starts_with('_'));
    ours && !event.action.as_deref().unwrap_or_default().starts_with("exec_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::EventActor;

    fn event(action: &str, attributes: &[(&str, &str)]) -> EventMessage {
        let attributes = attributes.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let actor = Some(EventActor { attributes: Some(attributes), ..EventActor::default() });
        EventMessage { action: Some(action.into()), actor, ..EventMessage::default() }
    }

    #[test]
    fn only_the_stacks_own_events_count_and_no_health_checks() {
        assert!(concerns(&event("die", &[(STACK_LABEL, "s_x")]), "s_x"));
        assert!(concerns(&event("update", &[("name", "s_x_app")]), "s_x"));
        assert!(!concerns(&event("update", &[("name", "s_x2_app")]), "s_x"));
        assert!(!concerns(&event("die", &[(STACK_LABEL, "other")]), "s_x"));
        assert!(!concerns(&event("exec_start: true", &[(STACK_LABEL, "s_x")]), "s_x"));
        assert!(!concerns(&EventMessage::default(), "s_x"));
    }
}
