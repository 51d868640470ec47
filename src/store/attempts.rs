//! Leases that have ended, of which each task keeps the newest.

use super::{
    Changes, Name, Reader, StoreError, Timestamp, Transaction,
    cells::Cell,
    rows::failure_from,
    statements::{lists, read},
};
use crate::domain::{ATTEMPTS_KEPT, Attempt, AttemptEnd, State, TaskId};

/// Some attempts of a task, oldest first.
#[derive(Clone, Debug)]
pub struct AttemptPage {
    /// The attempts; the live one last.
    pub attempts: Vec<Attempt>,
    /// The number behind which the next page begins; none on the last one.
    pub next: Option<i64>,
}

impl Transaction<'_> {
    /// Remembers leases that ended, at most one of each row, and forgets the oldest
    /// where there are too many.
    pub(super) async fn add_attempts(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let ended = changes.attempts.iter().filter_map(|(row, attempt)| values(*row, attempt));
        self.write_each("attempts", &ended.collect(), |rows, columns| {
            let columns: Vec<&str> =
                columns.iter().map(|column| column.as_deref().unwrap_or("NULL")).collect();
            format!(
                "INSERT INTO attempts (row, number, attempt, worker, start_time, end_time, \
                 end_state, error) SELECT {row}, coalesce((SELECT max(a.number) FROM attempts a \
                 WHERE a.row = {row}), 0) + 1, {} FROM {rows} WHERE {row} IS NOT NULL",
                columns[1..].join(", "),
                row = columns[0],
            )
        })
        .await?;
        // A lease takes a revision at least: a task of few has few of them.
        let ended = |row| changes.attempts.iter().any(|(ended, _)| *ended == row);
        let long = changes
            .changed
            .iter()
            .filter(|(stored, task)| task.revision > ATTEMPTS_KEPT && ended(stored.row));
        for (list, values) in lists(self.postgres(), long.map(|(stored, _)| stored.row)) {
            let sql = format!(
                "DELETE FROM attempts WHERE row {list} AND number <= \
                 (SELECT max(a.number) FROM attempts a WHERE a.row = attempts.row) \
                 - {ATTEMPTS_KEPT}"
            );
            self.write_list(&["attempts"], sql, values).await?;
        }
        Ok(())
    }
}

fn values(row: i64, attempt: &Attempt) -> Option<[Cell<'_>; 7]> {
    let Attempt { number, worker, start_time, end } = attempt;
    let AttemptEnd { time, state, error } = end.as_ref()?;
    Some([
        row.into(),
        i64::from(*number).into(),
        Cell::Text(worker.as_deref()),
        start_time.micros().into(),
        time.micros().into(),
        (*state).into(),
        Cell::Failure(error.as_ref()),
    ])
}

impl Reader {
    /// The attempts of a task behind the one numbered `after`, at most `limit`, and about
    /// `max_bytes` of them. None where there is no such task.
    ///
    /// # Errors
    ///
    /// Where the database does not answer.
    pub async fn attempts(
        &self,
        id: &TaskId,
        after: i64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Option<AttemptPage>, StoreError> {
        let Some(stored) = self.task(id, false).await? else { return Ok(None) };
        let sql = "SELECT number, attempt, worker, start_time, end_time, end_state, error \
             FROM attempts WHERE row = $1 AND number > $2 ORDER BY number LIMIT $3";
        let many = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let rows = read(&self.db, sql, [stored.row.into(), after.into(), many.into()]).await?;
        let mut attempts = Vec::with_capacity(rows.len());
        let mut last = after;
        let nonsense = |what: &str| StoreError::Nonsense {
            id: format!("an attempt of tasks/{id}"),
            what: what.to_owned(),
        };
        let mut more = rows.len() > limit;
        let mut bytes = 0;
        for row in rows.iter().take(limit) {
            let (number, state): (i64, i16) = (row.try_get_by_index(1)?, row.try_get_by_index(5)?);
            let worker: Option<String> = row.try_get_by_index(2)?;
            let error: Option<Vec<u8>> = row.try_get_by_index(6)?;
            bytes += error.as_ref().map_or(0, Vec::len);
            if bytes > max_bytes && !attempts.is_empty() {
                more = true;
                break;
            }
            last = row.try_get_by_index(0)?;
            attempts.push(Attempt {
                number: u32::try_from(number).map_err(|_| nonsense("a malformed number"))?,
                worker: worker.and_then(|worker| Name::new(&worker)),
                start_time: Timestamp::from_micros(row.try_get_by_index(3)?),
                end: Some(AttemptEnd {
                    time: Timestamp::from_micros(row.try_get_by_index(4)?),
                    state: State::from_number(state.into())
                        .ok_or_else(|| nonsense("an unknown state"))?,
                    error: error
                        .map(|bytes| {
                            failure_from(&bytes).ok_or_else(|| nonsense("an unreadable error"))
                        })
                        .transpose()?,
                }),
            });
        }
        if more {
            return Ok(Some(AttemptPage { attempts, next: Some(last) }));
        }
        // Read after the task: the lease that was live then may have ended since.
        let live = Attempt::live(&stored.task).filter(|live| {
            attempts.last().is_none_or(|last: &Attempt| last.start_time < live.start_time)
        });
        match live {
            Some(_) if attempts.len() >= limit => {
                Ok(Some(AttemptPage { attempts, next: Some(last) }))
            }
            live => {
                attempts.extend(live);
                Ok(Some(AttemptPage { attempts, next: None }))
            }
        }
    }
}
