//! custom-html after its install.

use harness::prelude::*;

/// The volume is filled from the image at the first start, so a page is there without anybody's doing.
#[harness::test]
async fn a_first_page_is_served(app: &App) -> Result {
    let page = app.get("/").await?;
    ensure!(page.status == 200 && page.text().contains("<html"), "`/` must be a page, but it is {page:?}");
    Ok(())
}

/// A file that is not there is not found: the server looks at the path and does not answer everything.
#[harness::test]
async fn a_missing_page_is_not_found(app: &App) -> Result {
    let page = app.get("/no-such-page.html").await?;
    ensure!(page.status == 404, "`/no-such-page.html` must be 404, but it is {page:?}");
    Ok(())
}
