//! The whole service, wired: for the binary, for programs that embed it, and for tests.
//!
//! [`Server::bind`] does all that can fail before anything is spawned;
//! [`Server::run`] serves until it is told to stop, then drains within the
//! configured grace, whoever is late.

mod accept;
mod connection;
mod drain;
mod places;
mod preface;
mod services;
mod turn;

use std::{collections::BTreeMap, io, net::SocketAddr};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    domain::{EXTERNAL, Error, KindDefaults, Name},
    hub::Hub,
    runner::{Handlers, Runner},
    store::{self, OpenError, Reader, Writer},
    tasks::{KindSettings, Settings, Source, Tasks},
};
use accept::Listener;
use drain::Drain;
use services::Health;

/// Why a server cannot start, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Where it should have listened.
        address: SocketAddr,
        /// Why it cannot.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The tasks cannot be taken up again.
    #[error("cannot take up the tasks of {database}: {source}")]
    Tasks {
        /// Which database, its password masked.
        database: String,
        /// Why it cannot.
        source: Error,
    },
    /// The schema that reflection shows is damaged: a fault of the build.
    #[error("the compiled protos cannot be served by reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
}

/// A server that has its port and its database, and serves nobody yet.
pub struct Server {
    config: Config,
    listener: Listener,
    writer: Writer,
    reader: Reader,
    handlers: Handlers,
}

impl Server {
    /// Takes the port and opens the database. Connections wait from then on until
    /// [`run`](Self::run) serves them.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from starting, in words for the operator.
    pub async fn bind(config: Config, handlers: Handlers) -> Result<Self, StartError> {
        let address = config.listen;
        let cannot_listen = |source| StartError::Listen { address, source };
        // The port is the cheaper one to find taken; clients knock only once the
        // database is open.
        let socket = accept::reserve(address).map_err(cannot_listen)?;
        let (writer, reader) = store::open(&config.database).await?;
        let listener = Listener::new(socket).map_err(cannot_listen)?;
        Ok(Self { config, listener, writer, reader, handlers })
    }

    /// Where it listens; the port that it was given where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` comes, then drains.
    ///
    /// # Errors
    ///
    /// Where the tasks that are there cannot be taken up again.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self { config, listener, writer, reader, handlers } = self;
        let (address, database) = (listener.local_addr(), shown_database(&config.database));
        let health = Health::default();
        let settings = settings(&config, &handlers);
        let tasks = Tasks::start(writer, reader, Hub::default(), settings)
            .await
            .map_err(|source| StartError::Tasks { database: database.clone(), source })?;
        let services = services::all(&tasks, &health).map_err(StartError::Reflection)?;

        let (closing, cut) = (CancellationToken::new(), CancellationToken::new());
        let connections = TaskTracker::new();
        let accepting = connections.spawn(accept::run(
            listener,
            connection::Settings::new(services, connections.clone(), closing.clone(), cut.clone()),
        ));
        let runner = Runner::start(tasks.clone(), handlers, config.runner.clone());
        health.serving().await;
        tracing::info!("{}", greeting(address, &database));

        tokio::select! {
            () = shutdown => {}
            _ = accepting => tracing::error!("the listener stopped: draining"),
        }
        let grace = config.grace;
        Drain { grace, health, tasks, runner, connections, closing, cut }.run().await;
        Ok(())
    }
}

/// What stands in the log at start: where, what, and how to try it.
fn greeting(address: SocketAddr, database: &str) -> String {
    format!(
        "listening on {address}, tasks in {database}; try: grpcurl -plaintext -d \
         '{{\"task\":{{\"kind\":\"demo\"}}}}' {address} taskwatch.v1.TaskService/CreateTask"
    )
}

fn settings(config: &Config, handlers: &Handlers) -> Settings {
    let by_default = |kind: &Name| KindSettings {
        defaults: config.kinds.get(kind).map_or(config.retry, |kind| kind.defaults),
        limits: config.kinds.get(kind).map(|kind| kind.limits).unwrap_or_default(),
        source: None,
    };
    let mut kinds: BTreeMap<Name, KindSettings> =
        config.kinds.keys().map(|kind| (kind.clone(), by_default(kind))).collect();
    let known = handlers.kinds().cloned().chain(Name::new(EXTERNAL));
    for kind in known {
        let program = config.kinds.get(&kind).is_some_and(|kind| kind.program.is_some());
        let source = if program { Source::Program } else { Source::BuiltIn };
        kinds.entry(kind.clone()).or_insert_with(|| by_default(&kind)).source = Some(source);
    }
    let queues = config.queues.iter().map(|(queue, limits)| (queue.clone(), *limits)).collect();
    let defaults: KindDefaults = config.retry;
    Settings {
        defaults,
        kinds,
        queues,
        accept_unknown: config.accept_unknown,
        retention: config.retention,
    }
}

/// The URL of a database as it may stand in a log: without its password.
fn shown_database(url: &str) -> String {
    let (rest, query) = url.split_once('?').map_or((url, None), |(rest, q)| (rest, Some(q)));
    let mut shown = match rest.split_once("://") {
        // What is behind the last @ of the authority is the host: a password may hold one.
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            match authority.rsplit_once('@') {
                Some((user, host)) if user.contains(':') => {
                    let user = user.split(':').next().unwrap_or_default();
                    format!("{scheme}://{user}:***@{host}{path}")
                }
                Some(_) | None => rest_of(scheme, authority, path),
            }
        }
        None => rest.to_owned(),
    };
    for (i, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if i == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((key, _)) if key.contains("password") => shown.push_str(&format!("{key}=***")),
            Some(_) | None => shown.push_str(pair),
        }
    }
    shown
}

fn rest_of(scheme: &str, authority: &str, path: &str) -> String {
    format!("{scheme}://{authority}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_out_of_the_log() {
        let cases = [
            ("sqlite://taskwatch.db", "sqlite://taskwatch.db"),
            ("sqlite:///var/lib/a@b:c.db", "sqlite:///var/lib/a@b:c.db"),
            ("postgres://db/tasks", "postgres://db/tasks"),
            ("postgres://me@db:5432/tasks", "postgres://me@db:5432/tasks"),
            ("postgres://me:secret@db:5432/tasks", "postgres://me:***@db:5432/tasks"),
            ("postgres://me:s@cr:et@db/tasks", "postgres://me:***@db/tasks"),
            (
                "postgres://db/t?user=me&password=secret&sslmode=require",
                "postgres://db/t?user=me&password=***&sslmode=require",
            ),
        ];
        for (url, shown) in cases {
            assert_eq!(shown_database(url), shown);
        }
    }

    #[test]
    fn the_greeting_can_be_pasted() {
        let address = "127.0.0.1:50051".parse().expect("an address");
        assert_eq!(
            greeting(address, "sqlite://taskwatch.db"),
            "listening on 127.0.0.1:50051, tasks in sqlite://taskwatch.db; try: grpcurl \
             -plaintext -d '{\"task\":{\"kind\":\"demo\"}}' 127.0.0.1:50051 \
             taskwatch.v1.TaskService/CreateTask"
        );
    }
}
