//! A test runner that proves a Co-op Cloud recipe works before people's data depends on it.
//!
//! One run deploys an app once, performs one operation per tier, and judges the state after each with assertions:
//!
//! ```ignore
//! //! overlays/custom-html/upgrade.rs
//! use harness::prelude::*;
//!
//! /// The page seeded before the upgrade is still served after it.
//! #[harness::test]
//! async fn seeded_page_survives(app: &App) -> Result {
//!     let page = app.get("/hello.html").await?;
//!     ensure!(page.text() == app.recall("greeting").await?, "served {page:?}");
//!     Ok(())
//! }
//! ```

pub mod announce;
pub mod app;
pub mod assertion;
pub mod caller;
pub mod client;
pub mod command;
pub mod config;
pub mod doctor;
pub mod engine;
pub mod fault;
pub mod generic;
pub mod http;
pub mod init;
pub mod keeper;
pub mod mask;
mod memory;
pub mod plain;
pub mod plan;
pub mod poll;
pub mod prepare;
pub mod private;
pub mod process;
pub mod program;
pub mod recipe;
pub mod regular;
pub mod report;
pub mod runner;
pub mod sabotage;
pub mod script;
mod spelling;
pub mod store;
pub mod tier;

pub use app::skip;
pub use harness_macros::{before, test};
pub use inventory;
pub use runner::main;

/// Everything an assertion needs.
pub mod prelude {
    pub use crate::app::{App, Page, skip};
    pub use crate::engine::{ExecOutput, Health, ServiceState, TaskPhase, UpdateState};
    pub use crate::poll::Look;
    pub use anyhow::{Context as _, bail, ensure};

    /// The result of an assertion: an error is a failure, with its text as the message.
    pub type Result<T = ()> = anyhow::Result<T>;
}
