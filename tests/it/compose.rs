//! The compose loader and `docker stack config` agree, over hand-written files and over generated ones.

mod corpus;
mod difference;
mod docker;
mod generated;
