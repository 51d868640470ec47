//! What is broken: three servers, their wires, and the database behind them.

use std::{fs, path::Path, sync::Arc, time::Duration};

use rustix::process::Signal;
use sea_orm::{ConnectionTrait, Database};
use serde_json::json;
use tokio::{
    sync::Mutex,
    task::{JoinSet, block_in_place},
    time::{Instant, sleep},
};

use super::{
    proxy::Toxiproxy,
    schedule::{Fault, Line, Phase, REPLICAS, Step},
    support::{PATIENCE, Server, postgres::Cluster},
};

/// Leases are short, so that what is stopped loses them.
const CONFIG: &str = r#"
[runner]
lease = "2s"
concurrency = 16
[retry]
initial_backoff = "50ms"
max_backoff = "500ms"
[kinds]
accept_unknown = true
"#;

/// A database that was just restarted takes no word for a moment.
const TRY_AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct Field(Arc<Inner>);

struct Inner {
    servers: Vec<Mutex<Server>>,
    toxiproxy: Toxiproxy,
    cluster: Cluster,
    /// Past the wires.
    database: String,
    begin: Instant,
}

fn name(replica: usize) -> String {
    format!("replica-{replica}")
}

impl Field {
    pub async fn start() -> Self {
        let cluster = tokio::task::spawn_blocking(Cluster::start).await.expect("a cluster");
        let database = cluster.database();
        let (host, path) = database.rsplit_once('/').expect("a URL");
        let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        let toxiproxy = Toxiproxy::start().await;
        let mut servers = Vec::new();
        for replica in 0..REPLICAS {
            let name = name(replica);
            let wire = toxiproxy.wire(&name, port).await;
            let url = format!("postgres://postgres@{wire}/{path}?application_name={name}");
            servers.push(Mutex::new(Server::with(Some(url), Some(CONFIG)).await));
        }
        let begin = Instant::now();
        Self(Arc::new(Inner { servers, toxiproxy, cluster, database, begin }))
    }

    /// Where the servers listen, which they do at the same place again.
    pub async fn addresses(&self) -> Vec<String> {
        let mut addresses = Vec::new();
        for server in &self.0.servers {
            addresses.push(server.lock().await.address.clone());
        }
        addresses
    }

    /// Breaks all that is to be broken, and leaves all of it whole.
    pub async fn storm(&self, phases: &[Phase]) {
        for phase in phases {
            println!("{:6.2} s  replica {} is spared", self.now(), phase.spared);
            let mut lines = JoinSet::new();
            for line in phase.lines.clone() {
                let field = self.clone();
                lines.spawn(async move { field.walk(line).await });
            }
            while let Some(line) = lines.join_next().await {
                line.expect("a line of faults");
            }
        }
    }

    /// Keeps the logs of all servers beside what is named.
    pub async fn keep_logs(&self, beside: &Path) {
        fs::create_dir_all(beside).expect("a folder");
        for (replica, server) in self.0.servers.iter().enumerate() {
            let server = server.lock().await;
            for entry in fs::read_dir(server.folder()).expect("a folder").flatten() {
                let file = entry.file_name().to_string_lossy().into_owned();
                if file.starts_with("log-") {
                    let to = beside.join(format!("{}-{file}", name(replica)));
                    fs::copy(entry.path(), to).expect("kept");
                }
            }
        }
    }

    fn now(&self) -> f64 {
        self.0.begin.elapsed().as_secs_f64()
    }

    async fn walk(&self, line: Line) {
        for step in line.steps {
            sleep(step.pause).await;
            let whom = line.replica.map_or_else(|| "the database".to_owned(), name);
            println!("{:6.2} s  {whom}: {step}", self.now());
            match line.replica {
                None => self.database(step.fault).await,
                Some(replica) => self.replica(replica, step).await,
            }
        }
    }

    async fn database(&self, fault: Fault) {
        match fault {
            Fault::Restart => block_in_place(|| self.0.cluster.restart("fast")),
            Fault::Crash => block_in_place(|| self.0.cluster.restart("immediate")),
            Fault::TerminateAll => self.terminate("replica-%").await,
            _ => panic!("{fault:?} is nothing for a database"),
        }
    }

    async fn replica(&self, replica: usize, Step { fault, lasts, .. }: Step) {
        let (server, name) = (&self.0.servers[replica], name(replica));
        match fault {
            Fault::Kill => {
                let mut server = server.lock().await;
                server.kill();
                sleep(lasts).await;
                start(&mut server).await;
            }
            Fault::Stop => {
                let server = server.lock().await;
                server.signal(Signal::STOP);
                sleep(lasts).await;
                server.signal(Signal::CONT);
            }
            Fault::Drain => {
                let mut server = server.lock().await;
                server.terminate();
                server.ended().await;
                sleep(lasts).await;
                start(&mut server).await;
            }
            Fault::Late { millis } => {
                let attributes = json!({ "latency": millis, "jitter": millis / 2 });
                self.poison(&name, "latency", "downstream", attributes, lasts).await;
            }
            Fault::Reset => {
                self.poison(&name, "reset_peer", "downstream", json!({ "timeout": 0 }), lasts)
                    .await;
            }
            Fault::Swallow { answers } => {
                let stream = if answers { "downstream" } else { "upstream" };
                self.poison(&name, "timeout", stream, json!({ "timeout": 0 }), lasts).await;
            }
            Fault::Tear { bytes } => {
                let attributes = json!({ "bytes": bytes });
                self.poison(&name, "limit_data", "downstream", attributes, lasts).await;
            }
            Fault::Cut => {
                self.0.toxiproxy.enable(&name, false).await;
                sleep(lasts).await;
                self.0.toxiproxy.enable(&name, true).await;
            }
            Fault::Terminate => self.terminate(&name).await,
            Fault::Restart | Fault::Crash | Fault::TerminateAll => {
                panic!("{fault:?} is nothing for a replica")
            }
        }
    }

    async fn poison(
        &self,
        name: &str,
        toxic: &str,
        stream: &str,
        attributes: serde_json::Value,
        lasts: Duration,
    ) {
        self.0.toxiproxy.poison(name, toxic, stream, attributes).await;
        sleep(lasts).await;
        self.0.toxiproxy.cure(name).await;
    }

    /// Terminates the backends of those whose name is like this.
    async fn terminate(&self, like: &str) {
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name LIKE '{like}'"
        );
        let begin = Instant::now();
        loop {
            let done = async {
                let database = Database::connect(&self.0.database).await?;
                database.execute_unprepared(&sql).await?;
                database.close().await
            };
            match done.await {
                Ok(()) => return,
                // It is being restarted by another line.
                Err(error) => assert!(begin.elapsed() < PATIENCE, "{error}"),
            }
            sleep(TRY_AGAIN).await;
        }
    }
}

/// Starts it, as often as it takes while its database is not there.
async fn start(server: &mut Server) {
    let begin = Instant::now();
    while let Err(how) = server.try_start().await {
        assert!(begin.elapsed() < PATIENCE, "the server ends at its start: {how}");
        sleep(TRY_AGAIN).await;
    }
}
