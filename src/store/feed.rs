//! What the other replicas on the same PostgreSQL have committed: heard of by
//! notification, and read again where one was lost.

use std::{sync::Arc, time::Duration};

use sea_orm::{DatabaseConnection, sqlx::postgres::PgListener};

use super::{
    Notice, Reader, StoreError, Stored, TaskId, Timestamp, Writer,
    batches::{CHANNEL, KEPT, decoded},
    connection::Place,
    reads::Reads,
    rows::{COLUMNS, stored},
    statements::{execute, first, in_time, lists, now, query},
};

/// A notification that says nothing but that the way is open.
const BEAT: &str = "beat";

/// Reads what others committed, on connections of its own.
#[derive(Debug)]
pub struct Feed {
    reader: Reader,
    place: Place,
    replica: i64,
}

/// Up to where the batches have been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When, by the database's clock.
    pub time: Timestamp,
    /// Every transaction before this one was over.
    pub xid: i64,
}

/// What a listener hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Another replica has committed the batch of this number.
    Batch(i64),
    /// One of its own, or a beat.
    Nothing,
}

/// A connection that waits for notifications.
#[derive(Debug)]
pub struct Ear {
    listener: PgListener,
    replica: i64,
}

impl Writer {
    /// What other replicas commit; none where there can be no others.
    ///
    /// # Errors
    ///
    /// Where the database cannot be reached.
    pub async fn feed(&self) -> Result<Option<Feed>, StoreError> {
        let Place::Postgres(_) = &self.place else { return Ok(None) };
        let db = self.place.connect_feed().await?;
        let reads = Arc::new(Reads::of(&db, None));
        let reader = Reader { db, embedded: None, reads };
        Ok(Some(Feed { reader, place: self.place.clone(), replica: self.replica }))
    }
}

impl Feed {
    fn db(&self) -> &DatabaseConnection {
        &self.reader.db
    }

    /// Reads tasks and lists.
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Where the batches are now.
    pub async fn mark(&self) -> Result<Mark, StoreError> {
        let sql = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
        let xid = first(&query(self.db(), sql, []).await?)?.unwrap_or_default();
        Ok(Mark { time: now(self.db()).await?, xid })
    }

    /// The numbers of all batches of other replicas that may have become visible since
    /// `mark`. Numbers are taken before the commit, so a later one may be seen first:
    /// what counts is which transactions were over.
    pub async fn since(&self, mark: Mark) -> Result<Vec<i64>, StoreError> {
        let sql = "SELECT number FROM batches WHERE xid >= $1 AND replica <> $2";
        let rows = query(self.db(), sql, [mark.xid.into(), self.replica.into()]).await?;
        let mut numbers = Vec::with_capacity(rows.len());
        for row in rows {
            numbers.push(row.try_get_by_index(0)?);
        }
        Ok(numbers)
    }

    /// What these batches say, in their order; without those that are trimmed.
    pub async fn notices(&self, numbers: &[i64]) -> Result<Vec<Notice>, StoreError> {
        let mut notices = Vec::with_capacity(numbers.len());
        let sql = "SELECT number, notice FROM batches WHERE number = ANY($1) ORDER BY number";
        for row in query(self.db(), sql, [numbers.to_vec().into()]).await? {
            let bytes: Vec<u8> = row.try_get_by_index(1)?;
            notices.push(decoded(row.try_get_by_index(0)?, &bytes)?);
        }
        Ok(notices)
    }

    /// Those of these tasks that exist, in one statement.
    pub async fn tasks(&self, ids: &[TaskId]) -> Result<Vec<Stored>, StoreError> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let sql = format!("SELECT {COLUMNS} {} WHERE t.id = ANY($1)", super::rows::from(true));
        query(self.db(), &sql, [ids.into()]).await?.iter().map(stored).collect()
    }

    /// The last states of deleted tasks, as far as they are kept.
    pub async fn departed(&self, rows: &[i64]) -> Result<Vec<Stored>, StoreError> {
        let mut all = Vec::new();
        for (list, values) in lists(true, rows.iter().copied()) {
            let sql = format!(
                "SELECT {COLUMNS} FROM departed d \
                 CROSS JOIN LATERAL jsonb_populate_record(NULL::tasks, d.task) t \
                 CROSS JOIN LATERAL (SELECT d.result) s \
                 LEFT JOIN running r ON r.row = t.row WHERE d.row {list}"
            );
            for row in query(self.db(), &sql, values).await? {
                all.push(stored(&row)?);
            }
        }
        Ok(all)
    }

    /// Sends a notification that every listener hears: who hears none has a dead
    /// connection, which gives no error by itself.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let sql = format!("SELECT pg_notify('{CHANNEL}', '{BEAT}')");
        query(self.db(), &sql, []).await.map(|_| ())
    }

    /// Removes what was kept for other replicas for long enough.
    pub async fn trim(&self) -> Result<(), StoreError> {
        let since = now(self.db()).await?.minus(KEPT).micros();
        for (table, key) in [("batches", "number"), ("departed", "row")] {
            let sql = format!(
                "DELETE FROM {table} WHERE {key} IN \
                 (SELECT {key} FROM {table} WHERE time <= $1 FOR UPDATE SKIP LOCKED)"
            );
            execute(self.db(), &sql, [since.into()]).await?;
        }
        Ok(())
    }

    /// Begins to listen, on a new connection.
    pub async fn listen(&self) -> Result<Ear, StoreError> {
        let Place::Postgres(url) = &self.place else {
            return Err(StoreError::Unavailable("nobody else writes here".into()));
        };
        let failed = |error: sea_orm::sqlx::Error| StoreError::Unavailable(error.to_string());
        let listener = in_time(async {
            let mut listener = PgListener::connect(url).await.map_err(failed)?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await.map_err(failed)?;
            Ok(listener)
        });
        Ok(Ear { listener: listener.await?, replica: self.replica })
    }
}

impl Ear {
    /// What comes next; an error where nothing has come for so long, or the connection is
    /// lost.
    pub async fn hear(&mut self, patience: Duration) -> Result<Heard, StoreError> {
        let heard = tokio::time::timeout(patience, self.listener.try_recv()).await;
        let notification = match heard {
            Err(_) => return Err(StoreError::Unavailable("its listener is deaf".into())),
            Ok(Err(error)) => return Err(StoreError::Unavailable(error.to_string())),
            Ok(Ok(None)) => return Err(StoreError::Unavailable("its listener was cut".into())),
            Ok(Ok(Some(notification))) => notification,
        };
        let mut words = notification.payload().split(' ').map(str::parse);
        Ok(match (words.next(), words.next()) {
            (Some(Ok(number)), Some(Ok(replica))) if replica != self.replica => {
                Heard::Batch(number)
            }
            _ => Heard::Nothing,
        })
    }
}
