//! What every recipe must show at the end of its run.

use harness::generic;
use harness::prelude::*;

/// No generated secret stands in a service's log, over the whole run.
#[harness::test]
async fn no_secret_in_the_logs(app: &App) -> Result {
    generic::no_secret_in_the_logs(app).await
}

/// Nothing restarted or fell ill since the last operation, `deadlines.settle` ago at least. It is the run's last look.
#[harness::test]
async fn services_are_stable(app: &App) -> Result {
    generic::services_stay_stable(app).await
}
