//! A snapshot holds what it should, and what comes back stays.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::canaries_are_in_place;
use crate::app::{App, skip};
use crate::poll::{Look, Poll};
use crate::recipe::fresh::Fresh;

/// What the base puts into a snapshot the head puts there, too, or `recipe.toml` says that it gives it up.
pub async fn backup_covers_what_it_did(app: &App) -> Result<()> {
    let upgrade = &app.settings().recipe_toml.upgrade;
    let mut lost = app.uncovered().await?;
    let volume = |what: &str| what.split('/').next().unwrap_or_default().to_owned();
    lost.retain(|it| !upgrade.unbacked.contains(&it.what) && !upgrade.unbacked.contains(&volume(&it.what)));
    lost.retain(|it| !upgrade.drops.contains(&volume(&it.what)));
    if let Some(first) = lost.first() {
        let sentences: Vec<&str> = lost.iter().map(|it| it.sentence.as_str()).collect();
        bail!(
            "{}: whoever restores has lost it. If that is meant, say so in recipe.toml: `[upgrade] unbacked = [\"{}\"]`",
            sentences.join("; "),
            first.what
        );
    }
    Ok(())
}

/// Nothing that anybody would miss lies in a volume without a name, and no database in a container's layer or in memory.
pub async fn data_is_in_volumes(app: &App) -> Result<()> {
    let scattered = app.scattered().await?;
    if !scattered.lost.is_empty() {
        bail!("{}", scattered.lost.join("; "));
    }
    if !scattered.unjudged.is_empty() {
        return skip(format!("unverified: {}", scattered.unjudged.join("; ")));
    }
    Ok(())
}

/// Whoever upgrades an installed app is told of every key that it has no value for.
pub async fn new_settings_are_told(app: &App) -> Result<()> {
    let fresh = app.evidence().await?.fresh;
    let untold: Vec<&Fresh> = fresh.iter().filter(|it| it.told.is_none()).collect();
    let sentence = |it: &&Fresh| it.needed.as_ref().map(|needed| format!("without `{}` {needed}", it.key));
    let needed: Vec<String> = untold.iter().filter_map(sentence).collect();
    if !needed.is_empty() {
        bail!(
            "an installed app has no value for what only the head's `.env.sample` has, and no new file below `release/` tells \
             its operator: {}",
            needed.join("; ")
        );
    }
    if !untold.is_empty() {
        let keys: Vec<&str> = untold.iter().map(|it| it.key.as_str()).collect();
        return skip(format!(
            "unverified: only the head's `.env.sample` has `{}`, and no new file below `release/` tells operators, so that \
             nobody knows how an installed app does without",
            keys.join("`, `")
        ));
    }
    Ok(())
}

/// Every dump of the snapshot was written by this backup, and is whole as far as anybody knows its format.
pub async fn dumps_are_new_and_whole(app: &App) -> Result<()> {
    let snapshot = app.evidence().await?.snapshot.context("no snapshot was made")?;
    if !snapshot.stale.is_empty() {
        bail!("{}", snapshot.stale.join("; "));
    }
    if !snapshot.unjudged.is_empty() {
        return skip(format!(
            "unverified: `{}` is of no known format, so that nobody can tell whether it holds anything: let an overlay load \
             it",
            snapshot.unjudged.join("`, `")
        ));
    }
    Ok(())
}

/// What was changed after the backup is as it was, and stays so: an app that writes its own memory over the restored
/// files has not got them.
pub async fn changes_since_the_backup_are_undone(app: &App) -> Result<()> {
    canaries_are_in_place(app, "the restore did not bring it back").await?;
    restore_is_a_while_ago(app).await?;
    canaries_are_in_place(app, CHANGED_AGAIN).await
}

/// What has become of what a restore brought back, when it is looked at for the second time.
pub(super) const CHANGED_AGAIN: &str = "a moment after the restore it was changed again";

/// Waits until the app has had the time to undo a restore, as one does that writes its own memory over it.
pub(super) async fn restore_is_a_while_ago(app: &App) -> Result<()> {
    let stable = app.settings().stable;
    let poll = Poll { interval: Duration::from_millis(50), deadline: stable + app.settings().call };
    let what = format!("the restore to be {} ago", humantime::format_duration(stable));
    poll.until(what, async || {
        let settled = app.evidence().await?.settled;
        Ok(if settled >= stable { Look::Ready(()) } else { Look::NotYet(format!("it ended {settled:?} ago")) })
    })
    .await
}
