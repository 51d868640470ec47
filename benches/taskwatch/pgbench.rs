//! The database alone: the statements that a server writes a batch of new tasks with, as
//! PostgreSQL's own log has them, sent by pgbench.

use std::{path::PathBuf, process::Command};

use sea_orm::{ConnectionTrait, Database};
use taskwatch::proto::BatchCreateTasksRequest;
use tempfile::TempDir;

use crate::{
    CONFIG,
    support::{
        Server, create,
        postgres::{Cluster, value},
    },
};

/// Tasks in one statement.
pub(crate) const BATCH: usize = 128;

/// A script for pgbench.
pub(crate) struct Script {
    folder: TempDir,
    programs: PathBuf,
}

impl Script {
    /// Has a server of its own create one batch, and reads what it sent.
    pub(crate) async fn captured(cluster: &Cluster) -> Self {
        let url = cluster.database();
        let database = Database::connect(&url).await.expect("connected");
        let text = async |sql: &str| -> String { value(&database, sql).await };
        let server = Server::with(Some(url.clone()), Some(CONFIG)).await;
        let data = PathBuf::from(text("SHOW data_directory").await);
        let log = data.parent().expect("a folder").join("log");
        let batch = BatchCreateTasksRequest {
            requests: vec![create("external", serde_json::Value::Null); BATCH],
        };
        // The first one prepares the statements.
        server.client().batch_create_tasks(batch.clone()).await.expect("created");
        database.execute_unprepared("ALTER SYSTEM SET log_statement = 'all'").await.expect("set");
        database
            .execute_unprepared("ALTER SYSTEM SET log_parameter_max_length = -1")
            .await
            .expect("set");
        database.execute_unprepared("SELECT pg_reload_conf()").await.expect("loaded");
        let is_logged = async || text("SELECT current_setting('log_statement')").await == "all";
        while !is_logged().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let created = server.client().batch_create_tasks(batch).await.expect("created");
        let names = created.into_inner().tasks.into_iter().map(|task| task.name);
        let ids: Vec<String> = names.map(|name| name.replacen("tasks/", "", 1)).collect();
        database.execute_unprepared("ALTER SYSTEM RESET ALL").await.expect("reset");
        database.execute_unprepared("SELECT pg_reload_conf()").await.expect("loaded");
        let programs = text("SELECT setting FROM pg_config WHERE name = 'BINDIR'").await;
        let log = std::fs::read_to_string(&log).expect("the log");
        let folder = TempDir::new().expect("a directory");
        std::fs::write(folder.path().join("batch.sql"), script(&log, &ids)).expect("written");
        Self { folder, programs: programs.into() }
    }

    /// Transactions a second with so many connections.
    pub(crate) fn run(&self, url: &str, connections: usize, seconds: u64) -> f64 {
        let address = url.split('@').nth(1).expect("an address");
        let (host, name) = address.split_once('/').expect("a database");
        let port = host.split(':').nth(1).expect("a port");
        let connections = connections.to_string();
        let output = Command::new(self.programs.join("pgbench"))
            .args(["-n", "-M", "prepared", "-h", "127.0.0.1", "-U", "postgres", "-p", port])
            .args(["-c", &connections, "-j", &connections, "-T", &seconds.to_string()])
            .arg("-f")
            .arg(self.folder.path().join("batch.sql"))
            .arg(name)
            .output()
            .expect("pgbench");
        let said = String::from_utf8_lossy(&output.stdout);
        let rate = said.split("tps = ").nth(1).and_then(|rest| rest.split(' ').next());
        rate.and_then(|rate| rate.parse().ok()).unwrap_or_else(|| {
            let error = String::from_utf8_lossy(&output.stderr);
            panic!("pgbench: {said}\n{}", error.chars().take(500).collect::<String>())
        })
    }
}

/// The last insertion, one statement that commits by itself, with ids and numbers that are new
/// each time.
fn script(log: &str, ids: &[String]) -> String {
    // Lines as `time [pid] LOG:  execute name: statement` and `… DETAIL:  parameters: …`.
    let field = |line: &str, what: &str| {
        let (head, rest) = line.split_once(what)?;
        let pid = head.split('[').nth(1)?.split(']').next()?.to_owned();
        Some((pid, rest.to_owned()))
    };
    let lines: Vec<&str> = log.lines().collect();
    let (at, writer, sql) = lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| {
            let (pid, rest) = field(line, "LOG:  execute ")?;
            Some((at, pid, rest.split_once(": ")?.1.to_owned()))
        })
        .rfind(|(_, _, sql)| sql.contains("INSERT INTO tasks"))
        .expect("the insertion was logged");
    let parameters = lines[at..]
        .iter()
        .filter_map(|line| field(line, "DETAIL:  parameters: "))
        .find(|(pid, _)| *pid == writer)
        .map(|(_, list)| values(&list))
        .expect("its parameters were logged");
    // Here the numbers come with the rows, since pgbench would have to read them back, and none
    // for later.
    let (ahead, none) = ("generate_series(1, 1000)", "generate_series(1, 0)");
    let sql = sql.replace(ahead, none);
    assert!(sql.contains(none), "numbers of later rows come along");
    let mut text = String::new();
    let mut last = 0;
    for (at, _) in sql.char_indices().filter(|(_, c)| *c == '$') {
        let digits = sql[at + 1..].find(|c: char| !c.is_ascii_digit());
        let end = digits.map_or(sql.len(), |digits| at + 1 + digits);
        let Ok(number) = sql[at + 1..end].parse::<usize>() else { continue };
        text.push_str(&sql[last..at]);
        last = end;
        let value = &parameters[number - 1];
        if value.contains(ids[0].as_str()) {
            // As long as the real ones, and in the order of their making as they are.
            text.push_str(&format!(
                "(ARRAY(SELECT lpad(to_hex((extract(epoch FROM clock_timestamp()) * \
                 1000000)::bigint) || lpad(to_hex(pg_backend_pid()), 8, '0') \
                 || lpad(to_hex(n), 8, '0'), 36, '0') FROM generate_series(1, {BATCH}) n))"
            ));
        } else if number == 1 {
            text.push_str(&format!(
                "(ARRAY(SELECT nextval('tasks_row') FROM generate_series(1, {BATCH})))"
            ));
        } else {
            text.push_str(value);
        }
    }
    text.push_str(&sql[last..]);
    text.push_str(";\n");
    text
}

/// `$1 = '1', $2 = NULL, …` as literals.
fn values(list: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = list;
    while let Some((_, value)) = rest.split_once(" = ") {
        let mut length = 0;
        if value.starts_with('\'') {
            length = 1;
            // A quote within is doubled.
            while let Some(at) = value[length..].find('\'') {
                length += at + 1;
                if !value[length..].starts_with('\'') {
                    break;
                }
                length += 1;
            }
        } else {
            length += value.find(',').unwrap_or(value.len());
        }
        values.push(value[..length].to_owned());
        rest = &value[length..];
    }
    values
}
