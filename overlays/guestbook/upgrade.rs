//! The guestbook after its upgrade, which adds a column to the table of entries.

use harness::prelude::*;

/// A visitor writes something before the upgrade.
#[harness::before]
async fn a_visitor_writes(app: &App) -> Result {
    let page = app.post("/entries", &[("name", "Ada"), ("message", "before the upgrade")]).await?;
    ensure!(page.status == 201, "the entry must be accepted with 201, but the answer is {page:?}");
    Ok(())
}

/// The entry is still there, and has the new column.
#[harness::test]
async fn the_old_entry_was_migrated(app: &App) -> Result {
    let page = app.get("/entries").await?;
    let entry = r#"{"id": 1, "name": "Ada", "message": "before the upgrade", "mood": "content"}"#;
    ensure!(page.text().contains(entry), "`/entries` must hold {entry}, but it is {page:?}");
    Ok(())
}

/// The migration ran once: the second container found it done.
#[harness::test]
async fn every_migration_ran_once(app: &App) -> Result {
    let count =
        app.sh("db", "psql -U guestbook -At -c 'SELECT count(*), count(DISTINCT done) FROM migrations'").await?;
    let text = String::from_utf8_lossy(&count.stdout).trim().to_owned();
    ensure!(count.code == 0 && text == "2|2", "two migrations must be recorded, each once, but psql says {count:?}");
    Ok(())
}
