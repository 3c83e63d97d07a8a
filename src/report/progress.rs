//! Progress while operations run: a live line on a terminal, plain lines elsewhere, nothing when asked to be quiet.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::seconds;
use crate::client::{Session, runtime};
use crate::keeper::journal::{Event, Record};
use crate::plain::plain;

/// Follows the journal of a run until its keeper ends.
pub fn follow(session: &Arc<Session>, quiet: bool) {
    if quiet {
        return;
    }
    let session = session.clone();
    runtime().spawn(async move {
        let mut display = Display::new();
        // What happened before this process went on with the app is told by the header.
        let mut past = session.is_resumed();
        // A keeper that dies ends the display; the trials say why.
        let show = |record: Record| match &record.event {
            Event::Resumed(invocation) if invocation.client == session.spec.client => past = false,
            _ if past => {}
            _ => display.show(&record),
        };
        let _ = session.watch(show).await;
    });
}

struct Display {
    start: Instant,
    /// The live line of the operation under way. It is drawn only while one is: every trial waits then, so libtest
    /// prints nothing that it could garble.
    live: Option<ProgressBar>,
    terminal: bool,
}

impl Display {
    fn new() -> Self {
        Display { start: Instant::now(), live: None, terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, record: &Record) {
        match &record.event {
            Event::OperationStarted { tier, what } => self.begin(&format!("{:<8} {what}", tier.name())),
            Event::OperationFinished { tier, millis, failure } => {
                self.end();
                let took = seconds(Duration::from_millis(*millis));
                let how = if failure.is_some() { "FAILED after" } else { "done in" };
                self.line(&format!("{:<8} {how} {took}", tier.name()));
            }
            Event::TeardownStarted { .. } => self.end(),
            Event::TeardownFinished { millis, leftovers } => {
                let how = if leftovers.is_empty() {
                    "nothing is left".to_owned()
                } else {
                    format!("LEFT: {}", leftovers.join(", "))
                };
                self.line(&format!("teardown {how} ({})", seconds(Duration::from_millis(*millis))));
            }
            Event::Note { text } => self.line(&format!("note     {text}")),
            _ => {}
        }
    }

    fn begin(&mut self, text: &str) {
        if !self.terminal {
            self.line(text);
            return;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(plain(text));
        bar.enable_steady_tick(Duration::from_millis(150));
        self.live = Some(bar);
    }

    fn end(&mut self) {
        if let Some(bar) = self.live.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        eprintln!("[{:>6.2}s] {}", self.start.elapsed().as_secs_f64(), plain(text));
    }
}
