//! Taskwatch: a gRPC service for long-running work. A caller creates a task and
//! has its name at once; the work goes on in the background; anyone may read it,
//! change its state, or watch its progress live until it has ended.
//!
//! A tour, from the outside to the inside:
//!
//! - [`server`] wires everything, binds the port, and drains: [`server::Server`] is
//!   what a program embeds. [`config`] says what can be set.
//! - [`rpc`] turns requests into commands and states into messages; [`runner`] is the
//!   worker inside the server: the demo, configured programs, and your own
//!   [`runner::Handler`]s. Neither knows the other.
//! - [`tasks`] is the only writer: every change is a command that its committer
//!   applies, together with all others that wait, in one transaction.
//! - [`store`] keeps the rows, [`hub`] spreads the news, [`watch`] is one reader of both.
//! - [`domain`] is what a task is and may do: one pure state table.
//! - [`client`] is for programs that call a server; [`cli`] is built on it.

pub mod cli;
pub mod client;
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
pub mod telemetry;
pub mod watch;
