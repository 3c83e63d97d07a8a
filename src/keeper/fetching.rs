//! The pulling of the head's images beside the tiers before the upgrade. It holds the engine, which teardown takes away.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Whether images are pulled ahead.
#[derive(Default)]
pub struct Fetching(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Busy(AbortHandle),
    /// The run is torn down: nothing begins any more.
    Over,
}

impl Fetching {
    /// Begins to pull in the place of what is being pulled. An operation that ends while the run is torn down begins
    /// nothing: the pull would hold the engine for as long as a registry takes, and teardown would wait for it.
    pub fn begin(&self, pull: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state();
        if !matches!(*state, State::Over) {
            state.abort();
            *state = State::Busy(tokio::spawn(pull).abort_handle());
        }
    }

    /// Ends what is pulled: what is missing is pulled by whoever needs it.
    pub fn stop(&self) {
        let mut state = self.state();
        state.abort();
        if !matches!(*state, State::Over) {
            *state = State::Idle;
        }
    }

    /// Ends what is pulled, for good.
    pub fn end(&self) {
        let mut state = self.state();
        state.abort();
        *state = State::Over;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn abort(&self) {
        if let State::Busy(pull) = self {
            pull.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;

    use tokio::sync::RwLock;

    use super::*;

    /// As a pull holds the engine, and a teardown wants it.
    fn pull(engine: &Arc<RwLock<()>>) -> impl Future<Output = ()> + Send + use<> {
        let engine = engine.clone();
        async move {
            let _held = engine.read().await;
            pending().await
        }
    }

    #[tokio::test]
    async fn nothing_holds_the_engine_once_it_is_over_whichever_comes_first() {
        let engine = Arc::new(RwLock::new(()));
        let fetching = Fetching::default();
        fetching.begin(pull(&engine));
        while engine.try_write().is_ok() {
            tokio::task::yield_now().await;
        }
        fetching.stop();
        drop(engine.write().await);
        fetching.begin(pull(&engine));
        fetching.begin(pull(&engine));
        fetching.end();
        drop(engine.write().await);
        // The last act of an operation that ended just now.
        fetching.begin(pull(&engine));
        fetching.stop();
        fetching.begin(pull(&engine));
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert!(engine.try_write().is_ok(), "a pull began after the end");
        }
    }
}
