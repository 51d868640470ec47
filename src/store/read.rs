//! What is read outside of transactions: single tasks, and what timers look for.

use std::time::Duration;

use super::{
    Expiry, Name, Object, Overdue, Page, Reader, StoreError, Stored, TaskId, Timestamp, Token,
    list,
    statements::{first, now, patiently, read},
};

impl Reader {
    /// One task.
    pub async fn task(&self, id: &TaskId, with_input: bool) -> Result<Option<Stored>, StoreError> {
        self.reads.task(id, with_input).await
    }

    /// The input of a task, where it has one.
    pub async fn input(&self, id: &TaskId) -> Result<Option<Object>, StoreError> {
        let sql = "SELECT i.input FROM tasks t JOIN inputs i ON i.row = t.row WHERE t.id = $1";
        let found: Option<Vec<u8>> = first(&read(&self.db, sql, [id.as_str().into()]).await?)?;
        Ok(found.map(|bytes| Object::from_encoded(bytes.into())))
    }

    /// One page of a list.
    pub async fn list(&self, query: &super::ListQuery) -> Result<Page, StoreError> {
        patiently(&self.db, || list::page(&self.db, query)).await
    }

    /// Leases whose `expire_time` has passed, and attempts of others than runners
    /// whose time limit has, at most `limit` of each; of what was to end after `since`.
    pub async fn overdue(
        &self,
        since: Timestamp,
        now: Timestamp,
        limit: u64,
    ) -> Result<Vec<Overdue>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let expired = "SELECT t.id, t.lease_token FROM running r JOIN tasks t ON t.row = r.row \
             WHERE r.expire_time > $1 AND r.expire_time <= $2 ORDER BY r.expire_time LIMIT $3";
        let late = "SELECT id, lease_token FROM tasks WHERE limit_kind = 1 AND by_runner = 0 \
             AND limit_value > $1 AND limit_value <= $2 ORDER BY limit_value LIMIT $3";
        let mut all = Vec::new();
        let values = || [since.micros().into(), now.micros().into(), limit.into()];
        for (sql, cause) in [(expired, Expiry::Lease), (late, Expiry::AttemptTimeout)] {
            all.extend(self.leases(sql, values(), cause).await?);
        }
        Ok(all)
    }

    /// Live leases of runners: all of them dead ones, when asked before any runner
    /// of this process starts and no other process can have one.
    pub async fn runner_leases(&self, limit: u64) -> Result<Vec<Overdue>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = "SELECT id, lease_token FROM tasks WHERE by_runner = 1 LIMIT $1";
        self.leases(sql, [limit.into()], Expiry::Orphaned).await
    }

    async fn leases(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = sea_orm::Value>,
        cause: Expiry,
    ) -> Result<Vec<Overdue>, StoreError> {
        let mut all = Vec::new();
        for row in read(&self.db, sql, values).await? {
            let (id, token): (String, Vec<u8>) =
                (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            let nonsense = || StoreError::Nonsense {
                id: format!("tasks/{id}"),
                what: "a malformed id or token".into(),
            };
            let token = Token(token.try_into().map_err(|_| nonsense())?);
            let id = Name::new(&id).ok_or_else(nonsense)?;
            all.push(Overdue { id, token, cause });
        }
        Ok(all)
    }

    /// The earliest time at which a timer has something to do: the end of a lease,
    /// the limit of an attempt, a `ready_time`; as far as that is after `since` and before
    /// `until`. Retention is not counted.
    pub async fn next_deadline(
        &self,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut next: Option<i64> = None;
        for sql in [
            "SELECT min(expire_time) FROM running WHERE expire_time > $1 AND expire_time < $2",
            "SELECT min(limit_value) FROM tasks WHERE limit_kind = 1 AND by_runner = 0 \
                 AND limit_value > $1 AND limit_value < $2",
            "SELECT min(ready_time) FROM tasks WHERE due = 0 \
                 AND ready_time > $1 AND ready_time < $2",
        ] {
            let values = [since.micros().into(), until.micros().into()];
            let found: Option<Option<i64>> = first(&read(&self.db, sql, values).await?)?;
            next = next.into_iter().chain(found.flatten()).min();
        }
        Ok(next.map(Timestamp::from_micros))
    }

    /// Whether there is something for [`Transaction::purge`](super::Transaction::purge).
    pub async fn has_expired(
        &self,
        now: Timestamp,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let sql = format!("{} LIMIT 1", super::purge::EXPIRED);
        let values = [now.micros().into(), now.minus(retention).micros().into()];
        if !read(&self.db, &sql, values).await?.is_empty() {
            return Ok(true);
        }
        let sql = "SELECT 1 FROM requests WHERE expire_time <= $1 LIMIT 1";
        Ok(!read(&self.db, sql, [now.micros().into()]).await?.is_empty())
    }

    /// Kinds that remote workers have served at some time.
    pub async fn served_kinds(&self) -> Result<Vec<(Name, Timestamp)>, StoreError> {
        let rows = read(&self.db, "SELECT kind, last_worker_time FROM kinds", []).await?;
        let mut kinds = Vec::with_capacity(rows.len());
        for row in rows {
            let time = Timestamp::from_micros(row.try_get_by_index(1)?);
            kinds.extend(Name::new(&row.try_get_by_index::<String>(0)?).map(|kind| (kind, time)));
        }
        Ok(kinds)
    }

    /// Whether no other process can have this database open.
    pub const fn embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// The present time by the clock that the store goes by.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        now(&self.db).await
    }
}
