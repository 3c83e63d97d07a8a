//! The harness's own integration tests: the real runner, real recipes, real containers.

#![allow(clippy::unwrap_used, reason = "a test that cannot get at what it looks at has failed")]

mod announce;
mod asked;
mod begun;
mod bounds;
mod calls;
mod chosen;
mod ci;
mod clock;
mod command_line;
mod compose;
mod concurrent;
mod crash;
mod crashes;
mod data;
mod databases;
mod declarations;
mod docs;
mod drills;
mod editors;
mod engine;
mod exit_codes;
mod features;
mod formats;
mod full;
mod green;
mod hung;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod kept;
mod loops;
mod misplaced;
mod outside;
mod pages;
mod program;
mod real;
mod red;
mod repo_local;
mod reported;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod runner;
mod running;
mod sabotage;
#[allow(dead_code, reason = "each of the test programs uses its part")]
mod sample;
mod schemas;
mod secrets;
mod sources;
mod teardown;
mod tidy;
mod truth;
mod typed;
mod warm;
mod watched;
