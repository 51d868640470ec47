//! Ended tasks that were kept long enough, and request ids that need not be
//! remembered any longer.

use std::time::Duration;

use super::{
    StoreError, Stored, Timestamp, Transaction,
    rows::{COLUMNS, from, stored},
    statements::lists,
};
use crate::domain::limits::REQUEST_ID_KEPT;

/// Rows whose retention is over: `$1` is the present time, `$2` that less the
/// retention of tasks that name none.
pub(super) const EXPIRED: &str = "SELECT row FROM tasks \
     WHERE phase = 2 AND end_time <= $2 \
     UNION ALL SELECT row FROM tasks \
     WHERE phase = 1 AND retention IS NULL AND end_time IS NOT NULL AND end_time <= $2 \
     UNION ALL SELECT row FROM tasks \
     WHERE retention IS NOT NULL AND end_time IS NOT NULL AND end_time + retention <= $1";

/// What was removed.
#[derive(Clone, Debug)]
pub struct Purged {
    /// The tasks that are gone, with their last state.
    pub tasks: Vec<Stored>,
    /// There may be more to remove.
    pub more: bool,
}

impl Transaction<'_> {
    /// Removes up to `limit` tasks whose retention is over (`retention` where they
    /// name none) and as many request ids that need not be remembered any longer.
    pub async fn purge(
        &mut self,
        now: Timestamp,
        retention: Duration,
        limit: u64,
    ) -> Result<Purged, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = format!("{EXPIRED} LIMIT $3");
        let values = [now.micros().into(), now.minus(retention).micros().into(), limit.into()];
        let mut rows: Vec<i64> = Vec::new();
        for row in self.query(&sql, values).await? {
            rows.push(row.try_get_by_index(0)?);
        }
        if self.postgres() {
            rows = self.still_ended(&rows).await?;
        }
        let mut gone: Vec<Stored> = Vec::with_capacity(rows.len());
        let postgres = self.postgres();
        for (list, values) in lists(postgres, rows.iter().copied()) {
            let sql = format!("SELECT {COLUMNS} {} WHERE t.row {list}", from(postgres));
            for row in self.query(&sql, values).await? {
                gone.push(stored(&row)?);
            }
        }
        if self.postgres() {
            self.depart(&rows, now).await?;
        }
        for table in ["tasks", "inputs", "results", "labels", "attempts"] {
            self.remove(table, "row", &rows).await?;
        }
        self.became.extend(gone.iter().map(|stored| (stored.task.id.clone(), None)));
        let hour = i64::try_from(REQUEST_ID_KEPT.as_micros()).unwrap_or(i64::MAX);
        for (list, values) in lists(postgres, rows.iter().copied()) {
            let sql = format!(
                "UPDATE requests SET expire_time = create_time + {hour} WHERE task_row {list}"
            );
            self.write_list(&["requests"], sql, values).await?;
        }
        let lock = if self.postgres() { "FOR UPDATE SKIP LOCKED" } else { "" };
        let sql = format!(
            "DELETE FROM requests WHERE request_id IN \
             (SELECT request_id FROM requests WHERE expire_time <= $1 LIMIT $2 {lock})"
        );
        let forgotten = self.write_now(&sql, [now.micros().into(), limit.into()]).await?;
        let more = rows.len().max(usize::try_from(forgotten).unwrap_or(usize::MAX));
        let more = i64::try_from(more).unwrap_or(i64::MAX) >= limit;
        Ok(Purged { tasks: gone, more })
    }

    /// Those of these rows that are still ended, locked; without those that somebody is
    /// about to change, by a retry by hand for example.
    async fn still_ended(&mut self, rows: &[i64]) -> Result<Vec<i64>, StoreError> {
        let mut locked = Vec::with_capacity(rows.len());
        for (list, values) in lists(true, rows.iter().copied()) {
            let sql = format!(
                "SELECT row FROM tasks WHERE row {list} AND end_time IS NOT NULL \
                 FOR UPDATE SKIP LOCKED"
            );
            for row in self.query(&sql, values).await? {
                locked.push(row.try_get_by_index(0)?);
            }
        }
        Ok(locked)
    }
}
