//! The guestbook after its install.

use harness::prelude::*;

/// It starts empty, with a schema that it made itself.
#[harness::test]
async fn there_are_no_entries_yet(app: &App) -> Result {
    let page = app.get("/entries").await?;
    ensure!(page.status == 200 && page.text() == "[]", "`/entries` must be an empty list, but it is {page:?}");
    Ok(())
}

/// An entry without a name is refused: what is accepted later on was looked at.
#[harness::test]
async fn an_entry_without_a_name_is_refused(app: &App) -> Result {
    let page = app.post("/entries", &[("message", "hello")]).await?;
    ensure!(page.status == 400, "an entry without a name must be refused with 400, but the answer is {page:?}");
    Ok(())
}
