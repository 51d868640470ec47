//! What became of a transaction of PostgreSQL whose last answer was lost.

use std::time::Duration;

use sea_orm::ConnectionTrait;
use tokio::time::sleep;

use super::{
    StoreError, Timestamp, Writer,
    statements::{first, in_time, query},
};

/// How often it is asked for.
const ASKED_EVERY: Duration = Duration::from_millis(250);
/// When a session began, in microseconds: another one may have its number later.
const SINCE: &str = "(extract(epoch FROM backend_start) * 1000000)::bigint";

/// The session of a connection to PostgreSQL, by which others find it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Session {
    pid: i32,
    since: i64,
}

impl Session {
    /// That of this connection.
    pub(super) async fn of(db: &impl ConnectionTrait) -> Result<Self, StoreError> {
        // What a session does is shown to the user who has logged in.
        db.execute_unprepared("SET ROLE NONE").await?;
        let sql = format!("SELECT pid, {SINCE} FROM pg_stat_activity WHERE pid = pg_backend_pid()");
        let rows = query(db, &sql, []).await?;
        db.execute_unprepared("RESET ROLE").await?;
        let row = rows.first().ok_or_else(|| {
            StoreError::Unavailable("it does not say which sessions it has".to_owned())
        })?;
        Ok(Self { pid: row.try_get_by_index(0)?, since: row.try_get_by_index(1)? })
    }

    /// Whether it is over, so that nothing that was sent to it can still be done. If it does
    /// nothing now, or waits for the rest of a statement, it is ended: that may be on its way.
    async fn is_over(self, db: &impl ConnectionTrait) -> Result<bool, StoreError> {
        let Self { pid, since } = self;
        in_time(async { Ok(db.execute_unprepared("SET ROLE NONE").await?) }).await?;
        let sql = format!(
            "SELECT CASE WHEN state IS DISTINCT FROM 'active' OR wait_event = 'ClientRead' \
             THEN pg_terminate_backend(pid) END \
             FROM pg_stat_activity WHERE pid = $1 AND {SINCE} = $2"
        );
        let is_over = query(db, &sql, [pid.into(), since.into()]).await?.is_empty();
        in_time(async { Ok(db.execute_unprepared("RESET ROLE").await?) }).await?;
        Ok(is_over)
    }
}

impl Writer {
    /// Whether the transaction stands that was to tell the other replicas at `told`, and whose
    /// last answer was lost. Asks until the database tells. One that has told others nothing
    /// counts as undone: there is nothing in it that could not be done again.
    pub async fn became(&self, told: Timestamp) -> bool {
        loop {
            match self.stands(told).await {
                Ok(Some(stands)) => return stands,
                Ok(None) | Err(_) => sleep(ASKED_EVERY).await,
            }
        }
    }

    /// None while that is not known.
    async fn stands(&self, told: Timestamp) -> Result<Option<bool>, StoreError> {
        let db = self.place.connect_writer().await?;
        let mut stands = None;
        if self.session.is_over(&db).await? {
            // A standby may not have it yet.
            let sql = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN \
                 EXISTS (SELECT 1 FROM batches WHERE time = $1 AND replica = $2) END";
            let found = query(&db, sql, [told.micros().into(), self.replica.into()]).await?;
            stands = first(&found)?.flatten();
        }
        in_time(async { Ok(db.close().await?) }).await?;
        Ok(stands)
    }
}
