//! What a statement can fail of, sorted by what can be done about it.

use std::time::Duration;

use sea_orm::{
    DbErr, RuntimeErr,
    sqlx::{self, postgres::PgDatabaseError, sqlite::SqliteError},
};

use crate::domain::{Error, Timestamp};

/// What a statement failed of, by what can be done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room on the disk.
    #[error("the disk that holds the database is full")]
    Full(#[source] DbErr),
    /// The file or its folder cannot be written.
    #[error("the database is read-only")]
    ReadOnly(#[source] DbErr),
    /// The file is damaged.
    #[error("the database is damaged")]
    Corrupt(#[source] DbErr),
    /// Not reachable, or it did not answer in time.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// The answer to a commit was lost: it stands, or it does not.
    #[error("the answer to a commit was lost")]
    Unknown {
        /// When it was to tell the other replicas of it.
        told: Timestamp,
    },
    /// Lost a race (deadlock, serialization failure, an id that somebody else
    /// inserted in the meantime): load and apply again.
    #[error("another writer was faster")]
    Conflict,
    /// A row that makes no sense.
    #[error("the row of {id} makes no sense: {what}")]
    Nonsense {
        /// Which one.
        id: String,
        /// What about it.
        what: String,
    },
    /// Anything else: a fault of ours.
    #[error("unexpected database error")]
    Other(#[source] DbErr),
}

/// What callers are told to wait when the database is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl StoreError {
    /// What the caller is told.
    pub fn public(&self) -> Error {
        let unavailable = |message: &str| Error::Unavailable {
            message: message.to_owned(),
            retry_after: Some(RETRY_AFTER),
        };
        match self {
            Self::Full(_) => Error::ResourceExhausted {
                message: "the disk that holds the database is full: free some room on it".into(),
                retry_after: Some(RETRY_AFTER),
            },
            Self::ReadOnly(_) => unavailable("the database is read-only: make it writable"),
            Self::Corrupt(_) => unavailable("the database is damaged: restore it from a backup"),
            Self::Unavailable(_) => unavailable("the database cannot be reached: try again"),
            Self::Unknown { .. } => unavailable(
                "the database did not answer whether it was done: look, or try again with the \
                 same request_id or token",
            ),
            Self::Conflict => unavailable("too many writers at once: try again"),
            Self::Nonsense { .. } | Self::Other(_) => Error::Internal,
        }
    }

    /// Whether it would hit every command alike (full, gone, read-only, damaged),
    /// so that applying them one by one is of no use.
    pub const fn hits_all(&self) -> bool {
        match self {
            Self::Full(_)
            | Self::ReadOnly(_)
            | Self::Corrupt(_)
            | Self::Unavailable(_)
            | Self::Unknown { .. } => true,
            Self::Conflict | Self::Nonsense { .. } | Self::Other(_) => false,
        }
    }
}

/// What the database itself said.
#[expect(clippy::wildcard_enum_match_arm, reason = "not our own enum, and open")]
pub(super) fn said(error: &DbErr) -> Option<&dyn sqlx::error::DatabaseError> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(inner))
        | DbErr::Exec(RuntimeErr::SqlxError(inner))
        | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner.as_database_error(),
        _ => None,
    }
}

impl From<DbErr> for StoreError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "not our own enum, and open")]
    fn from(error: DbErr) -> Self {
        let inner = match &error {
            DbErr::Conn(RuntimeErr::SqlxError(inner))
            | DbErr::Exec(RuntimeErr::SqlxError(inner))
            | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner.clone(),
            DbErr::ConnectionAcquire(_) => return Self::Unavailable(error.to_string()),
            _ => return Self::Other(error),
        };
        match &*inner {
            sqlx::Error::Database(database) => {
                if let Some(sqlite) = database.try_downcast_ref::<SqliteError>() {
                    let code = sqlx::error::DatabaseError::code(sqlite);
                    from_sqlite(code.as_deref().unwrap_or_default(), error)
                } else if let Some(postgres) = database.try_downcast_ref::<PgDatabaseError>() {
                    from_postgres(postgres.code(), error)
                } else {
                    Self::Other(error)
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(inner.to_string()),
            _ => Self::Other(error),
        }
    }
}

/// By SQLite's extended result codes (sqlite.org/rescode.html).
fn from_sqlite(code: &str, error: DbErr) -> StoreError {
    let code = code.parse::<i32>().unwrap_or_default();
    // A primary key or a unique index that somebody else's row is in.
    if [1_555, 2_067].contains(&code) {
        return StoreError::Conflict;
    }
    match code & 0xff {
        13 => StoreError::Full(error),
        8 => StoreError::ReadOnly(error),
        11 | 26 => StoreError::Corrupt(error),
        // BUSY, LOCKED, IOERR, CANTOPEN.
        5 | 6 | 10 | 14 => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Other(error),
    }
}

/// By SQLSTATE (PostgreSQL's appendix A).
fn from_postgres(code: &str, error: DbErr) -> StoreError {
    match code {
        "53100" => StoreError::Full(error),
        "25006" => StoreError::ReadOnly(error),
        "XX001" | "XX002" => StoreError::Corrupt(error),
        // Serialization failure, deadlock, a row inserted by somebody else.
        "40001" | "40P01" | "23505" => StoreError::Conflict,
        // Connection, resources, intervention, the system below; a lock not to be had, or a
        // transaction that was left alone for too long.
        _ if ["08", "53", "57", "58", "55P03", "25P03"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            StoreError::Unavailable(error.to_string())
        }
        _ => StoreError::Other(error),
    }
}
