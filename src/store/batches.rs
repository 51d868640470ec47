//! What a commit on PostgreSQL leaves behind for the other replicas: one row that lists
//! what it changed, and one notification with the number of that row. What was deleted
//! soon after its end leaves its last state, so that nobody misses it.

use std::{cmp::Reverse, time::Duration};

use prost::Message;

use super::{
    Due, Gone, Lane, Name, Notice, Rank, StoreError, Timestamp, Transaction,
    pick::name,
    script::Last,
    statements::{CLOCK, lists},
    write::new_numbers,
};

/// The channel of the notifications.
pub(super) const CHANNEL: &str = "taskwatch";
/// How long a row is there for those who missed its notification.
pub(super) const KEPT: Duration = Duration::from_secs(60);

/// How a notice stands in a row.
#[derive(Clone, PartialEq, Message)]
struct NoticeRow {
    #[prost(string, repeated, tag = "1")]
    changed: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    gone: Vec<GoneRow>,
    #[prost(message, repeated, tag = "3")]
    ready: Vec<LaneRow>,
    #[prost(message, repeated, tag = "4")]
    freed: Vec<LaneRow>,
    #[prost(string, repeated, tag = "5")]
    resumed: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    steered: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct GoneRow {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(int64, tag = "2")]
    create_time: i64,
    #[prost(int64, tag = "3")]
    row: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LaneRow {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    queue: String,
    #[prost(uint64, tag = "3")]
    tasks: u64,
    #[prost(sint32, tag = "4")]
    priority: i32,
    #[prost(int64, tag = "5")]
    ready_time: i64,
}

/// What the other replicas are told of a transaction.
#[derive(Debug)]
pub(super) struct Told {
    /// When, which no other one of this replica has: by this it is known.
    pub(super) time: Timestamp,
    notice: Vec<u8>,
}

impl Told {
    /// The end of a transaction of this replica. Gives the time of the database, and so many new
    /// numbers.
    pub(super) fn last(self, replica: i64, numbers: usize) -> Last {
        Last {
            sql: "INSERT INTO batches (xid, replica, time, notice) \
                 VALUES (pg_current_xact_id()::text::bigint, $1, $2, $3) \
                 RETURNING number || ' ' || replica AS told",
            values: vec![replica.into(), self.time.micros().into(), self.notice.into()],
            columns: format!("{CLOCK}, {}, pg_notify('{CHANNEL}', told)", new_numbers(numbers)),
        }
    }
}

impl Transaction<'_> {
    /// Tells the other replicas, with the commit. On PostgreSQL, and at most once in a
    /// transaction: a notification takes a lock of the whole server at the commit.
    pub fn notify(&mut self, notice: &Notice, now: Timestamp) {
        let time = now.max(self.writer.told.plus(Duration::from_micros(1)));
        self.writer.told = time;
        self.told = Some(Told { time, notice: encoded(notice) });
    }

    /// Keeps for a while the last states of those of these rows, about to be deleted, that
    /// have ended not long ago: another replica may not have read them yet.
    pub(super) async fn depart(&mut self, rows: &[i64], now: Timestamp) -> Result<(), StoreError> {
        for (list, values) in lists(true, rows.iter().copied()) {
            let (now, since) = (now.micros(), now.minus(KEPT).micros());
            let sql = format!(
                "INSERT INTO departed (row, time, task, result) \
                 SELECT t.row, {now}, to_jsonb(t), s.result FROM tasks t \
                 LEFT JOIN results s ON s.row = t.row \
                 WHERE t.end_time > {since} AND t.row {list}"
            );
            self.write_list(&["departed", "tasks", "results"], sql, values).await?;
        }
        Ok(())
    }
}

fn encoded(notice: &Notice) -> Vec<u8> {
    let texts = |names: &[Name]| names.iter().map(ToString::to_string).collect();
    let lane = |lane: &Lane| LaneRow {
        kind: lane.kind.to_string(),
        queue: lane.queue.to_string(),
        ..Default::default()
    };
    let due = |due: &Due| LaneRow {
        tasks: due.tasks,
        priority: due.first.priority.0,
        ready_time: due.first.ready_time.micros(),
        ..lane(&due.lane)
    };
    let gone = notice.gone.iter().map(|Gone { id, create_time, row }| GoneRow {
        id: id.to_string(),
        create_time: create_time.micros(),
        row: *row,
    });
    let row = NoticeRow {
        changed: texts(&notice.changed),
        gone: gone.collect(),
        ready: notice.ready.iter().map(due).collect(),
        freed: notice.freed.iter().map(lane).collect(),
        resumed: texts(&notice.resumed),
        steered: texts(&notice.steered),
    };
    row.encode_to_vec()
}

/// A notice from its row.
pub(super) fn decoded(number: i64, bytes: &[u8]) -> Result<Notice, StoreError> {
    let row = NoticeRow::decode(bytes).map_err(|_| StoreError::Nonsense {
        id: format!("batch {number}"),
        what: "an unreadable notice".into(),
    })?;
    let names = |texts: &[String]| -> Result<Vec<Name>, StoreError> {
        texts.iter().map(|text| name(text)).collect()
    };
    let lane = |row: &LaneRow| -> Result<Lane, StoreError> {
        Ok(Lane { kind: name(&row.kind)?, queue: name(&row.queue)? })
    };
    let gone = |row: &GoneRow| -> Result<Gone, StoreError> {
        let create_time = Timestamp::from_micros(row.create_time);
        Ok(Gone { id: name(&row.id)?, create_time, row: row.row })
    };
    let due = |row: &LaneRow| -> Result<Due, StoreError> {
        let first = Rank {
            priority: Reverse(row.priority),
            ready_time: Timestamp::from_micros(row.ready_time),
            row: i64::MIN,
        };
        Ok(Due { lane: lane(row)?, tasks: row.tasks, first })
    };
    Ok(Notice {
        changed: names(&row.changed)?,
        gone: row.gone.iter().map(gone).collect::<Result<_, StoreError>>()?,
        ready: row.ready.iter().map(due).collect::<Result<_, StoreError>>()?,
        freed: row.freed.iter().map(lane).collect::<Result<_, StoreError>>()?,
        resumed: names(&row.resumed)?,
        steered: names(&row.steered)?,
    })
}
