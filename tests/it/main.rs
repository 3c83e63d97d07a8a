//! The harness's own integration tests: the real runner, real recipes, real containers.

#![allow(clippy::unwrap_used, reason = "a test that cannot get at what it looks at has failed")]

mod command_line;
mod concurrent;
mod docs;
mod green;
mod red;
mod runner;
mod teardown;
mod tidy;
