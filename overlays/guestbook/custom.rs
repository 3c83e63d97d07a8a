//! The guestbook at the end of its run.

use harness::prelude::*;

/// What a visitor writes is shown, and cannot bring markup of its own.
#[harness::test]
async fn entries_are_shown_without_their_markup(app: &App) -> Result {
    let page = app.post("/entries", &[("name", "<b>Mallory"), ("message", "hi")]).await?;
    ensure!(page.status == 201, "the entry must be accepted with 201, but the answer is {page:?}");
    let page = app.get("/").await?;
    let shown = page.text().contains("<li>&lt;b&gt;Mallory: hi</li>");
    ensure!(shown, "the page must show the entry with its markup escaped, but it is {page:?}");
    Ok(())
}

/// The database asks for its password: being on its network is not enough.
#[harness::test]
async fn the_database_lets_nobody_in_without_the_password(app: &App) -> Result {
    let psql = ["psql", "--no-password", "--host=db", "--username=guestbook", "--command=SELECT 1", "guestbook"];
    let refused = app.exec("db", psql).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.code == 2 && said.contains("no password supplied"),
        "the database must ask for a password, but psql says {refused:?}"
    );
    Ok(())
}
