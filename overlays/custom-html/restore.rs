//! custom-html after its restore.

use harness::prelude::*;

const PAGE: &str = "/usr/share/nginx/html/keepsake.html";

/// Somebody ruins the page after the backup was made.
#[harness::before]
async fn ruin_keepsake(app: &App) -> Result {
    app.write("app", PAGE, "ruined\n").await?;
    let page = app.get("/keepsake.html").await?;
    ensure!(page.text() == "ruined\n", "the page must be ruined before the restore, but it is {page:?}");
    Ok(())
}

/// The restore brings back the page as the snapshot has it.
#[harness::test]
async fn ruined_page_is_back(app: &App) -> Result {
    let page = app.get("/keepsake.html").await?;
    let keepsake = app.recall("keepsake").await?;
    ensure!(page.status == 200 && page.text() == keepsake, "`/keepsake.html` must be {keepsake:?}, but it is {page:?}");
    Ok(())
}
