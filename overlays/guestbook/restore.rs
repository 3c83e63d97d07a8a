//! The guestbook after its restore.

use harness::prelude::*;

/// Somebody deletes every entry after the backup was made.
#[harness::before]
async fn every_entry_is_deleted(app: &App) -> Result {
    let deleted = app.sh("db", "psql -U guestbook -c 'DELETE FROM entries'").await?;
    ensure!(deleted.code == 0, "the entries must be deleted, but psql says {deleted:?}");
    let page = app.get("/entries").await?;
    ensure!(page.text() == "[]", "the entries must be gone before the restore, but they are {page:?}");
    Ok(())
}

/// The restore brings back the entries of the snapshot, in the database and not only in its volume.
#[harness::test]
async fn the_entries_are_back(app: &App) -> Result {
    let (page, message) = (app.get("/entries").await?, app.recall("message").await?);
    ensure!(page.text().contains(&message), "`/entries` must hold {message:?} again, but it is {page:?}");
    ensure!(
        page.text().contains("before the upgrade"),
        "`/entries` must hold the older entry, too, but it is {page:?}"
    );
    Ok(())
}

/// The database goes on where it was: a new entry gets a number of its own.
#[harness::test]
async fn a_new_entry_can_be_written(app: &App) -> Result {
    let page = app.post("/entries", &[("name", "Hedy"), ("message", "after the restore")]).await?;
    ensure!(page.status == 201, "the entry must be accepted with 201, but the answer is {page:?}");
    Ok(())
}
