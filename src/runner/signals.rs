//! Ctrl-C, SIGTERM, a closed terminal, and the death of cargo: each tears down before the process ends.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, getppid, pidfd_open};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::exit::Code;
use crate::client::{Session, runtime};
use crate::plain::printed;
use crate::spelling::harness;

/// Watches until the process ends. The first signal tears down in order and then ends the process; a second one ends
/// it at once, and the keepers go on tearing down by themselves.
pub fn watch(sessions: Vec<Arc<Session>>) {
    let (tell, mut told) = mpsc::channel::<(&'static str, i32)>(4);
    let kinds = [
        (SignalKind::interrupt(), "interrupted", 2),
        (SignalKind::terminate(), "told to stop", 15),
        (SignalKind::hangup(), "the terminal is gone", 1),
    ];
    let _in_runtime = runtime().enter();
    for (kind, why, number) in kinds {
        let Ok(mut stream) = signal(kind) else { continue };
        let tell = tell.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                let _ = tell.send((why, 128 + number)).await;
            }
        });
    }
    watch_cargo(tell);
    tokio::spawn(async move {
        let Some(first) = told.recv().await else { return };
        INTERRUPTED.store(true, Ordering::SeqCst);
        let (why, code) = reason(first, &mut told).await;
        eprintln!("\n{why}: tearing down (once more to leave it to the keeper in the background)");
        tokio::select! {
            clean = tear_down(sessions, why) => end(if clean { code } else { Code::Trouble.number().into() }),
            () = again(&mut told, why) => end(code),
        }
    });
}

const CARGO_IS_GONE: &str = "cargo is gone";

/// How long a signal may come after the end of cargo and still be what ended it.
const SAME_KEY: Duration = Duration::from_millis(250);

/// Ctrl-C reaches cargo and this process, and cargo may be gone before the signal is seen here: then the signal is why.
async fn reason(first: (&'static str, i32), told: &mut mpsc::Receiver<(&'static str, i32)>) -> (&'static str, i32) {
    if first.0 != CARGO_IS_GONE {
        return first;
    }
    tokio::time::timeout(SAME_KEY, told.recv()).await.ok().flatten().unwrap_or(first)
}

/// Waits for a second signal. The end of cargo is none, and no signal is a second one to it: Ctrl-C reaches both, in any order,
/// and whoever pressed it once wants to be told that everything is gone.
async fn again(told: &mut mpsc::Receiver<(&'static str, i32)>, first: &str) {
    let mut awaited = if first == CARGO_IS_GONE { 2 } else { 1 };
    loop {
        match told.recv().await {
            Some((CARGO_IS_GONE, _)) => {}
            Some(_) if awaited == 1 => return,
            Some(_) => awaited -= 1,
            None => std::future::pending().await,
        }
    }
}

/// Whether a signal has come: what fails from then on fails because of it.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Set once a signal has come: from then on the signal's side ends the process, with the signal's exit code.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Returns if no signal has come. Otherwise the trials have failed because of it, which is no verdict: this waits for
/// the process to be ended.
pub fn yield_to_interruption() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// All at the same time: whoever waits at a terminal waits for the slowest alone.
async fn tear_down(sessions: Vec<Arc<Session>>, why: &str) -> bool {
    let begun = sessions.iter().filter(|session| session.has_begun());
    let clean: Vec<bool> = join_all(begun.map(|session| tear_down_one(session, why))).await;
    if clean.is_empty() {
        eprintln!("nothing was deployed, so nothing is left");
    }
    clean.into_iter().all(|clean| clean)
}

async fn tear_down_one(session: &Session, why: &str) -> bool {
    let recipe = &session.spec.plan.recipe;
    match session.tear_down(why).await {
        // It was left up on purpose the moment before, and this process has let go of it.
        Ok(report) if report.kept => {
            let remove = harness(&format!("down {}", session.spec.run_id));
            eprintln!("{recipe} stays up: to remove it, {remove}");
            true
        }
        Ok(report) if report.leftovers.is_empty() => {
            let took = humantime::format_duration(crate::poll::round(report.took));
            eprintln!("{recipe} is torn down, nothing is left ({took})");
            true
        }
        Ok(report) => {
            eprintln!("error: {recipe} left something behind: {}", printed(&report.leftovers.join(", ")));
            false
        }
        Err(error) => {
            eprintln!("error: teardown of {recipe} failed: {}", printed(&format!("{error:#}")));
            false
        }
    }
}

/// cargo does not pass a SIGTERM on to the test it runs: its end is watched for instead. Only cargo's: a shell that
/// started this process in the background may well end before it.
fn watch_cargo(tell: mpsc::Sender<(&'static str, i32)>) {
    let Some(parent) = getppid() else { return };
    let Ok(pidfd) = pidfd_open(parent, PidfdFlags::empty()) else { return };
    let name = std::fs::read_to_string(format!("/proc/{}/comm", parent.as_raw_nonzero())).unwrap_or_default();
    if !name.starts_with("cargo") {
        return;
    }
    std::thread::spawn(move || {
        while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(&pidfd.as_fd(), PollFlags::IN)], None) {}
        let _ = tell.blocking_send((CARGO_IS_GONE, 128 + 15));
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "the main thread is inside libtest-mimic, and teardown is done or not ours"
)]
fn end(code: i32) -> ! {
    std::process::exit(code)
}
