//! Taskwatch.
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod domain;
pub mod hub;
pub mod proto;
pub mod runner;
pub mod server;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod watch;
