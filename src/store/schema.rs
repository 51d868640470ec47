//! The tables, brought up to date when the database is opened. Both databases
//! have the same ones: times and spans are whole microseconds, text compares as
//! bytes, payloads are bytes.

use sea_orm_migration::prelude::*;

/// The migrations, oldest first. One that has been released is never changed.
pub(super) struct Migrator;

#[sea_orm_migration::async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let steps = [
            Step { both: FIRST, postgres: FIRST_POSTGRES, ..Step::named("m0001_tasks") },
            // What several replicas tell one another.
            Step { postgres: REPLICAS, ..Step::named("m0002_replicas") },
            Step { both: NEW, ..Step::named("m0003_new") },
            Step { both: PHASES, ..Step::named("m0004_phases") },
            Step { sqlite: CHECKS_SQLITE, ..Step::named("m0005_checks") },
        ];
        steps.into_iter().map(|step| Box::new(step) as Box<dyn MigrationTrait>).collect()
    }
}

/// One migration: statements for both databases, then some for one of them alone.
struct Step {
    name: &'static str,
    both: &'static str,
    postgres: &'static str,
    sqlite: &'static str,
}

impl Step {
    const fn named(name: &'static str) -> Self {
        Self { name, both: "", postgres: "", sqlite: "" }
    }
}

impl MigrationName for Step {
    fn name(&self) -> &str {
        self.name
    }
}

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for Step {
    /// SQLite as well: what is cut short is as if it had not begun.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let postgres = manager.get_database_backend() == sea_orm::DbBackend::Postgres;
        let only = if postgres { self.postgres } else { self.sqlite };
        for statement in self.both.split(';').chain(only.split(';')) {
            if !statement.trim().is_empty() {
                let statement = dialect(statement.trim(), postgres);
                manager.get_connection().execute_unprepared(&statement).await?;
            }
        }
        Ok(())
    }
}

/// The few words in which the databases differ.
fn dialect(statement: &str, postgres: bool) -> String {
    if postgres {
        statement
            .replace("BLOB", "BYTEA")
            .replace(" TEXT", " TEXT COLLATE \"C\"")
            .replace("DOUBLE", "DOUBLE PRECISION")
            .replace("INTEGER PRIMARY KEY", "BIGINT PRIMARY KEY")
    } else {
        statement.to_owned()
    }
}

/// `tasks`: what changes with a task's state. `end_order` is `end_time`, or the
/// smallest number where there is none, so that every key of a list is comparable.
/// `due` is NULL where a task does not wait for a worker, 0 before its
/// `ready_time`, 1 from then on. `running` has a row for each live lease, with what
/// a report changes; `attempts` one for each that ended, numbered task by task.
/// `rates` says of a limited kind or queue up to when its rate is used up.
const FIRST: &str = "
CREATE TABLE tasks (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    queue_set SMALLINT NOT NULL,
    state SMALLINT NOT NULL DEFAULT 1,
    priority INTEGER NOT NULL,
    labels BLOB,
    schedule_time BIGINT,
    ready_time BIGINT NOT NULL,
    due SMALLINT,
    max_attempts BIGINT,
    initial_backoff BIGINT,
    max_backoff BIGINT,
    backoff_multiplier DOUBLE,
    attempt_timeout BIGINT,
    retention BIGINT,
    create_time BIGINT NOT NULL,
    start_time BIGINT,
    end_time BIGINT,
    end_order BIGINT NOT NULL DEFAULT (-9223372036854775807),
    update_time BIGINT NOT NULL,
    revision BIGINT NOT NULL DEFAULT 1,
    settled_revision BIGINT NOT NULL DEFAULT 1,
    attempt BIGINT NOT NULL DEFAULT 1,
    first_attempt BIGINT NOT NULL DEFAULT 1,
    worker TEXT,
    progress BLOB,
    checkpoint BLOB,
    error BLOB,
    lease_token BLOB,
    lease_duration BIGINT,
    limit_kind SMALLINT NOT NULL DEFAULT 0,
    limit_value BIGINT,
    by_runner SMALLINT NOT NULL DEFAULT 0,
    last_token BLOB,
    last_digest BLOB,
    CHECK (state BETWEEN 1 AND 7),
    CHECK (priority BETWEEN -100 AND 100),
    CHECK ((state IN (5, 6, 7)) = (end_time IS NOT NULL)),
    CHECK (state IN (2, 3, 4) OR lease_token IS NULL),
    CHECK ((lease_token IS NULL) = (lease_duration IS NULL)),
    CHECK (kind = 'external' OR state NOT IN (2, 4) OR lease_token IS NOT NULL),
    CHECK (state <> 6 OR error IS NOT NULL),
    CHECK ((due IS NOT NULL) = (state = 1 AND kind <> 'external'))
);
CREATE UNIQUE INDEX tasks_id ON tasks (id);
CREATE INDEX tasks_due ON tasks (kind, queue, priority DESC, ready_time, row) WHERE due = 1;
CREATE INDEX tasks_not_due ON tasks (ready_time, kind, queue) WHERE due = 0;
CREATE INDEX tasks_external ON tasks (queue) WHERE kind = 'external' AND state = 1;
CREATE INDEX tasks_limit ON tasks (limit_value) WHERE limit_kind = 1 AND by_runner = 0;
CREATE INDEX tasks_by_runner ON tasks (by_runner) WHERE by_runner = 1;
CREATE INDEX tasks_create ON tasks (create_time, row);
CREATE INDEX tasks_update ON tasks (update_time, row);
CREATE INDEX tasks_end ON tasks (end_order, row);
CREATE INDEX tasks_priority ON tasks (priority, create_time, row);
CREATE INDEX tasks_state ON tasks (state, create_time, row);
CREATE INDEX tasks_kind ON tasks (kind, create_time, row);
CREATE INDEX tasks_queue ON tasks (queue, create_time, row);
CREATE INDEX tasks_retention ON tasks (end_time)
    WHERE retention IS NULL AND end_time IS NOT NULL;
CREATE INDEX tasks_own_retention ON tasks ((end_time + retention))
    WHERE retention IS NOT NULL AND end_time IS NOT NULL;
CREATE TABLE running (
    row INTEGER PRIMARY KEY,
    revision BIGINT NOT NULL,
    progress BLOB,
    checkpoint BLOB,
    expire_time BIGINT NOT NULL
);
CREATE INDEX running_expire ON running (expire_time);
CREATE TABLE inputs (row INTEGER PRIMARY KEY, input BLOB NOT NULL);
CREATE TABLE results (row INTEGER PRIMARY KEY, result BLOB NOT NULL);
CREATE TABLE labels (
    row BIGINT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (row, key)
);
CREATE INDEX labels_value ON labels (key, value, create_time, row);
CREATE TABLE requests (
    request_id TEXT NOT NULL PRIMARY KEY,
    digest BLOB NOT NULL,
    task_id TEXT NOT NULL,
    task_row BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    expire_time BIGINT
);
CREATE INDEX requests_task ON requests (task_row);
CREATE INDEX requests_expire ON requests (expire_time) WHERE expire_time IS NOT NULL;
CREATE TABLE attempts (
    row BIGINT NOT NULL,
    number BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    worker TEXT,
    start_time BIGINT NOT NULL,
    end_time BIGINT NOT NULL,
    end_state SMALLINT NOT NULL,
    error BLOB,
    PRIMARY KEY (row, number)
);
CREATE TABLE kinds (kind TEXT NOT NULL PRIMARY KEY, last_worker_time BIGINT NOT NULL);
CREATE TABLE paused_queues (queue TEXT NOT NULL PRIMARY KEY);
CREATE TABLE rates (name TEXT NOT NULL PRIMARY KEY, used BIGINT NOT NULL);
";

/// Numbers for rows, and room for updates in place: a report must not leave dead
/// entries in any index but that of the end of the lease.
const FIRST_POSTGRES: &str = "
CREATE SEQUENCE tasks_row;
ALTER TABLE tasks SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01);
ALTER TABLE running SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000);
";

/// `batches`: what each commit changed, for a minute, under the number that was notified;
/// `xid` is its transaction. `departed`: deleted tasks as they were, where they had ended
/// only just before. What is written again and again, or comes and goes, is vacuumed
/// early: by its dead rows, and not by its share of all that is kept.
const REPLICAS: &str = "
CREATE TABLE batches (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid BIGINT NOT NULL,
    replica BIGINT NOT NULL,
    time BIGINT NOT NULL,
    notice BYTEA NOT NULL
);
CREATE INDEX batches_xid ON batches (xid);
CREATE INDEX batches_time ON batches (time);
CREATE TABLE departed (
    row BIGINT PRIMARY KEY,
    time BIGINT NOT NULL,
    task JSONB NOT NULL,
    result BYTEA
);
CREATE INDEX departed_time ON departed (time);
ALTER TABLE batches SET (autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE departed SET (autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE running SET (autovacuum_vacuum_cost_delay = 0);
ALTER TABLE rates SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE kinds SET (fillfactor = 50);
ALTER TABLE inputs SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE results SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE labels SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE attempts SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE requests SET (autovacuum_vacuum_scale_factor = 0.02)
";

/// `changed` was 0 where a task is as it was created.
const NEW: &str = "
ALTER TABLE tasks ADD COLUMN changed SMALLINT NOT NULL DEFAULT 0;
UPDATE tasks SET changed = 1
    WHERE NOT (state = 1 AND priority = 0 AND update_time = create_time);
DROP INDEX tasks_create;
DROP INDEX tasks_update;
DROP INDEX tasks_end;
DROP INDEX tasks_priority;
DROP INDEX tasks_state;
CREATE INDEX tasks_new ON tasks (create_time, row) WHERE changed = 0;
CREATE INDEX tasks_create ON tasks (create_time, row) WHERE changed = 1;
CREATE INDEX tasks_update ON tasks (update_time, row) WHERE changed = 1;
CREATE INDEX tasks_priority ON tasks (priority, create_time, row) WHERE changed = 1;
CREATE INDEX tasks_state ON tasks (state, create_time, row) WHERE changed = 1;
CREATE INDEX tasks_end ON tasks (end_order, create_time, row) WHERE end_time IS NOT NULL
";

/// In which indexes for lists a task is: see `parts`. A column, since an index is written again
/// with every change of what its condition reads.
const PHASES: &str = "
DROP INDEX tasks_new;
DROP INDEX tasks_create;
DROP INDEX tasks_update;
DROP INDEX tasks_priority;
DROP INDEX tasks_state;
DROP INDEX tasks_end;
DROP INDEX tasks_kind;
DROP INDEX tasks_queue;
DROP INDEX tasks_external;
DROP INDEX tasks_retention;
ALTER TABLE tasks DROP COLUMN end_order;
ALTER TABLE tasks RENAME COLUMN changed TO phase;
UPDATE tasks SET phase = CASE
    WHEN priority <> 0 THEN 1
    WHEN lease_token IS NOT NULL THEN 0
    WHEN state = 1 AND update_time = create_time AND ready_time = create_time THEN 0
    WHEN end_time = update_time AND retention IS NULL THEN 2
    ELSE 1
END;
CREATE INDEX tasks_fresh ON tasks (kind, create_time, row) WHERE phase = 0;
CREATE INDEX tasks_external ON tasks (queue, create_time, row)
    WHERE kind = 'external' AND state = 1;
CREATE INDEX tasks_create ON tasks (create_time, row) WHERE phase = 1;
CREATE INDEX tasks_update ON tasks (update_time, row) WHERE phase = 1;
CREATE INDEX tasks_priority ON tasks (priority, create_time, row) WHERE phase = 1;
CREATE INDEX tasks_state ON tasks (state, create_time, row) WHERE phase = 1;
CREATE INDEX tasks_end ON tasks (end_time, create_time, row)
    WHERE phase = 1 AND end_time IS NOT NULL;
CREATE INDEX tasks_retention ON tasks (end_time)
    WHERE phase = 1 AND retention IS NULL AND end_time IS NOT NULL;
CREATE INDEX tasks_ended ON tasks (end_time, create_time, row) WHERE phase = 2;
CREATE INDEX tasks_ended_state ON tasks (state, create_time, row) WHERE phase = 2;
CREATE INDEX tasks_kind ON tasks (kind, create_time, row) WHERE phase >= 1;
CREATE INDEX tasks_queue ON tasks (queue, create_time, row) WHERE phase >= 1
";

/// SQLite makes a table of a list of three, for each row that is written. This is its own way
/// to say the same rules in other words without writing all rows again:
/// <https://www.sqlite.org/lang_altertable.html#otheralter>.
const CHECKS_SQLITE: &str = "
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(sql,
    'state IN (5, 6, 7)', 'state >= 5'), 'state IN (2, 3, 4)', 'state BETWEEN 2 AND 4')
    WHERE type = 'table' AND name = 'tasks';
PRAGMA writable_schema = RESET
";

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait, Database};

    use super::*;

    #[tokio::test]
    async fn an_older_file_keeps_its_tasks_and_its_rules() {
        let folder = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}/t.db?mode=rwc", folder.path().display());
        let database = Database::connect(url).await.expect("a database");
        Migrator::up(&database, Some(4)).await.expect("as it was");
        let insert = |row: i32, state: i32, end_time: &str| {
            format!(
                "INSERT INTO tasks (row, id, kind, queue, queue_set, state, priority, ready_time, \
                 create_time, end_time, update_time) \
                 VALUES ({row}, 't{row}', 'external', 'q', 1, {state}, 0, 1, 1, {end_time}, 1)"
            )
        };
        database.execute_unprepared(&insert(1, 5, "1")).await.expect("one that has ended");
        Migrator::up(&database, None).await.expect("brought up to date");
        for (row, state, end_time) in [(2, 5, "NULL"), (3, 4, "1"), (4, 8, "1"), (5, 6, "1")] {
            let written = database.execute_unprepared(&insert(row, state, end_time)).await;
            let error = written.expect_err("it breaks a rule").to_string();
            assert!(error.contains("CHECK"), "{row}: {error}");
        }
        let row = |sql: &str| {
            let sql = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, sql);
            async { database.query_one_raw(sql).await.expect("read").expect("a row") }
        };
        let kept: String = row("SELECT id FROM tasks").await.try_get_by_index(0).expect("an id");
        assert_eq!(kept, "t1");
        let whole: String =
            row("PRAGMA integrity_check").await.try_get_by_index(0).expect("a word");
        assert_eq!(whole, "ok");
        // Each list of three or more would be made a table for each row that is written.
        let rules: String = row("SELECT sql FROM sqlite_schema WHERE name = 'tasks'")
            .await
            .try_get_by_index(0)
            .expect("the rules");
        assert!(!rules.contains("IN (2, 3, 4)") && !rules.contains("IN (5, 6, 7)"), "{rules}");
    }
}
