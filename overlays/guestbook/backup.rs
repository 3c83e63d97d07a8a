//! The guestbook before and after its backup.

use harness::prelude::*;

/// An entry that the snapshot has to hold.
#[harness::before]
async fn a_visitor_writes(app: &App) -> Result {
    let message = format!("kept by {}", app.domain());
    let page = app.post("/entries", &[("name", "Grace"), ("message", &message)]).await?;
    ensure!(page.status == 201, "the entry must be accepted with 201, but the answer is {page:?}");
    app.remember("message", message).await
}

/// The snapshot holds the dump, and the dump holds the entry.
#[harness::test]
async fn the_dump_holds_the_entry(app: &App) -> Result {
    let snapshot = app.evidence().await?.snapshot.context("no snapshot was made")?;
    let files = snapshot.volumes.get("data").context("the snapshot lacks the volume `data`")?;
    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    ensure!(names == ["backup.sql"], "the snapshot must hold `backup.sql` and nothing else, but it holds {names:?}");
    let dump = String::from_utf8_lossy(&app.read("db", "/var/lib/postgresql/data/backup.sql").await?).into_owned();
    let message = app.recall("message").await?;
    ensure!(dump.contains(&message), "the dump must hold {message:?}, but its {} bytes do not", dump.len());
    ensure!(dump.len() as u64 == files[0].size, "the snapshot must hold the dump in full length");
    Ok(())
}
