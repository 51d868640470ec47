//! What the server needs of whatever runs tasks inside it, and no more: it starts
//! once tasks are there, and gives them back when the server drains.

use std::{pin::Pin, time::Duration};

use crate::{config::Config, domain::Name, tasks::Tasks};

/// Can run tasks inside the server.
pub trait Runs: Send {
    /// The kinds that it serves, so that they are accepted.
    fn kinds(&self) -> Vec<Name>;

    /// Begins to lease and run.
    fn start(self: Box<Self>, tasks: Tasks, config: &Config) -> Box<dyn Running>;
}

/// Runs tasks inside the server.
pub trait Running: Send + Sync {
    /// Asks no more for tasks, lets what runs come to a stop and gives it back, within
    /// `grace`.
    fn stop(&self, grace: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Runs nothing: all work is done by remote workers and owners.
#[derive(Clone, Copy, Debug)]
pub struct NoRunner;

impl Runs for NoRunner {
    fn kinds(&self) -> Vec<Name> {
        Vec::new()
    }

    fn start(self: Box<Self>, _: Tasks, _: &Config) -> Box<dyn Running> {
        self
    }
}

impl Running for NoRunner {
    fn stop(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}
