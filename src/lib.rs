//! Taskwatch.
pub mod clock;
pub mod config;
pub mod domain;
pub mod hub;
pub mod proto;
pub mod rpc;
pub mod runner;
pub mod server;
pub mod store;
pub mod tasks;
pub mod watch;
