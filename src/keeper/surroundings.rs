//! What changed on the server beside a run's own things: said by name, as a warning. It may be anybody's doing, so that
//! no run fails for it.

use std::time::Duration;

use super::Keeper;
use super::journal::Event;
use super::rig::Rig;
use crate::engine::Surroundings;

/// A look takes a moment; a server that takes longer has other troubles, which others report.
const LOOK: Duration = Duration::from_secs(10);

/// So many changes are named.
const NAMED: usize = 10;

/// Remembers what there is before anything is deployed.
pub async fn remember(keeper: &Keeper) {
    let Ok(engine) = keeper.engine().await else { return };
    let seen = look(&engine).await;
    keeper.app.lock().await.surroundings = seen.ok().flatten();
}

/// Compares with what there is now that everything of the run is gone.
pub async fn compare(keeper: &Keeper, engine: &Rig) {
    let Some(before) = keeper.app.lock().await.surroundings.clone() else { return };
    let text = match look(engine).await {
        Ok(Some(now)) => warning(&before.changes(&now)),
        Ok(None) => None,
        Err(reason) => Some(format!("nobody knows what changed on the server beside this run: {reason}")),
    };
    if let Some(text) = text {
        // Only a warning: a journal that cannot be written is said by what has to be written.
        let _ = keeper.journal.write(Event::Note { text });
    }
}

async fn look(engine: &Rig) -> Result<Option<Surroundings>, String> {
    match tokio::time::timeout(LOOK, engine.surroundings()).await {
        Ok(seen) => seen.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("no answer within {}", humantime::format_duration(LOOK))),
    }
}

fn warning(changes: &[String]) -> Option<String> {
    let named = changes.get(..NAMED).unwrap_or(changes).join(", ");
    let more = changes.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let is_any = !changes.is_empty();
    is_any.then(|| format!("WARNING: during this run the server changed beside it: {named}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_named_up_to_a_number_and_none_is_no_warning() {
        assert_eq!(warning(&[]), None);
        let changes: Vec<String> = (1..=12).map(|number| format!("volume `v{number}` is new")).collect();
        let start = "WARNING: during this run the server changed beside it: volume `v1` is new";
        assert_eq!(warning(&changes[..1]).unwrap(), start);
        let text = warning(&changes).unwrap();
        assert!(text.starts_with(start) && text.ends_with("volume `v10` is new, and 2 more"), "{text}");
    }
}
