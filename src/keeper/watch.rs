//! Ends the run when nobody is left to want it: the client died, or the keeper itself was told to stop.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::signal::unix::{SignalKind, signal};

use super::spec::Client;
use super::{Keeper, teardown};

/// Tears down when the client is gone, unless it was told that the app stays.
pub async fn client(keeper: Arc<Keeper>) {
    let client = keeper.spec.client;
    // A thread of its own, not one of the runtime's: it waits for as long as the run lasts.
    let (gone, seen) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        wait(client);
        let _ = gone.send(());
    });
    let _ = seen.await;
    if keeper.kept.load(Ordering::SeqCst) {
        return;
    }
    teardown::run(&keeper, "the process that asked for the run is gone").await;
    keeper.finished.notify_one();
}

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
