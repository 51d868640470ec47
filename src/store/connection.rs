//! Opening a database, and the connections to it: one that writes, some that read.

use std::{
    collections::VecDeque,
    fs::File,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction,
    TransactionTrait,
    sqlx::{
        Connection, PgConnection,
        sqlite::{SqliteJournalMode, SqliteSynchronous},
    },
};
use sea_orm_migration::MigratorTrait;
use tokio::time::sleep;

use super::{
    Feed, Reader, StoreError, Timestamp, Writer,
    clock::DatabaseClock,
    error::said,
    known::Known,
    reads::Reads,
    schema::Migrator,
    session::Session,
    statements::{TRIED_EVERY, WAITED_FOR, execute, first, in_time, is_postgres, query, within},
};

/// One replica at a time brings the schema up to date: an advisory lock.
const MIGRATION: i64 = 0x7461_736b_0001;
/// Connections that read.
const READERS: u32 = 4;
/// After so many pages of 4 KiB, SQLite's write-ahead log is moved to the database and begun
/// again. What is written over and over stays in the caches of the processor: a longer log has
/// each page written to memory that has long left them.
const LOG_PAGES: &str = "500";
/// A write-ahead log longer than this is emptied, whoever reads.
const WAL_BYTES: u64 = 64 << 20;

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

/// What keeps an embedded database to this process: a lock on a file beside it,
/// held as long as the file is open.
#[derive(Debug)]
pub(super) struct Embedded {
    _lock: File,
    checkpoints: tokio::task::JoinHandle<()>,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.checkpoints.abort();
    }
}

/// Opens the database and brings its schema up to date.
///
/// `url` is `sqlite://PATH` (created where it is missing; refused where another
/// process has it open) or `postgres://…`.
///
/// # Errors
///
/// With a message for the operator that names the file or server and the remedy.
pub async fn open(url: &str) -> Result<(Writer, Reader), OpenError> {
    let place = Place::from_str(url)?;
    let what = place.to_string();
    let failed = |error: StoreError| OpenError(explain(&what, &error));
    let lock = match &place {
        Place::Sqlite(path) => Some(lock(path)?),
        Place::Postgres(_) => None,
    };
    let writer = match place.connect_writer().await {
        Err(StoreError::Unavailable(waited)) => {
            let why = place.refuses().await.unwrap_or(waited);
            return Err(failed(StoreError::Unavailable(why)));
        }
        writer => writer.map_err(failed)?,
    };
    let postgres = is_postgres(&writer);
    // As long as it takes another replica.
    while postgres && !locked(&writer, "try_advisory_lock").await.map_err(failed)? {
        sleep(TRIED_EVERY).await;
    }
    Migrator::up(&writer, None).await.map_err(|error| {
        let text = error.to_string();
        if text.contains("missing") {
            OpenError(format!(
                "{what} was written by a newer version of taskwatch ({text}): use that version"
            ))
        } else {
            failed(error.into())
        }
    })?;
    if postgres && !locked(&writer, "advisory_unlock").await.map_err(failed)? {
        tracing::warn!("the schema was not locked to the end");
    }
    let reader = place.connect_readers().await.map_err(failed)?;
    let next_row = match &place {
        Place::Sqlite(_) => {
            let sql = "SELECT coalesce(max(row), 0) + 1 FROM tasks";
            let found = query(&writer, sql, []).await.map_err(failed)?;
            first::<i64>(&found).map_err(failed)?.unwrap_or(1)
        }
        Place::Postgres(_) => 0,
    };
    let (db, session) = hold(&writer).await.map_err(failed)?;
    let embedded = match (&place, lock) {
        (Place::Sqlite(path), Some(lock)) => {
            let checkpoints = tokio::spawn(checkpoints(path.clone(), reader.clone()));
            Some(Arc::new(Embedded { _lock: lock, checkpoints }))
        }
        _ => None,
    };
    // Where nobody else can write, what is known stays true.
    let known = embedded.is_some().then(Arc::<Known>::default);
    let reads = Arc::new(Reads::of(&reader, known.clone()));
    let reader = Reader { db: reader, embedded, reads };
    let keep = reader.clone();
    let replica = rand::random();
    let writer = Writer {
        pool: writer,
        db,
        session,
        place,
        next_row,
        numbers: VecDeque::new(),
        chained: false,
        clock: DatabaseClock::default(),
        broken: false,
        replica,
        told: Timestamp::from_micros(0),
        known,
        knows_due: true,
        _keep: keep,
    };
    Ok((writer, reader))
}

/// Takes the lock on the schema or lets it go; whether that was to be had.
async fn locked(writer: &DatabaseConnection, how: &str) -> Result<bool, StoreError> {
    let sql = format!("SELECT pg_{how}({MIGRATION})");
    Ok(first(&query(writer, &sql, []).await?)?.unwrap_or(false))
}

impl Writer {
    /// Writes no more. All of an embedded database is in its one file then.
    ///
    /// # Errors
    ///
    /// Where the disk does not take it: it is beside that file still, and lost nowhere.
    pub async fn close(self) -> Result<(), StoreError> {
        if self.known.is_some() {
            query(&self.db, "PRAGMA wal_checkpoint(TRUNCATE)", []).await?;
        }
        if self.known.is_none() && !self.broken {
            // sqlx rolls back what it takes to be open, see `hold`: PostgreSQL would warn of that.
            let begun =
                within(WAITED_FOR, async { Ok(self.db.execute_unprepared("BEGIN").await?) });
            if let Err(error) = begun.await {
                tracing::debug!(%error, "the database has gone");
            }
        }
        Ok(())
    }

    /// What other replicas commit; none where there can be no others.
    ///
    /// # Errors
    ///
    /// Where the database cannot be reached.
    pub async fn feed(&self) -> Result<Option<Feed>, StoreError> {
        let Place::Postgres(_) = &self.place else { return Ok(None) };
        let mut options = self.place.options(true);
        options.max_connections(2).min_connections(0).connect_lazy(true);
        let place = self.place.clone();
        Ok(Some(Feed::new(connected(options).await?, place, self.replica)))
    }
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
    async fn refuses(&self) -> Option<String> {
        let Self::Postgres(url) = self else { return None };
        let tried = in_time(async { Ok(PgConnection::connect(url).await.err()) }).await;
        Some(format!("{}: start it, or name another one", tried.ok()??))
    }

    async fn connect_readers(&self) -> Result<DatabaseConnection, StoreError> {
        let mut options = self.options(true);
        options.max_connections(READERS).min_connections(1);
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

/// Takes the lock that keeps other processes out.
fn lock(path: &Path) -> Result<File, OpenError> {
    if path.is_dir() {
        return Err(OpenError(format!(
            "{} is a folder: give the path of a file in it",
            path.display()
        )));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(OpenError(format!(
            "{}: there is no folder {}: create it first",
            path.display(),
            folder.display()
        )));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let file = File::options().create(true).truncate(false).write(true).open(&beside).map_err(
        |error| {
            OpenError(format!(
                "{} cannot be opened ({error}): the folder of the database must be writable",
                beside.display()
            ))
        },
    )?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError(format!(
            "{} is open in another process: stop that one, or name another file with --database",
            path.display()
        ))),
        Err(std::fs::TryLockError::Error(error)) => Err(OpenError(format!(
            "{} cannot be locked ({error}): the file system must support locks",
            beside.display()
        ))),
    }
}

fn explain(what: &str, error: &StoreError) -> String {
    match error {
        StoreError::Full(_) => format!("{what}: the disk is full: free some room on it"),
        StoreError::ReadOnly(_) => format!("{what} cannot be written: change its permissions"),
        StoreError::Corrupt(_) => {
            format!("{what} is damaged, or no database: restore it from a backup")
        }
        StoreError::Unavailable(why) => format!("{what} cannot be opened: {why}"),
        StoreError::Unknown { .. } => format!("{what}: {error}"),
        StoreError::Conflict => format!("{what}: another process is preparing it: try again"),
        StoreError::Nonsense { .. } => format!("{what}: {error}"),
        StoreError::Other(inner) => {
            let why = said(inner).map_or_else(|| inner.to_string(), |said| said.message().into());
            format!("{what} cannot be opened: {why}")
        }
    }
}

/// Empties the write-ahead log where long reads have let it grow.
async fn checkpoints(path: PathBuf, reader: DatabaseConnection) {
    let mut log = path.clone().into_os_string();
    log.push("-wal");
    loop {
        sleep(Duration::from_secs(5)).await;
        let long = tokio::fs::metadata(&log).await.is_ok_and(|file| file.len() > WAL_BYTES);
        if long && let Err(error) = execute(&reader, "PRAGMA wal_checkpoint(RESTART)", []).await {
            tracing::warn!(%error, "the write-ahead log could not be emptied");
        }
    }
}
