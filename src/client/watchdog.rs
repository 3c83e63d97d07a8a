//! Watches over the keeper: one that lives and answers nothing, because it is stopped or deadlocked, is killed. Its run
//! then ends as that of any keeper that died.
//!
//! Silence is counted in pings and not in time. A runner that is paused together with its keeper, or a machine that
//! sleeps, sends none, so that nothing is held against a keeper that could not have answered.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

use crate::keeper;
use crate::keeper::protocol::Call;
use crate::keeper::silence::Silence;
use crate::keeper::socket;
use crate::keeper::spec::Client;

/// Only builds with debug assertions know it: `100:5` for five pings of 100 ms each.
const VARIABLE: &str = "RECIPE_HARNESS_TEST_PING";

/// A keeper's process, and whether it has ended.
pub struct Watched {
    /// Stands for this very process, whoever has its number later; `None` when it had ended before it was looked at.
    process: Option<Arc<OwnedFd>>,
    /// Turns true when the process has ended.
    pub ended: watch::Receiver<bool>,
}

/// How long a silence may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Patience {
    /// Between two pings, and for the answer to one.
    interval: Duration,
    /// So many in a row without an answer are a silence.
    pings: u32,
}

impl Watched {
    /// The keeper that this process has started, and whose exit code nobody takes before `end` is asked for it.
    pub fn child(run_dir: &Path, pid: Pid, silence: &Silence, end: impl FnOnce() + Send + 'static) -> Self {
        let process = pidfd_open(pid, PidfdFlags::empty()).ok().map(Arc::new);
        Watched::until(run_dir, process, silence, end)
    }

    /// The keeper that another process has started; one that has ended already is no process.
    pub fn stranger(run_dir: &Path, keeper: Option<Client>, silence: &Silence) -> Self {
        let open = |keeper: &Client| pidfd_open(Pid::from_raw(keeper.pid)?, PidfdFlags::empty()).ok();
        // Only with the descriptor in hand is it certain which process it stands for.
        let found = keeper.and_then(|keeper| Some((keeper, open(&keeper)?))).filter(|(keeper, _)| keeper.is_alive());
        match found {
            Some((keeper, process)) => {
                Watched::until(run_dir, Some(Arc::new(process)), silence, move || keeper::watch::wait(keeper))
            }
            None => Watched { process: None, ended: watch::channel(true).1 },
        }
    }

    fn until(
        run_dir: &Path,
        process: Option<Arc<OwnedFd>>,
        silence: &Silence,
        end: impl FnOnce() + Send + 'static,
    ) -> Self {
        let (tell, ended) = watch::channel(false);
        // Its being dropped tells the dog.
        let (alive, dead) = channel::<()>();
        std::thread::spawn(move || {
            end();
            let _ = tell.send(true);
            drop(alive);
        });
        if let Some(process) = process.clone() {
            let (run_dir, silence) = (run_dir.to_owned(), silence.clone());
            std::thread::spawn(move || patience().watch(&run_dir, &process, &silence, &dead));
        }
        Watched { process, ended }
    }

    /// Whether the process has ended, at the latest within this time.
    pub async fn has_ended(&self, within: Duration) -> bool {
        tokio::time::timeout(within, self.ended.clone().wait_for(|ended| *ended)).await.is_ok()
    }

    /// Ends a keeper that is not good for anything any more.
    pub fn kill(&self) {
        if let Some(process) = &self.process {
            // One that has ended in the meantime is what was wanted.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

impl Patience {
    /// Pings until the keeper ends, or kills it.
    fn watch(self, run_dir: &Path, process: &OwnedFd, silence: &Silence, dead: &Receiver<()>) {
        let mut line = Line { run_dir: run_dir.to_owned(), stream: None };
        let (mut unanswered, mut pause) = (0, self.interval);
        // The first ping comes after a pause: the keeper's socket has to be there.
        while let Err(RecvTimeoutError::Timeout) = dead.recv_timeout(pause) {
            let answer = line.ping(self.interval);
            (unanswered, pause) = match answer {
                Heard::Answer => (0, self.interval),
                Heard::Nothing => (unanswered + 1, Duration::ZERO),
                Heard::Unknown => (unanswered, self.interval),
            };
            if unanswered >= self.pings {
                silence.because(self.verdict());
                let _ = pidfd_send_signal(process, Signal::KILL);
                return;
            }
        }
    }

    fn verdict(self) -> String {
        let (pings, each) = (self.pings, humantime::format_duration(self.interval));
        format!("its process lived and answered none of {pings} pings, each within {each}, so it was killed")
    }
}

/// The connection of the pings.
struct Line {
    run_dir: PathBuf,
    stream: Option<UnixStream>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Answer,
    /// The keeper had its time and said nothing.
    Nothing,
    /// The connection broke, or this process was paused: nobody knows.
    Unknown,
}

impl Line {
    fn ping(&mut self, patience: Duration) -> Heard {
        match self.exchange(patience) {
            Ok(0) => {
                self.stream = None;
                Heard::Unknown
            }
            // All answers that have piled up are read at once: an old one must not stand for a new one.
            Ok(_) => Heard::Answer,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Heard::Nothing,
            // A process that was stopped and goes on finds its call interrupted.
            Err(error) if error.kind() == ErrorKind::Interrupted => Heard::Unknown,
            Err(_) => {
                self.stream = None;
                Heard::Unknown
            }
        }
    }

    fn exchange(&mut self, patience: Duration) -> std::io::Result<usize> {
        if self.stream.is_none() {
            self.stream = Some(socket::connect_blocking(&self.run_dir)?);
        }
        let Some(stream) = &mut self.stream else { return Ok(0) };
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut ping = serde_json::to_vec(&Call::Ping)?;
        ping.push(b'\n');
        stream.write_all(&ping)?;
        stream.read(&mut [0; 4096])
    }
}

fn patience() -> Patience {
    let usual = Patience { interval: Duration::from_secs(3), pings: 10 };
    let asked = std::env::var(VARIABLE).ok().filter(|_| cfg!(debug_assertions));
    asked.and_then(|text| parse(&text)).unwrap_or(usual)
}

fn parse(text: &str) -> Option<Patience> {
    let (millis, pings) = text.split_once(':')?;
    Some(Patience { interval: Duration::from_millis(millis.parse().ok()?), pings: pings.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const SHORT: Patience = Patience { interval: Duration::from_millis(20), pings: 3 };

    /// Watches over a process behind a socket that this keeper serves, until either ends.
    fn watched(keeper: impl FnOnce(UnixStream) + Send + 'static) -> (Silence, bool) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("keeper.sock")).unwrap();
        let mut child = crate::process::command("sleep").arg("600").spawn().unwrap();
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let (alive, dead) = channel::<()>();
        std::thread::spawn(move || {
            keeper(listener.accept().unwrap().0);
            drop(alive);
        });
        let silence = Silence::default();
        SHORT.watch(dir.path(), &process, &silence, &dead);
        let was_killed = silence.reason().is_some();
        if !was_killed {
            child.kill().unwrap();
        }
        child.wait().unwrap();
        (silence, was_killed)
    }

    /// Answers every ping it is sent, so many times.
    fn answer(stream: &mut UnixStream, times: usize) {
        for _ in 0..times {
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(b"\"done\"\n").unwrap();
        }
    }

    #[test]
    fn a_keeper_that_answers_nothing_is_killed_and_the_verdict_says_so() {
        let (silence, was_killed) = watched(|stream| {
            // Held until the other end is gone.
            let mut stream = stream;
            while stream.read(&mut [0; 4096]).unwrap_or(0) > 0 {}
        });
        assert!(was_killed);
        let said = "its process lived and answered none of 3 pings, each within 20ms, so it was killed";
        assert_eq!(silence.reason(), Some(said));
    }

    #[test]
    fn a_keeper_that_answers_lives_however_long_it_takes_between_two_silences() {
        let (_, was_killed) = watched(|mut stream| {
            for _ in 0..4 {
                // One ping goes unanswered, the next is answered.
                assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                answer(&mut stream, 1);
            }
        });
        assert!(!was_killed);
    }

    #[test]
    fn answers_that_have_piled_up_stand_for_one_ping() {
        let (_, was_killed) = watched(|mut stream| {
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(&b"\"done\"\n".repeat(50)).unwrap();
            while stream.read(&mut [0; 4096]).unwrap_or(0) > 0 {}
        });
        assert!(was_killed, "fifty answers at once are no fifty signs of life");
    }

    #[test]
    fn only_what_is_meant_is_understood() {
        assert_eq!(parse("100:5"), Some(Patience { interval: Duration::from_millis(100), pings: 5 }));
        assert_eq!(parse("100"), None);
        assert_eq!(parse("soon:5"), None);
    }

    #[test]
    fn a_process_with_the_keepers_number_that_started_later_is_not_touched() {
        let mut other = crate::process::command("sleep").arg("600").spawn().unwrap();
        let seen = Client::look_up(other.id() as i32).unwrap();
        let keeper = Client { started: seen.started.wrapping_sub(1), ..seen };
        let watched = Watched::stranger(Path::new("/nowhere"), Some(keeper), &Silence::default());
        assert!(*watched.ended.borrow(), "the keeper has ended, whoever has its number now");
        watched.kill();
        assert!(other.try_wait().unwrap().is_none(), "the other process must go on");
        let itself = Watched::stranger(Path::new("/nowhere"), Some(seen), &Silence::default());
        itself.kill();
        assert_eq!(crate::process::exit_code(other.wait().unwrap()), 128 + 9);
    }
}
