//! What workers may be given.

use std::{cmp::Reverse, collections::BTreeMap, sync::LazyLock};

use hashbrown::HashMap;
use sea_orm::QueryResult;

use super::{
    Due, Lane, LiveLeases, Name, Picked, Rank, StoreError, Stored, Timestamp, Transaction,
    known::Known,
    payloads::inputs,
    rows::{WAITING, stored},
    statements::lists,
};

impl Transaction<'_> {
    /// The lanes of this kind that have due tasks and are not paused, by queue.
    pub async fn lanes(&mut self, kind: &Name) -> Result<Vec<Lane>, StoreError> {
        // From queue to queue along the index of due tasks, never through them.
        let sql = "WITH RECURSIVE lane(queue) AS ( \
                 SELECT min(queue) FROM tasks WHERE due = 1 AND kind = $1 \
                 UNION ALL \
                 SELECT (SELECT min(t.queue) FROM tasks t \
                     WHERE t.due = 1 AND t.kind = $2 AND t.queue > lane.queue) \
                 FROM lane WHERE lane.queue IS NOT NULL) \
             SELECT queue FROM lane WHERE queue IS NOT NULL \
                 AND queue NOT IN (SELECT queue FROM paused_queues)";
        let rows = self.query(sql, [kind.as_str().into(), kind.as_str().into()]).await?;
        let lane = |row: &QueryResult| {
            let queue = name(&row.try_get_by_index::<String>(0)?)?;
            Ok(Lane { kind: kind.clone(), queue })
        };
        rows.iter().map(lane).collect()
    }

    /// How many live leases there are in each lane that has some.
    pub async fn live_leases(&mut self) -> Result<LiveLeases, StoreError> {
        let sql = "SELECT t.kind, t.queue, count(*) FROM running r JOIN tasks t ON t.row = r.row \
             GROUP BY t.kind, t.queue";
        let mut live = LiveLeases::new();
        for row in self.query(sql, []).await? {
            let lane = Lane {
                kind: name(&row.try_get_by_index::<String>(0)?)?,
                queue: name(&row.try_get_by_index::<String>(1)?)?,
            };
            let count: i64 = row.try_get_by_index(2)?;
            live.insert(lane, u64::try_from(count).unwrap_or(0));
        }
        Ok(live)
    }

    /// The first `limit` due tasks of a lane, none where its queue is paused: highest
    /// priority, then earliest `ready_time`, then oldest. Locked, those locked elsewhere
    /// skipped. `from` that place on, where one is given.
    pub async fn pick(
        &mut self,
        lane: &Lane,
        limit: u64,
        from: Option<Rank>,
    ) -> Result<Vec<Picked>, StoreError> {
        let Some(Rank { priority: Reverse(priority), ready_time, row }) = from else {
            return self.pick_where(lane, limit, "", []).await;
        };
        // An index is searched for one beginning at a time.
        let same = "AND t.priority = $4 AND (t.ready_time, t.row) >= ($5, $6)";
        let values = [priority.into(), ready_time.micros().into(), row.into()];
        let mut picked = self.pick_where(lane, limit, same, values).await?;
        let rest = limit.saturating_sub(picked.len() as u64);
        if rest > 0 {
            let lower = "AND t.priority < $4";
            picked.extend(self.pick_where(lane, rest, lower, [priority.into()]).await?);
        }
        Ok(picked)
    }

    async fn pick_where(
        &mut self,
        lane: &Lane,
        limit: u64,
        place: &str,
        place_values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<Vec<Picked>, StoreError> {
        let lock = if self.postgres() { "FOR UPDATE OF t SKIP LOCKED" } else { "" };
        let select = |columns: &str| {
            format!(
                "SELECT {columns} FROM tasks t \
                 WHERE t.due = 1 AND t.kind = $1 AND t.queue = $2 {place} \
                 AND NOT EXISTS (SELECT 1 FROM paused_queues p WHERE p.queue = t.queue) \
                 ORDER BY t.priority DESC, t.ready_time, t.row LIMIT $3 {lock}"
            )
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = [lane.kind.as_str().into(), lane.queue.as_str().into(), limit.into()];
        let values = values.into_iter().chain(place_values);
        let known = self.writer.known.clone();
        if let Some(known) = known.as_ref().filter(|_| self.writer.knows_due) {
            return self.pick_known(known, &select("t.row, t.id"), values).await;
        }
        let rows = self.query(&select(&PICKED), values).await?;
        let found = rows.iter().map(picked).collect::<Result<Vec<Picked>, StoreError>>()?;
        if let Some(known) = known {
            let is_known = |picked: &&Picked| known.get(&picked.stored.task.id, true).is_some();
            self.find_known(found.iter().filter(is_known).count(), found.len());
        }
        Ok(found)
    }

    /// Of the tasks whose rows and ids are found, those that are in memory from there.
    async fn pick_known(
        &mut self,
        known: &Known,
        sql: &str,
        values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<Vec<Picked>, StoreError> {
        let (mut found, mut missing) = (BTreeMap::new(), HashMap::new());
        for (at, row) in self.query(sql, values).await?.iter().enumerate() {
            let number: i64 = row.try_get_by_index(0)?;
            let id = name(&row.try_get_by_index::<String>(1)?)?;
            let created = self.created.binary_search_by_key(&number, |stored| stored.row);
            let stored = match created {
                Ok(created) => Some(self.created[created].clone()),
                // It is there as it was before this transaction.
                Err(_) if self.became.contains_key(&id) => None,
                Err(_) => known.get(&id, true),
            };
            match stored.filter(|stored| stored.row == number) {
                Some(stored) => drop(found.insert(at, in_memory(stored))),
                None => drop(missing.insert(number, at)),
            }
        }
        self.find_known(found.len(), found.len() + missing.len());
        for (list, values) in lists(false, missing.keys().copied()) {
            let sql = format!("SELECT {} FROM tasks t WHERE t.row {list}", *PICKED);
            for row in &self.query(&sql, values).await? {
                let picked = picked(row)?;
                found.extend(missing.get(&picked.stored.row).map(|at| (*at, picked)));
            }
        }
        Ok(found.into_values().collect())
    }

    /// So many of these were in memory: is it worth looking there the next time?
    const fn find_known(&mut self, known: usize, all: usize) {
        if all > 0 {
            self.writer.knows_due = known * 2 >= all;
        }
    }

    /// Reads the inputs of these tasks.
    pub async fn read_inputs(&mut self, tasks: &mut [&mut Stored]) -> Result<(), StoreError> {
        inputs(self.db().await?, tasks).await
    }

    /// Makes up to `limit` tasks due whose `ready_time` has come.
    pub async fn make_due(&mut self, now: Timestamp, limit: u64) -> Result<Vec<Due>, StoreError> {
        let lock = if self.postgres() { "FOR UPDATE SKIP LOCKED" } else { "" };
        let sql = format!(
            "SELECT row, kind, queue, priority, ready_time FROM tasks WHERE due = 0 AND ready_time <= $1 \
             ORDER BY ready_time LIMIT $2 {lock}"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut lanes: HashMap<Lane, (u64, Rank)> = HashMap::new();
        let mut rows: Vec<i64> = Vec::new();
        for row in self.query(&sql, [now.micros().into(), limit.into()]).await? {
            rows.push(row.try_get_by_index(0)?);
            let lane = Lane {
                kind: name(&row.try_get_by_index::<String>(1)?)?,
                queue: name(&row.try_get_by_index::<String>(2)?)?,
            };
            let rank = Rank {
                priority: Reverse(row.try_get_by_index(3)?),
                ready_time: Timestamp::from_micros(row.try_get_by_index(4)?),
                row: row.try_get_by_index(0)?,
            };
            let (tasks, first) = lanes.entry(lane).or_insert((0, rank));
            (*tasks, *first) = (*tasks + 1, rank.min(*first));
        }
        for (list, values) in lists(self.postgres(), rows) {
            let sql = format!("UPDATE tasks SET due = 1 WHERE row {list}");
            self.write_list(&["tasks"], sql, values).await?;
        }
        let due = lanes.into_iter().map(|(lane, (tasks, first))| Due { lane, tasks, first });
        Ok(due.collect())
    }
}

/// What is read of a task that may be handed out.
static PICKED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}, (SELECT length(i.input) FROM inputs i WHERE i.row = t.row) AS input_length",
        *WAITING
    )
});

fn picked(row: &QueryResult) -> Result<Picked, StoreError> {
    let stored = stored(row)?;
    let input: Option<i32> = row.try_get("", "input_length")?;
    let length = usize::try_from(input.unwrap_or_default()).unwrap_or_default();
    Ok(Picked { bytes: bytes(&stored, length), stored, has_input: input.is_some() })
}

/// One whose input is here, where it has one.
fn in_memory(stored: Stored) -> Picked {
    let length = stored.input.as_ref().map_or(0, |input| input.encoded().len());
    Picked { bytes: bytes(&stored, length), stored, has_input: false }
}

/// About how long it is in a message.
fn bytes(stored: &Stored, input: usize) -> usize {
    input + stored.task.checkpoint.as_ref().map_or(0, |c| c.encoded().len()) + 2_048
}

pub(super) fn name(text: &str) -> Result<Name, StoreError> {
    Name::new(text).ok_or_else(|| StoreError::Nonsense {
        id: text.to_owned(),
        what: "a malformed kind or queue".into(),
    })
}
