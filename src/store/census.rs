//! How much waits and runs in each lane, and what is known of kinds and queues.

use std::collections::{BTreeMap, BTreeSet};

use super::{Lane, Name, Reader, StoreError, Timestamp, Transaction, pick::name, statements::read};

/// Tells our advisory locks from those of others on the same database.
const LIMITS: i64 = 0x7461_736b_7761_7463;

/// What lives, counted. Cost grows with what waits and runs, not with what is kept.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Live tasks of each lane that has some.
    pub lanes: BTreeMap<Lane, Count>,
    /// Workers that hold leases, by the kinds that they hold them of.
    pub holders: BTreeSet<(Name, Name)>,
    /// When a remote worker of a kind was last seen, as far as it is written down.
    pub seen: BTreeMap<Name, Timestamp>,
    /// Queues of which nothing is handed out.
    pub paused: BTreeSet<Name>,
}

/// How many tasks of a lane are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// QUEUED.
    pub queued: u64,
    /// RUNNING or CANCELLING.
    pub running: u64,
}

/// Each part reads one index: of what is due, of what is not yet, of what waits for
/// its owner, and of what runs. PAUSED tasks count as neither, but live.
const LANES: &str = "SELECT kind, queue, 1, count(*) FROM tasks WHERE due = 1 GROUP BY kind, queue \
     UNION ALL SELECT kind, queue, 1, count(*) FROM tasks WHERE due = 0 GROUP BY kind, queue \
     UNION ALL SELECT 'external', queue, 1, count(*) FROM tasks \
     WHERE kind = 'external' AND state = 1 GROUP BY queue \
     UNION ALL SELECT t.kind, t.queue, t.state, count(*) FROM running r CROSS JOIN tasks t \
     WHERE t.row = r.row AND t.phase + 0 = 0 GROUP BY t.kind, t.queue, t.state \
     UNION ALL SELECT kind, queue, state, count(*) FROM tasks \
     WHERE phase = 1 AND state IN (2, 3, 4) GROUP BY kind, queue, state";

impl Reader {
    /// Counts.
    ///
    /// # Errors
    ///
    /// Where the database does not answer.
    pub async fn census(&self) -> Result<Census, StoreError> {
        let mut census = Census::default();
        for row in read(&self.db, LANES, []).await? {
            let lane = Lane {
                kind: name(&row.try_get_by_index::<String>(0)?)?,
                queue: name(&row.try_get_by_index::<String>(1)?)?,
            };
            let (state, tasks): (i32, i64) = (row.try_get_by_index(2)?, row.try_get_by_index(3)?);
            let tasks = u64::try_from(tasks).unwrap_or(0);
            let count = census.lanes.entry(lane).or_default();
            match state {
                1 => count.queued += tasks,
                2 | 4 => count.running += tasks,
                _ => {}
            }
        }
        let sql = "SELECT DISTINCT t.kind, t.worker FROM running r JOIN tasks t ON t.row = r.row";
        for row in read(&self.db, sql, []).await? {
            let (kind, worker): (String, Option<String>) =
                (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            if let Some(worker) = worker {
                census.holders.insert((name(&kind)?, name(&worker)?));
            }
        }
        for (kind, time) in self.served_kinds().await? {
            census.seen.insert(kind, time);
        }
        for row in read(&self.db, "SELECT queue FROM paused_queues", []).await? {
            census.paused.insert(name(&row.try_get_by_index::<String>(0)?)?);
        }
        Ok(census)
    }
}

impl Transaction<'_> {
    /// Holds a queue back, or lets it go on. Tells whether that changed anything.
    pub async fn pause_queue(&mut self, queue: &Name, paused: bool) -> Result<bool, StoreError> {
        let sql = if paused {
            "INSERT INTO paused_queues (queue) VALUES ($1) ON CONFLICT DO NOTHING"
        } else {
            "DELETE FROM paused_queues WHERE queue = $1"
        };
        Ok(self.write_now(sql, [queue.as_str().into()]).await? > 0)
    }

    /// Holds these limits until the transaction ends, so that no other replica counts what
    /// is under them. The last locks that a transaction waits for, in one order.
    pub async fn lock_limits(&mut self, names: &BTreeSet<String>) -> Result<(), StoreError> {
        if !self.postgres() {
            return Ok(());
        }
        for name in names {
            let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))";
            self.query(sql, [name.as_str().into(), LIMITS.into()]).await?;
        }
        Ok(())
    }

    /// Up to when each of these rates is used up.
    pub async fn rates(
        &mut self,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Timestamp>, StoreError> {
        let mut used = BTreeMap::new();
        for name in names {
            let sql = "SELECT used FROM rates WHERE name = $1";
            let rows = self.query(sql, [name.as_str().into()]).await?;
            if let Some(row) = rows.first() {
                used.insert(name.clone(), Timestamp::from_micros(row.try_get_by_index(0)?));
            }
        }
        Ok(used)
    }

    /// Notes up to when these rates are used up.
    pub async fn set_rates(
        &mut self,
        used: &BTreeMap<String, Timestamp>,
    ) -> Result<(), StoreError> {
        let rows = used.iter().map(|(name, time)| [name.as_str().into(), time.micros().into()]);
        self.upsert("rates", ["name", "used"], &rows.collect()).await
    }
}
