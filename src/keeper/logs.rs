//! The services' logs, as a run keeps them: masked, and no more than the end of each.

use anyhow::{Context as _, Result};

use super::Keeper;
use super::rig::Rig;
use crate::engine::LogLine;
use crate::mask::Masks;
use crate::plain::plain;

/// Of each service this many lines are kept: what a failed run is understood by stands at the end.
const LINES: usize = 10_000;
/// And of those no more than this many bytes.
const BYTES: usize = 4 << 20;

/// Writes every service's log into the run's directory.
pub async fn save(keeper: &Keeper, engine: &Rig) -> Result<()> {
    let secrets = keeper.app.lock().await.secrets.clone();
    let masks = Masks::new(secrets.values().map(|value| value.expose()))?;
    let dir = keeper.dir.join("logs");
    crate::config::state::create_private(&dir)?;
    for service in engine.services().await? {
        // One more than is kept shows whether there are more.
        let lines = engine.logs(&service.name, Some(LINES + 1)).await?;
        let path = dir.join(format!("{}.log", service.name));
        // What a reader's terminal would act on stays text.
        let text = plain(&masks.mask(&end(&lines, LINES, BYTES)));
        std::fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))?;
    }
    Ok(())
}

/// The last lines, and in front of them that there were more.
fn end(lines: &[LogLine], most: usize, bytes: usize) -> String {
    let mut room = bytes;
    let fits = |line: &&LogLine| {
        let length = line.task.len() + line.stream.len() + line.text.len() + 3;
        let fits = length <= room;
        room = room.saturating_sub(length);
        fits
    };
    let kept = lines.iter().rev().take(most).take_while(fits).count();
    let mut text = String::new();
    if kept < lines.len() {
        text = format!("(the log is longer: these are its last {kept} lines)\n");
    }
    for line in &lines[lines.len() - kept..] {
        text.push_str(&format!("{} {} {}\n", line.task, line.stream, line.text));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<LogLine> {
        let line = |number| LogLine { task: "app.1".into(), stream: "stdout".into(), text: format!("line {number}") };
        (0..count).map(line).collect()
    }

    #[test]
    fn a_short_log_is_kept_whole() {
        assert_eq!(end(&lines(2), 2, 100), "app.1 stdout line 0\napp.1 stdout line 1\n");
        assert_eq!(end(&[], 2, 100), "");
    }

    #[test]
    fn of_a_long_log_the_end_is_kept_and_it_says_so() {
        let said = "(the log is longer: these are its last 2 lines)\napp.1 stdout line 7\napp.1 stdout line 8\n";
        assert_eq!(end(&lines(9), 2, 1000), said, "by lines");
        assert_eq!(end(&lines(9), 100, 45), said, "by bytes");
        assert_eq!(end(&lines(1), 1, 5), "(the log is longer: these are its last 0 lines)\n");
    }
}
