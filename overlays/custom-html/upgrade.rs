//! custom-html after its upgrade.

use harness::prelude::*;

const PAGE: &str = "/usr/share/nginx/html/hello.html";

/// A maintainer's page, put there before the upgrade.
#[harness::before]
async fn seed_page(app: &App) -> Result {
    let greeting = format!("<p>hello from {}</p>\n", app.domain());
    app.write("app", PAGE, &greeting).await?;
    app.remember("greeting", greeting).await
}

/// The page seeded before the upgrade is still served after it.
#[harness::test]
async fn seeded_page_survives(app: &App) -> Result {
    let page = app.get("/hello.html").await?;
    let greeting = app.recall("greeting").await?;
    ensure!(page.status == 200 && page.text() == greeting, "`/hello.html` must be {greeting:?}, but it is {page:?}");
    Ok(())
}
