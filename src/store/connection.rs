//! The connections to a database: one that writes, some that read.

use std::{path::PathBuf, str::FromStr, time::Duration};

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction,
    TransactionTrait,
    sqlx::{
        Connection, PgConnection,
        sqlite::{SqliteJournalMode, SqliteSynchronous},
    },
};

use super::{
    StoreError,
    session::Session,
    statements::{WAITED_FOR, in_time, is_postgres},
};

/// Connections that read.
const READERS: u32 = 4;
/// After so many pages of 4 KiB, SQLite's write-ahead log is moved to the database and begun
/// again. What is written over and over stays in the caches of the processor: a longer log has
/// each page written to memory that has long left them.
const LOG_PAGES: &str = "500";
/// Rows that an embedded database reads ahead of who takes them: else it would wait, and be
/// woken again, some times in each query.
const ROWS: usize = 1_000;
/// The pages that a connection of an embedded database keeps, in KiB. A commit that has moved
/// some goes through all of them, and one that reads forgets them with each commit: what
/// is far from new comes from the page cache of the operating system.
const CACHE_SIZE: &str = "-8192";
/// Prepared statements of one connection: each in a few sizes.
const STATEMENTS: usize = 500;
/// How a session of PostgreSQL differs from its default. What a replica has locked that was
/// stopped, or cut off, is not locked for good. Every statement goes by an index from row
/// to row: a plan that was made while the tables were empty, and that reads whole tables
/// or joins them as a whole, would be kept as they grow.
const SESSION: [(&str, &str); 8] = [
    ("default_transaction_isolation", "read committed"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("lock_timeout", "10s"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    // Else it would compile statements for the cost of the plans that are switched off.
    ("jit", "off"),
];

/// Why a database cannot be opened, for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// Which database, and how to connect to it again.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl FromStr for Place {
    type Err = OpenError;

    fn from_str(url: &str) -> Result<Self, OpenError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let path = path.split_once('?').map_or(path, |(path, _)| path);
            if path.is_empty() || path == ":memory:" {
                return Err(OpenError(format!(
                    "{url}: tasks are kept in a file: give its path, as sqlite://taskwatch.db"
                )));
            }
            return Ok(Self::Sqlite(path.into()));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        Err(OpenError(format!(
            "{url}: not a database that is known: use sqlite://PATH or postgres://USER@HOST/NAME"
        )))
    }
}

impl std::fmt::Display for Place {
    /// Without a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(url) => f.write_str(url.rsplit_once('@').map_or(url, |(_, host)| host)),
        }
    }
}

impl Place {
    pub(super) async fn connect_writer(&self) -> Result<DatabaseConnection, StoreError> {
        let mut options = self.options(false);
        options.max_connections(1).min_connections(1);
        connected(options).await
    }

    /// Why PostgreSQL takes no connection, which a pool that waits for one does not tell.
    pub(super) async fn refuses(&self) -> Option<String> {
        let Self::Postgres(url) = self else { return None };
        let tried = in_time(async { Ok(PgConnection::connect(url).await.err()) }).await;
        Some(format!("{}: start it, or name another one", tried.ok()??))
    }

    pub(super) async fn connect_readers(&self) -> Result<DatabaseConnection, StoreError> {
        let mut options = self.options(true);
        options.max_connections(READERS).min_connections(1);
        connected(options).await
    }

    /// For what other replicas commit.
    pub(super) async fn connect_feed(&self) -> Result<DatabaseConnection, StoreError> {
        let mut options = self.options(true);
        options.max_connections(2).min_connections(0).connect_lazy(true);
        connected(options).await
    }

    fn options(&self, read_only: bool) -> ConnectOptions {
        let url = match self {
            // The path itself is given below: a URL would change some characters.
            Self::Sqlite(_) => "sqlite::memory:".to_owned(),
            Self::Postgres(url) => url.clone(),
        };
        let mut options = ConnectOptions::new(url);
        options
            .sqlx_logging(false)
            .connect_timeout(Duration::from_secs(10))
            .acquire_timeout(Duration::from_secs(10))
            .idle_timeout(Some(Duration::from_secs(600)))
            .max_lifetime(None::<Duration>);
        if let Self::Postgres(_) = self {
            // It also says how long is waited where connections are refused.
            options.connect_timeout(WAITED_FOR).acquire_timeout(WAITED_FOR);
            options.map_sqlx_postgres_opts(|postgres| {
                postgres.statement_cache_capacity(STATEMENTS).options(SESSION)
            });
        }
        if let Self::Sqlite(path) = self {
            let path = path.clone();
            options.test_before_acquire(false).map_sqlx_sqlite_opts(move |sqlite| {
                let sqlite = sqlite
                    .filename(&path)
                    .in_memory(false)
                    .shared_cache(false)
                    .create_if_missing(!read_only)
                    .busy_timeout(Duration::from_secs(10))
                    .statement_cache_capacity(STATEMENTS)
                    .row_buffer_size(ROWS)
                    .pragma("cache_size", CACHE_SIZE)
                    .pragma("temp_store", "MEMORY");
                if read_only {
                    return sqlite.pragma("query_only", "ON");
                }
                sqlite
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .pragma("wal_autocheckpoint", LOG_PAGES)
                    .pragma("journal_size_limit", "67108864")
            });
        }
        options
    }
}

/// Takes the one connection of a pool for as long as it is used. A pool tries each one that
/// comes back, which takes as long as a statement, before anyone has it again. sea-orm lends
/// one for a transaction only: this one is over, and ours begin and end by what they send.
pub(super) async fn hold(
    pool: &DatabaseConnection,
) -> Result<(DatabaseTransaction, Session), StoreError> {
    in_time(async {
        let held = pool.begin().await?;
        held.execute_unprepared("COMMIT").await?;
        let session =
            if is_postgres(pool) { Session::of(&held).await? } else { Session::default() };
        Ok((held, session))
    })
    .await
}

async fn connected(options: ConnectOptions) -> Result<DatabaseConnection, StoreError> {
    in_time(async { Ok(Database::connect(options).await?) }).await
}
