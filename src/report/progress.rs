//! Progress while operations run: a live line on a terminal, plain lines elsewhere, nothing when asked to be quiet.

use std::io::IsTerminal as _;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::seconds;
use crate::client::{Session, runtime};
use crate::keeper::journal::{Event, Record};
use crate::plain::printed;

/// Follows the journal of a run until its keeper ends. `several` runs go on at the same time: each line names its recipe.
pub fn follow(session: &Arc<Session>, quiet: bool, several: bool) {
    if quiet {
        return;
    }
    let session = session.clone();
    runtime().spawn(async move {
        let whose = if several { format!("{}: ", session.spec.plan.recipe) } else { String::new() };
        let mut display = Display::new(whose);
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

/// When the first of the runs began: they all count from there, so that their lines can be read together.
fn begin() -> Instant {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    *BEGIN
}

struct Display {
    start: Instant,
    /// The live line of the operation under way. It is drawn only while one is: every trial waits then, so libtest
    /// prints nothing that it could garble.
    live: Option<ProgressBar>,
    /// Of several runs, none is drawn: they would overwrite one another.
    terminal: bool,
    whose: String,
    /// What is going on, for the lines about what it waits for.
    doing: String,
    /// When a line was last printed of what an operation waits for; `None` between operations.
    told: Option<Instant>,
}

/// A log that nobody looks at needs no more than this.
const EVERY: Duration = Duration::from_secs(10);

impl Display {
    fn new(whose: String) -> Self {
        let terminal = std::io::stderr().is_terminal() && whose.is_empty();
        Display { start: begin(), live: None, terminal, whose, doing: String::new(), told: None }
    }

    fn show(&mut self, record: &Record) {
        match &record.event {
            Event::OperationStarted { tier, what } => self.begin(tier.name(), what),
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
            Event::Waiting { what } => self.waits(what),
            Event::Note { text } => self.line(&format!("note     {text}")),
            _ => {}
        }
    }

    /// Beside the live line; where there is none, now and then, so that a log shows what takes so long.
    fn waits(&mut self, what: &str) {
        if let Some(bar) = &self.live {
            bar.set_message(printed(&format!("{}, waiting for {what}", self.doing)));
        } else if let Some(told) = self.told
            && told.elapsed() >= EVERY
        {
            self.told = Some(Instant::now());
            self.line(&format!("{:<8} waiting for {what}", self.doing));
        }
    }

    fn begin(&mut self, tier: &str, what: &str) {
        let text = &format!("{tier:<8} {what}");
        if !self.terminal {
            (self.doing, self.told) = (tier.to_owned(), Some(Instant::now()));
            self.line(text);
            return;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(printed(text));
        self.doing = text.to_owned();
        bar.enable_steady_tick(Duration::from_millis(150));
        self.live = Some(bar);
    }

    fn end(&mut self) {
        self.told = None;
        if let Some(bar) = self.live.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        eprintln!("[{:>6.2}s] {}{}", self.start.elapsed().as_secs_f64(), self.whose, printed(text));
    }
}
