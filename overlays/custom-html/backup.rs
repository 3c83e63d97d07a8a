//! custom-html before and after its backup.

use harness::prelude::*;

const PAGE: &str = "/usr/share/nginx/html/keepsake.html";

/// A page that the snapshot has to hold.
#[harness::before]
async fn write_keepsake(app: &App) -> Result {
    let keepsake = format!("<p>kept by {}</p>\n", app.domain());
    app.write("app", PAGE, &keepsake).await?;
    app.remember("keepsake", keepsake).await
}

/// The snapshot holds the page, in full length.
#[harness::test]
async fn snapshot_holds_the_keepsake(app: &App) -> Result {
    let snapshot = app.evidence().await?.snapshot.context("no snapshot was made")?;
    let files = snapshot.volumes.get("content").context("the snapshot lacks the volume `content`")?;
    let file =
        files.iter().find(|file| file.path == "keepsake.html").context("`keepsake.html` is not in the snapshot")?;
    let length = app.recall("keepsake").await?.len() as u64;
    ensure!(file.size == length, "`keepsake.html` must have {length} bytes in the snapshot, but it has {}", file.size);
    Ok(())
}
