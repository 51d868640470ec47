//! Opening a database and closing it: what is done once.

use std::{
    collections::VecDeque,
    fs::File,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use sea_orm::{ConnectionTrait, DatabaseConnection};
use sea_orm_migration::MigratorTrait;
use tokio::time::sleep;

use super::{
    Reader, StoreError, Timestamp, Writer,
    clock::DatabaseClock,
    connection::{OpenError, Place, hold},
    error::said,
    known::Known,
    reads::Reads,
    schema::Migrator,
    statements::{TRIED_EVERY, WAITED_FOR, execute, first, is_postgres, query, within},
};

/// One replica at a time brings the schema up to date: an advisory lock.
const MIGRATION: i64 = 0x7461_736b_0001;
/// A write-ahead log longer than this is emptied, whoever reads.
const WAL_BYTES: u64 = 64 << 20;

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
