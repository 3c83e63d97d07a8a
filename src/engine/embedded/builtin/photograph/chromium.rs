//! A headless Chromium at the other end of two pipes.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

/// It reads commands from descriptor 3 and answers on 4, which a shell can lay there and this program cannot.
const SHELL: &str = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/tmp/chromium.log";
/// What it complains about, for when it does not start.
const LOG: &str = "/tmp/chromium.log";
/// Nothing that a picture is made of is larger than this.
const LARGEST: usize = 64 << 20;

const FLAGS: [&str; 20] = [
    "--headless",
    "--remote-debugging-pipe",
    // The cage is the sandbox: in it Chromium's own can often not be had, and there is nothing else to protect.
    "--no-sandbox",
    "--user-data-dir=/tmp/profile",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    // Frames in processes of their own could neither be searched nor held back through the page.
    "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,OptimizationHints,MediaRouter,Translate,\
     IsolateSandboxedIframes,IsolateOrigins,site-per-process",
    "--disable-site-isolation-trials",
    "--disable-shared-workers",
    "--no-first-run",
    "--no-default-browser-check",
    "--mute-audio",
    "--hide-scrollbars",
    "--js-flags=--max-old-space-size=512",
];

pub struct Chromium {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// What came and is no whole message yet.
    pending: Vec<u8>,
    asked: u64,
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // What it started goes with the cage.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines that it wrote, ready to stand after a sentence.
fn last_words() -> String {
    let text = std::fs::read(LOG).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" | ");
    if last.is_empty() { last } else { format!(" ({last})") }
}

impl Chromium {
    /// Starts it, and waits until it answers.
    pub fn start(program: &str, flags: &[String], until: Instant) -> Result<Self> {
        let mut command = crate::process::command("/bin/sh");
        command.args(["-c", SHELL, program]).args(FLAGS).args(flags);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start `{program}`"))?;
        let input = child.stdin.take().context("no pipe to the browser")?;
        let output = child.stdout.take().context("no pipe from the browser")?;
        let mut browser = Chromium { child, input, output, pending: Vec::new(), asked: 0 };
        let version = browser.call(None, "Browser.getVersion", json!({}), until, &mut |_, _| Ok(()));
        version.with_context(|| format!("`{program}` did not start{}", last_words()))?;
        Ok(browser)
    }

    /// Asks, and gives what comes before the answer to `meanwhile`.
    pub fn call(
        &mut self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
        until: Instant,
        meanwhile: &mut dyn FnMut(&mut Self, Value) -> Result<()>,
    ) -> Result<Value> {
        self.send(session, method, parameters)?;
        let id = self.asked;
        loop {
            let message = self.receive(until)?;
            let mut message = message.with_context(|| format!("the browser did not answer to `{method}` in time"))?;
            if message["id"] == id {
                if let Some(error) = message.get("error") {
                    bail!("the browser refused `{method}`: {}", error["message"].as_str().unwrap_or_default());
                }
                return Ok(message["result"].take());
            }
            if message.get("method").is_some() {
                meanwhile(self, message)?;
            }
        }
    }

    /// Sends a command whose answer nobody waits for.
    pub fn send(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Result<()> {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).context("the browser is gone")
    }

    /// The next message; `None` when none comes in time.
    pub fn receive(&mut self, until: Instant) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == 0) {
                let message: Vec<u8> = self.pending.drain(..=end).collect();
                let message = serde_json::from_slice(&message[..end]).context("failed to understand the browser")?;
                return Ok(Some(message));
            }
            ensure!(self.pending.len() < LARGEST, "the browser says too much");
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut polled = [PollFd::from_borrowed_fd(self.output.as_fd(), PollFlags::IN)];
            match poll(&mut polled, Some(&left)) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error).context("failed to listen to the browser"),
            }
            let mut buffer = [0; 64 << 10];
            let read = self.output.read(&mut buffer).context("failed to listen to the browser")?;
            ensure!(read > 0, "the browser has ended");
            self.pending.extend_from_slice(&buffer[..read]);
        }
    }
}
