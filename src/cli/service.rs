//! The service inside this process: bound, and stopped by signals.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Fault;
use crate::{config::Config, runner::Handlers, server::Server};

/// A server with the kinds that are built in and configured.
pub(super) async fn bind(config: Config) -> Result<Server, Fault> {
    let handlers = Handlers::builtin(&config).map_err(Fault::usage)?;
    Server::bind(config, handlers).await.map_err(Fault::failed)
}

/// SIGINT and SIGTERM, from when it was made.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> Result<Self, Fault> {
        let listen = |kind| {
            signal(kind).map_err(|e| Fault::failed(format!("cannot listen to signals: {e}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The next one.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
