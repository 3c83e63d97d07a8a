//! Ends the run when the keeper is told to stop, and waits for processes that are not this one's children.

use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::signal::unix::{SignalKind, signal};

use super::spec::Client;
use super::{Keeper, teardown};

/// Tears down on SIGTERM, SIGINT and SIGHUP.
pub async fn signals(keeper: Arc<Keeper>) {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let waits = kinds.into_iter().filter_map(|kind| signal(kind).ok()).map(|mut stream| {
        Box::pin(async move {
            stream.recv().await;
        })
    });
    let (tell, mut told) = tokio::sync::mpsc::channel::<()>(1);
    for wait in waits {
        let tell = tell.clone();
        tokio::spawn(async move {
            wait.await;
            let _ = tell.send(()).await;
        });
    }
    told.recv().await;
    teardown::run(&keeper, "the keeper was told to stop").await;
    keeper.finished.notify_one();
}

/// Returns when the process has ended. Its start time tells it from a later one with the same number.
pub fn wait(client: Client) {
    let Some(pid) = Pid::from_raw(client.pid) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // Only now is it certain which process the descriptor stands for.
    if !client.is_alive() {
        return;
    }
    while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None) {}
}
