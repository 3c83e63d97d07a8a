//! The app's databases have what they had, asked through their own clients.

use anyhow::{Result, ensure};

use super::backup::{CHANGED_AGAIN, restore_is_a_while_ago};
use crate::app::{App, skip};
use crate::keeper::protocol::{Databases, Row};

/// Every database still has the row that was written into it before the upgrade. A recipe without any has nothing to keep
/// here, as one without secrets has none to print.
pub async fn databases_are_kept(app: &App) -> Result<()> {
    let seen = app.databases().await?;
    none_is_lost(&seen, "the upgrade lost it")?;
    judged(&seen)
}

/// Every database that the labels put into the snapshot has again what it had then: two times, because an app may write
/// its own memory over it. A dump that nobody loads helps nobody.
pub async fn databases_are_restored(app: &App) -> Result<()> {
    let seen = app.databases().await?;
    let by = "the restore did not bring it back into the running database: a dump has to be loaded by a \
              `backupbot.restore.post-hook`, and a server does not read its files again by itself";
    none_is_lost(&seen, by)?;
    if !seen.rows.is_empty() {
        restore_is_a_while_ago(app).await?;
        none_is_lost(&app.databases().await?, CHANGED_AGAIN)?;
    } else if !seen.outside.is_empty() {
        return skip(format!("unverified: the labels put {} into no snapshot", seen.outside.join(", and ")));
    }
    judged(&seen)
}

fn none_is_lost(seen: &Databases, by: &str) -> Result<()> {
    let lost: Vec<String> = seen.rows.iter().filter_map(|row| lost(row, by)).collect();
    ensure!(lost.is_empty(), "{}", lost.join("; "));
    Ok(())
}

/// What is the matter with a row; `None` if it says what it should.
fn lost(row: &Row, by: &str) -> Option<String> {
    let seen = match &row.found {
        Ok(word) if *word == row.expected => return None,
        Ok(word) => format!("it says {word:?}"),
        Err(why) => why.clone(),
    };
    Some(format!("{} must hold the row that was put there, saying {:?}, but {by}: {seen}", row.what, row.expected))
}

fn judged(seen: &Databases) -> Result<()> {
    match seen.closed.is_empty() {
        true => Ok(()),
        false => skip(format!("unverified: {}", seen.closed.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_gone_or_says_something_else_is_lost() {
        let row = |found| Row { what: "the Redis database of service `kv`".into(), expected: "a".into(), found };
        assert_eq!(lost(&row(Ok("a".into())), "x"), None);
        let said =
            "the Redis database of service `kv` must hold the row that was put there, saying \"a\", but it is lost: ";
        assert_eq!(lost(&row(Ok("b".into())), "it is lost").unwrap(), format!("{said}it says \"b\""));
        assert_eq!(lost(&row(Err("no key".into())), "it is lost").unwrap(), format!("{said}no key"));
    }
}
