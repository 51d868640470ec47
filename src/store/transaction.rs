//! One transaction of the one writer: begin, load, commit. If the connection
//! fails, it is thrown away, and the next transaction gets a new one.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};

use super::{
    Loaded, Name, Object, RememberedRequest, StoreError, Stored, Timestamp, Transaction, Wanted,
    Writer,
    connection::Place,
    rows::{COLUMNS, from, stored},
    statements::{CLOCK, filled, first, in_time, is_postgres, placeholders, query},
};
use crate::clock;

/// How long the callers wait for what became of their COMMIT, and how often it is
/// asked for.
const ASKED_FOR: Duration = Duration::from_secs(5);
const ASKED_EVERY: Duration = Duration::from_millis(250);

impl Writer {
    /// Begins a transaction that will write. Rolled back where it is dropped.
    ///
    /// # Errors
    ///
    /// Where the database cannot be reached.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        if self.broken {
            // Its state is unknown: let it go, and do not wait for it.
            let old = std::mem::replace(&mut self.db, self.place.connect_writer().await?);
            drop(tokio::spawn(async move {
                if let Err(error) = old.close().await {
                    tracing::debug!(%error, "a broken connection was not closed");
                }
            }));
            self.broken = false;
        }
        let mode = match self.place {
            Place::Sqlite(_) => Some(SqliteTransactionMode::Immediate),
            Place::Postgres(_) => None,
        };
        let options = TransactionOptions { sqlite_transaction_mode: mode, ..Default::default() };
        let begun = in_time(async { Ok(self.db.begin_with_options(options).await?) }).await;
        let db = self.noted(begun)?;
        Ok(Transaction { db: Some(db), xid: None, writer: self })
    }

    /// Notes that a fault has left the connection in an unknown state.
    fn noted<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(result, Err(StoreError::Unavailable(_))) {
            self.broken = matches!(self.place, Place::Postgres(_));
        }
        result
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // Left in the middle of a call that timed out: nobody knows where it is.
        if self.db.is_some() && matches!(self.writer.place, Place::Postgres(_)) {
            self.writer.broken = true;
        }
    }
}

impl Transaction<'_> {
    pub(super) fn db(&self) -> Result<&DatabaseTransaction, StoreError> {
        self.db.as_ref().ok_or_else(|| StoreError::Unavailable("the transaction is over".into()))
    }

    /// Loads (and on PostgreSQL locks, in one order) what is named, and the time.
    pub async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, StoreError> {
        let db = self.db()?;
        let postgres = is_postgres(db);
        let mut now = clock::now();
        if postgres {
            let sql = format!("SELECT pg_current_xact_id()::text, {CLOCK}");
            for row in query(db, &sql, []).await? {
                now = Timestamp::from_micros(row.try_get_by_index(1)?);
                self.xid = Some(row.try_get_by_index(0)?);
            }
        }
        let db = self.db()?;
        let mut loaded = Loaded { now, tasks: Default::default(), requests: Default::default() };
        let mut rows_of = HashMap::new();
        let mut requests: Vec<&str> = wanted.requests.iter().map(String::as_str).collect();
        requests.sort_unstable();
        for piece in filled(&requests) {
            let list = placeholders(db, 1, piece.len());
            let lock = if postgres { "ORDER BY q.request_id FOR UPDATE OF q" } else { "" };
            let sql = format!(
                "SELECT q.request_id, q.digest, q.task_id, t.row IS NULL, q.task_row \
                 FROM requests q \
                 LEFT JOIN tasks t ON t.row = q.task_row WHERE q.request_id IN {list} {lock}"
            );
            for row in query(db, &sql, piece.iter().map(|id| (*id).into())).await? {
                let (request, digest, task): (String, Vec<u8>, String) =
                    (row.try_get_by_index(0)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?);
                let nonsense = || StoreError::Nonsense {
                    id: format!("request {request}"),
                    what: "a malformed digest or task".into(),
                };
                let digest = digest.try_into().map_err(|_| nonsense())?;
                let task = Name::new(&task).ok_or_else(nonsense)?;
                let gone = row.try_get_by_index(3)?;
                rows_of.insert(request.clone(), row.try_get_by_index::<i64>(4)?);
                loaded.requests.insert(request.clone(), RememberedRequest { digest, task, gone });
            }
        }
        // Whoever repeats a request is answered with its task, input included.
        let repeated = loaded.requests.values().filter(|known| !known.gone);
        let repeated: HashSet<Name> = repeated.map(|known| known.task.clone()).collect();
        let ids: BTreeSet<&str> = wanted.ids.iter().chain(&repeated).map(Name::as_str).collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        if postgres {
            // First the locks, then the rows: a statement that waited for a lock would
            // show what it joins as it was before.
            for piece in filled(&ids) {
                let list = placeholders(db, 1, piece.len());
                let sql = format!("SELECT 1 FROM tasks WHERE id IN {list} ORDER BY id FOR UPDATE");
                query(db, &sql, piece.iter().map(|id| (*id).into())).await?;
            }
        }
        for piece in filled(&ids) {
            let list = placeholders(db, 1, piece.len());
            let sql = format!("SELECT {COLUMNS} {} WHERE t.id IN {list}", from(db));
            for row in query(db, &sql, piece.iter().map(|id| (*id).into())).await? {
                let found = stored(&row)?;
                loaded.tasks.insert(found.task.id.clone(), found);
            }
        }
        // One that was removed while this waited for the lock on its request id.
        for (request, known) in &mut loaded.requests {
            let there = loaded.tasks.get(&known.task).map(|stored| stored.row);
            known.gone |= there != rows_of.get(request).copied();
        }
        let mut with_input: Vec<&mut Stored> = loaded
            .tasks
            .values_mut()
            .filter(|found| {
                let id = &found.task.id;
                wanted.inputs.contains(id) || repeated.contains(id)
            })
            .collect();
        inputs(db, &mut with_input).await?;
        Ok(loaded)
    }

    /// Makes it last. Where the answer is lost, finds out what became of it.
    ///
    /// # Errors
    ///
    /// `Unknown` where that cannot be found out soon: see [`Writer::became`].
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let Some(db) = self.db.take() else {
            return Err(StoreError::Unavailable("the transaction is over".into()));
        };
        let commit = async { Ok(db.commit().await?) };
        let result = match self.writer.place {
            // What is on its way to the disk cannot be called back: only waited for.
            Place::Sqlite(_) => commit.await,
            Place::Postgres(_) => in_time(commit).await,
        };
        let result = self.writer.noted(result);
        let (Err(StoreError::Unavailable(_)), Some(xid)) = (&result, self.xid.take()) else {
            return result;
        };
        match timeout(ASKED_FOR, self.writer.became(&xid)).await {
            Ok(true) => Ok(()),
            Ok(false) => result,
            Err(_) => Err(StoreError::Unknown { xid }),
        }
    }

    /// Undoes it.
    pub async fn rollback(mut self) -> Result<(), StoreError> {
        let Some(db) = self.db.take() else { return Ok(()) };
        let result = in_time(async { Ok(db.rollback().await?) }).await;
        self.writer.noted(result)
    }
}

impl Writer {
    /// Whether the transaction `xid`, whose COMMIT was not answered, stands. Asks until
    /// the database tells. One that has told others nothing counts as undone: there is
    /// nothing in it that could not be done again.
    pub async fn became(&self, xid: &str) -> bool {
        loop {
            match self.stands(xid).await {
                Ok(Some(stands)) => return stands,
                Ok(None) | Err(_) => sleep(ASKED_EVERY).await,
            }
        }
    }

    /// None while it goes on.
    async fn stands(&self, xid: &str) -> Result<Option<bool>, StoreError> {
        let db: DatabaseConnection = self.place.connect_writer().await?;
        let sql = "SELECT pg_xact_status($1::text::xid8)";
        let status = match query(&db, sql, [xid.into()]).await {
            Ok(rows) => first::<Option<String>>(&rows)?.flatten(),
            // After a crash that swallowed it, its number is yet to be given.
            Err(error) if error.is_refused() => Some("aborted".into()),
            Err(error) => return Err(error),
        };
        let stands = match status.as_deref() {
            Some("in progress") => None,
            Some("aborted") => Some(false),
            // After such a crash another one may have got its number: what it told the
            // others is its own.
            _ => {
                let sql = "SELECT 1 FROM batches WHERE xid = $1::text::bigint AND replica = $2";
                let told = query(&db, sql, [xid.into(), self.replica.into()]).await?;
                Some(!told.is_empty())
            }
        };
        in_time(async { Ok(db.close().await?) }).await?;
        Ok(stands)
    }
}

/// Reads the inputs of these tasks.
pub(super) async fn inputs(
    db: &impl sea_orm::ConnectionTrait,
    tasks: &mut [&mut Stored],
) -> Result<(), StoreError> {
    let rows: Vec<i64> = tasks.iter().map(|stored| stored.row).collect();
    let mut found = std::collections::HashMap::new();
    for piece in filled(&rows) {
        let list = placeholders(db, 1, piece.len());
        let sql = format!("SELECT row, input FROM inputs WHERE row IN {list}");
        for row in query(db, &sql, piece.iter().map(|row| (*row).into())).await? {
            found.insert(row.try_get_by_index::<i64>(0)?, row.try_get_by_index::<Vec<u8>>(1)?);
        }
    }
    for stored in tasks {
        stored.input = found.remove(&stored.row).map(|b| Object::from_encoded(b.into()));
    }
    Ok(())
}
