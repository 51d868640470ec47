//! One transaction of the one writer: begin, load, commit. If the connection
//! fails, it is thrown away, and the next transaction gets a new one.

use std::{collections::BTreeSet, time::Duration};

use hashbrown::{HashMap, HashSet};
use tokio::time::{Instant, timeout};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, QueryResult, Statement};

use super::{
    Loaded, Name, RememberedRequest, StoreError, Stored, TaskId, Timestamp, Transaction, Wanted,
    Writer,
    batches::Told,
    connection::{Place, hold},
    payloads::inputs,
    rows::{COLUMNS, from, stored},
    script::{End, Script, Write},
    statements::{self, STATEMENT_TIMEOUT, WAITED_FOR, aside, execute, lists, query, within},
    write::NUMBERS,
};
use crate::clock;

/// How long the callers wait for what became of their commit.
const ASKED_FOR: Duration = Duration::from_secs(5);

impl Writer {
    /// Begins a transaction that will write. Rolled back where it is dropped.
    ///
    /// # Errors
    ///
    /// Where the database cannot be reached.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        if self.broken && self.known.is_some() {
            match execute(&self.db, "ROLLBACK", []).await {
                // There may have been nothing to undo.
                Ok(_) | Err(StoreError::Other(_)) => {}
                Err(error) => return Err(error),
            }
        } else if self.broken {
            self.chained = false;
            self.clock.forget();
            self.numbers.clear();
            let pool = self.place.connect_writer().await?;
            let (db, session) = hold(&pool).await?;
            // The state of the old one is unknown: let it go, and do not wait for it.
            let old = std::mem::replace(&mut self.pool, pool);
            drop(tokio::spawn(async move {
                if let Err(error) = old.close().await {
                    tracing::debug!(%error, "a broken connection was not closed");
                }
            }));
            (self.db, self.session) = (db, session);
        }
        self.broken = false;
        Ok(Transaction {
            begun: std::mem::take(&mut self.chained),
            script: Script::new(self.known.is_none()),
            reads: false,
            told: None,
            became: HashMap::new(),
            created: Vec::new(),
            writer: self,
        })
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // Left in the middle of a call that timed out: nobody knows where it is.
        self.writer.broken |= self.begun;
    }
}

impl Transaction<'_> {
    pub(super) const fn postgres(&self) -> bool {
        matches!(self.writer.place, Place::Postgres(_))
    }

    /// To read what is there, with all that was written by now.
    pub(super) async fn db(&mut self) -> Result<&DatabaseTransaction, StoreError> {
        self.reads = true;
        if !self.script.is_empty() {
            self.send().await?;
        }
        self.connection().await
    }

    /// In a transaction, on PostgreSQL.
    async fn connection(&mut self) -> Result<&DatabaseTransaction, StoreError> {
        if self.postgres() && !self.begun {
            // From here on, whatever becomes of this call, which finds out whether the database
            // is there.
            self.begun = true;
            self.say("BEGIN", WAITED_FOR).await?;
        }
        Ok(&self.writer.db)
    }

    /// Begins or ends a transaction.
    async fn say(&mut self, sql: &str, limit: Duration) -> Result<(), StoreError> {
        within(limit, async { Ok(self.writer.db.execute_unprepared(sql).await?) }).await.map(|_| ())
    }

    /// The rows of a query, with all that was written by now.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<Vec<QueryResult>, StoreError> {
        if self.postgres() || self.script.is_empty() {
            return query(self.db().await?, sql, values).await;
        }
        // All in one way.
        let end = End::Query { sql, values: values.into_iter().collect() };
        let (sql, values) = self.script.take().into_statements(self.begun, end);
        self.begun = true;
        query(&self.writer.db, &sql, values).await
    }

    /// Writes, later, with what else is to be written: see [`Script`].
    pub(super) async fn write_rows(&mut self, write: Write<'_>) -> Result<(), StoreError> {
        if !self.script.fits(&write) {
            self.send().await?;
        }
        self.script.add(write);
        Ok(())
    }

    /// Writes, and tells how many rows were changed.
    pub(super) async fn write_now(
        &mut self,
        sql: &str,
        values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<u64, StoreError> {
        if !self.postgres() && !self.begun {
            self.send().await?;
        }
        execute(self.db().await?, sql, values).await
    }

    /// Sends what was not sent yet.
    async fn send(&mut self) -> Result<(), StoreError> {
        let script = self.script.take();
        if !self.postgres() {
            let (sql, values) = script.into_statements(self.begun, End::Open);
            self.begun = true;
            return execute(&self.writer.db, &sql, values).await.map(|_| ());
        }
        let (sql, values) = script.into_query(None);
        // To its end: what was written may fail behind the row.
        query(self.connection().await?, &sql, values).await.map(|_| ())
    }

    /// The time of PostgreSQL, by its own clock where it must be `exact`.
    async fn now(&mut self, exact: bool) -> Result<Timestamp, StoreError> {
        if let Some(now) = self.writer.clock.now().filter(|_| !exact) {
            return Ok(now);
        }
        let asked = Instant::now();
        // As BEGIN, this finds out whether the database is there.
        let now = within(WAITED_FOR, statements::now(&self.writer.db));
        let now = aside(&mut self.begun, now).await?;
        self.writer.clock.is(now, asked);
        Ok(now)
    }

    /// Loads (and on PostgreSQL locks, in one order) what is named, and the time.
    pub async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, StoreError> {
        let postgres = self.postgres();
        let now = if postgres { self.now(wanted.exact_time).await? } else { clock::now() };
        let mut loaded = Loaded { now, tasks: Default::default(), requests: Default::default() };
        if let Some(known) = &self.writer.known {
            loaded.tasks.reserve(wanted.ids.len());
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

    /// Makes it last. Where the answer is lost, finds out what became of it. With `more`,
    /// PostgreSQL begins the next one with the end of one that has read something.
    ///
    /// # Errors
    ///
    /// `Unknown` where that cannot be found out soon: see [`Writer::became`].
    pub async fn commit(mut self, more: bool) -> Result<(), StoreError> {
        if self.postgres() {
            return self.commit_postgres(more).await;
        }
        let became = std::mem::take(&mut self.became);
        let mut created = std::mem::take(&mut self.created);
        created.retain(|stored| !became.contains_key(&stored.task.id));
        let known = self.writer.known.as_ref();
        let writing = known.map(|known| known.writing(became));
        if !self.begun && self.script.is_empty() {
            return Ok(());
        }
        let (sql, values) = self.script.take().into_statements(self.begun, End::Commit);
        let rest = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        self.begun = true;
        // What is on its way there cannot be called back: only waited for.
        self.writer.db.execute_raw(rest).await?;
        self.begun = false;
        if let Some(writing) = writing {
            writing.stands(created);
        }
        Ok(())
    }

    async fn commit_postgres(&mut self, more: bool) -> Result<(), StoreError> {
        let told = self.told.take();
        let time = told.as_ref().map(|told| told.time);
        // Where nothing was read, one statement is all: it commits by itself.
        let is_lone = !self.begun;
        let mut result = self.tell(told).await;
        if is_lone {
            // One that is refused leaves nothing open.
            self.begun &= result.as_ref().is_err_and(StoreError::hits_all);
        } else {
            if let Err(error) = result {
                if !error.hits_all() {
                    self.undo().await?;
                }
                return Err(error);
            }
            // The next one is likely to be as this one.
            let more = more && self.reads;
            self.writer.chained = more;
            let sql = if more { "COMMIT AND CHAIN" } else { "COMMIT" };
            result = self.say(sql, STATEMENT_TIMEOUT).await;
            self.begun = result.is_err();
        }
        let (Err(StoreError::Unavailable(_)), Some(told)) = (&result, time) else {
            return result;
        };
        match timeout(ASKED_FOR, self.writer.became(told)).await {
            Ok(true) => Ok(()),
            Ok(false) => result,
            Err(_) => Err(StoreError::Unknown { told }),
        }
    }

    /// Sends all that is left, with what the other replicas are told.
    async fn tell(&mut self, told: Option<Told>) -> Result<(), StoreError> {
        if told.is_none() && self.script.is_empty() {
            return Ok(());
        }
        let tells = told.is_some();
        let numbers = if self.writer.numbers.len() < NUMBERS { NUMBERS } else { 0 };
        let last = told.map(|told| told.last(self.writer.replica, numbers));
        let (sql, values) = self.script.take().into_query(last);
        self.begun = true;
        let asked = Instant::now();
        // To its end: what was written may fail behind the row.
        let rows = query(&self.writer.db, &sql, values).await?;
        let told = rows.first().filter(|_| tells);
        let told = told.map(|row| (row.try_get_by_index(0), row.try_get_by_index::<Vec<i64>>(1)));
        if let Some((Ok(time), Ok(numbers))) = told {
            self.writer.clock.is(Timestamp::from_micros(time), asked);
            self.writer.numbers.extend(numbers);
        }
        Ok(())
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        if self.begun {
            self.say("ROLLBACK", STATEMENT_TIMEOUT).await?;
            self.begun = false;
        }
        Ok(())
    }

    /// Undoes it.
    pub async fn rollback(mut self) -> Result<(), StoreError> {
        self.undo().await
    }
}
