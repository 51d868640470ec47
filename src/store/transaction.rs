//! One transaction of the one writer: begin, load, commit. If the connection
//! fails, it is thrown away, and the next transaction gets a new one.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait,
};

use super::{
    Loaded, Name, Object, RememberedRequest, StoreError, Stored, TaskId, Timestamp, Transaction,
    Wanted, Writer,
    connection::Place,
    rows::{COLUMNS, from, stored},
    statements::{CLOCK, execute, first, in_time, is_postgres, lists, query},
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
        Ok(Transaction { db: None, held: None, xid: None, became: HashMap::new(), writer: self })
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
    pub(super) const fn postgres(&self) -> bool {
        matches!(self.writer.place, Place::Postgres(_))
    }

    /// The transaction, begun by its first statement.
    pub(super) async fn db(&mut self) -> Result<&DatabaseTransaction, StoreError> {
        if self.db.is_none() {
            let mode = (!self.postgres()).then_some(SqliteTransactionMode::Immediate);
            let options =
                TransactionOptions { sqlite_transaction_mode: mode, ..Default::default() };
            let begun =
                in_time(async { Ok(self.writer.db.begin_with_options(options).await?) }).await;
            self.db = Some(self.writer.noted(begun)?);
            if let Some((sql, values)) = self.held.take() {
                self.write_now(&sql, values).await?;
            }
        }
        self.db.as_ref().ok_or_else(|| StoreError::Unavailable("the transaction is over".into()))
    }

    /// Writes, and tells how many rows were changed where that is known. On an embedded
    /// database the first statement waits for a second one: alone, it needs neither BEGIN
    /// nor COMMIT, which are two more ways to the thread of the connection and back.
    pub(super) async fn write_rows(
        &mut self,
        sql: String,
        values: Vec<sea_orm::Value>,
    ) -> Result<Option<u64>, StoreError> {
        if self.postgres() || self.db.is_some() || self.held.is_some() {
            return self.write_now(&sql, values).await.map(Some);
        }
        self.held = Some((sql, values));
        Ok(None)
    }

    async fn write_now(
        &mut self,
        sql: &str,
        values: Vec<sea_orm::Value>,
    ) -> Result<u64, StoreError> {
        Box::pin(async { execute(self.db().await?, sql, values).await }).await
    }

    /// Loads (and on PostgreSQL locks, in one order) what is named, and the time.
    pub async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, StoreError> {
        let postgres = self.postgres();
        let mut now = clock::now();
        if postgres {
            let sql = format!("SELECT pg_current_xact_id()::text, {CLOCK}");
            for row in query(self.db().await?, &sql, []).await? {
                now = Timestamp::from_micros(row.try_get_by_index(1)?);
                self.xid = Some(row.try_get_by_index(0)?);
            }
        }
        let mut loaded = Loaded { now, tasks: Default::default(), requests: Default::default() };
        if let Some(known) = &self.writer.known {
            let known = |id: &TaskId| known.get(id, wanted.inputs.contains(id));
            let found = wanted.ids.iter().filter_map(|id| Some((id.clone(), known(id)?)));
            loaded.tasks.extend(found);
        }
        if loaded.tasks.len() == wanted.ids.len() && wanted.requests.is_empty() {
            return Ok(loaded);
        }
        let db = self.db().await?;
        let mut rows_of = HashMap::new();
        let mut requests: Vec<&str> = wanted.requests.iter().map(String::as_str).collect();
        requests.sort_unstable();
        for (list, values) in lists(postgres, requests) {
            let lock = if postgres { "ORDER BY q.request_id FOR UPDATE OF q" } else { "" };
            let sql = format!(
                "SELECT q.request_id, q.digest, q.task_id, t.row IS NULL, q.task_row \
                 FROM requests q \
                 LEFT JOIN tasks t ON t.row = q.task_row WHERE q.request_id {list} {lock}"
            );
            for row in query(db, &sql, values).await? {
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
        let ids: BTreeSet<&str> = wanted
            .ids
            .iter()
            .filter(|id| !loaded.tasks.contains_key(*id))
            .chain(&repeated)
            .map(Name::as_str)
            .collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        if postgres {
            // First the locks, then the rows: a statement that waited for a lock would
            // show what it joins as it was before.
            for (list, values) in lists(postgres, ids.iter().copied()) {
                let sql = format!("SELECT 1 FROM tasks WHERE id {list} ORDER BY id FOR UPDATE");
                query(db, &sql, values).await?;
            }
        }
        for (list, values) in lists(postgres, ids) {
            let sql = format!("SELECT {COLUMNS} {} WHERE t.id {list}", from(postgres));
            for row in query(db, &sql, values).await? {
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
        let became = std::mem::take(&mut self.became);
        let known = self.writer.known.as_ref();
        let writing = known.map(|known| known.write(became.keys().cloned().collect()));
        // What is on its way to an embedded database cannot be called back: only waited for.
        let result = match (self.db.take(), self.held.take()) {
            (Some(db), _) if self.postgres() => in_time(async { Ok(db.commit().await?) }).await,
            (Some(db), _) => db.commit().await.map_err(Into::into),
            (None, Some((sql, values))) => {
                let alone = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
                self.writer.db.execute_raw(alone).await.map(|_| ()).map_err(Into::into)
            }
            (None, None) => Ok(()),
        };
        if let (Some(writing), Ok(())) = (writing, &result) {
            writing.stands(became.into_values().flatten());
        }
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
    for (list, values) in lists(is_postgres(db), rows) {
        let sql = format!("SELECT row, input FROM inputs WHERE row {list}");
        for row in query(db, &sql, values).await? {
            found.insert(row.try_get_by_index::<i64>(0)?, row.try_get_by_index::<Vec<u8>>(1)?);
        }
    }
    for stored in tasks {
        stored.input = found.remove(&stored.row).map(|b| Object::from_encoded(b.into()));
    }
    Ok(())
}
