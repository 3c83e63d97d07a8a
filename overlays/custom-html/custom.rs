//! custom-html at the end of its run.

use harness::prelude::*;

/// Everything a visitor asked for is in the log, where an operator looks for it.
#[harness::test]
async fn requests_are_logged(app: &App) -> Result {
    app.get("/?looked-for-in-the-log").await?;
    // The answer may arrive before the line that tells of it.
    app.eventually("the request to be in the log of service `app`", async || {
        let lines = app.logs("app", None).await?;
        if lines.iter().any(|line| line.text.contains("looked-for-in-the-log")) {
            return Ok(Look::Ready(()));
        }
        Ok(Look::NotYet(format!("the last of its {} lines is {:?}", lines.len(), lines.last().map(|line| &line.text))))
    })
    .await
}
