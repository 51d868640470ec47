//! CreateTask with 256 requests in flight: the real service on SQLite, beside a
//! server that does one INSERT and one COMMIT for each request, and beside one that
//! stores nothing. The same proto and the same client, in alternating rounds, so
//! that all of them meet the same machine.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement,
    TransactionTrait,
};
use taskwatch::proto::{CreateTaskRequest, Task, task_service_client::TaskServiceClient};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codegen::{Service, http},
    server::{Grpc, UnaryService},
    transport::{Channel, Endpoint, Server},
};
use tonic_prost::ProstCodec;

const IN_FLIGHT: usize = 256;
const CONNECTIONS: usize = 4;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);

/// What answers CreateTask: a table with one commit a request, or nothing.
#[derive(Clone)]
struct Baseline(Option<DatabaseConnection>);

impl Baseline {
    async fn stored(folder: &Path) -> Self {
        let url = format!("sqlite://{}/baseline.db?mode=rwc", folder.display());
        let mut options = ConnectOptions::new(url);
        // SQLite has one writer; a second connection would only wait for it.
        options.max_connections(1).sqlx_logging(false);
        let database = Database::connect(options).await.expect("a database");
        for sql in [
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "CREATE TABLE tasks (id TEXT PRIMARY KEY, kind TEXT NOT NULL, state INTEGER NOT NULL)",
        ] {
            database.execute_unprepared(sql).await.expect(sql);
        }
        Self(Some(database))
    }

    async fn create(self, request: CreateTaskRequest) -> Result<Response<Task>, Status> {
        let mut task = request.task.unwrap_or_default();
        let id = uuid::Uuid::now_v7().to_string();
        if let Some(database) = &self.0 {
            let insert = Statement::from_sql_and_values(
                DbBackend::Sqlite,
                "INSERT INTO tasks (id, kind, state) VALUES (?, ?, 1)",
                [id.as_str().into(), task.kind.as_str().into()],
            );
            let broken = |error: sea_orm::DbErr| Status::new(Code::Internal, error.to_string());
            let transaction = database.begin().await.map_err(broken)?;
            transaction.execute_raw(insert).await.map_err(broken)?;
            transaction.commit().await.map_err(broken)?;
        }
        task.name = format!("tasks/{id}");
        Ok(Response::new(task))
    }
}

impl UnaryService<CreateTaskRequest> for Baseline {
    type Response = Task;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Task>, Status>> + Send>>;

    fn call(&mut self, request: Request<CreateTaskRequest>) -> Self::Future {
        Box::pin(self.clone().create(request.into_inner()))
    }
}

impl tonic::server::NamedService for Baseline {
    const NAME: &'static str = "taskwatch.v1.TaskService";
}

impl Service<http::Request<Body>> for Baseline {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<http::Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            Ok(Grpc::new(ProstCodec::<Task, CreateTaskRequest>::default())
                .unary(service, request)
                .await)
        })
    }
}

/// One of the servers to compare, as a process of its own; killed when dropped.
struct Contestant {
    what: &'static str,
    clients: Vec<TaskServiceClient<Channel>>,
    rates: Vec<f64>,
    child: Child,
}

impl Drop for Contestant {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("ended");
    }
}

impl Contestant {
    async fn start(what: &'static str, mut command: Command, folder: &Path) -> Self {
        let log = folder.join(format!("{what}.log"));
        command.stderr(File::create(&log).expect("a log")).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::null()).spawn().expect("it starts");
        let deadline = Instant::now() + Duration::from_secs(30);
        let address = loop {
            let text = std::fs::read_to_string(&log).expect("the log");
            // The first port that it names is the one that it listens on.
            let port = text.match_indices("127.0.0.1:").find_map(|(at, host)| {
                let rest = &text[at + host.len()..];
                let end = rest.find(|c: char| !c.is_ascii_digit())?;
                (end > 0 && &rest[..end] != "0").then(|| rest[..end].to_owned())
            });
            if let Some(port) = port {
                break format!("http://127.0.0.1:{port}");
            }
            let ended = child.try_wait().expect("waited");
            assert!(ended.is_none() && Instant::now() < deadline, "{what} is not up\n{text}");
            sleep(Duration::from_millis(20)).await;
        };
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let endpoint = Endpoint::from_shared(address.clone()).expect("an address");
            let channel = endpoint.connect().await.expect("a connection");
            clients.push(TaskServiceClient::new(channel));
        }
        Self { what, clients, rates: Vec::new(), child }
    }

    /// Creates a second, as measured over one round.
    async fn round(&mut self) {
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for caller in 0..IN_FLIGHT {
            let mut client = self.clients[caller % CONNECTIONS].clone();
            callers.spawn(async move {
                let mut done = 0_u32;
                while start.elapsed() < ROUND {
                    let task = Task { kind: "external".to_owned(), ..Default::default() };
                    let request = CreateTaskRequest { task: Some(task), ..Default::default() };
                    client.create_task(request).await.expect("created");
                    done += 1;
                }
                done
            });
        }
        let done: u32 = callers.join_all().await.iter().sum();
        self.rates.push(f64::from(done) / start.elapsed().as_secs_f64());
    }

    /// Median, lowest and highest.
    fn figures(&self) -> (f64, f64, f64) {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        (rates[rates.len() / 2], rates[0], rates[rates.len() - 1])
    }
}

/// What the child processes of this benchmark run.
async fn serve(baseline: Baseline) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    eprintln!("listens on {} ", listener.local_addr().expect("an address"));
    Server::builder()
        .add_service(baseline)
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .expect("served");
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("serve-commit") => {
            return serve(Baseline::stored(Path::new(&arguments[2])).await).await;
        }
        Some("serve-nothing") => return serve(Baseline(None)).await,
        Some(_) | None => {}
    }
    let folder = TempDir::new().expect("a directory");
    let path = folder.path();
    let own = |mode: &str| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg(mode).arg(path);
        command
    };
    let mut service = Command::new(env!("CARGO_BIN_EXE_taskwatch"));
    service.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--database"]);
    service.arg(format!("sqlite://{}/taskwatch.db", path.display())).current_dir(path);
    let mut contestants = [
        Contestant::start("taskwatch", service, path).await,
        Contestant::start("one commit a request", own("serve-commit"), path).await,
        Contestant::start("stores nothing", own("serve-nothing"), path).await,
    ];
    for round in 0..=ROUNDS {
        for contestant in &mut contestants {
            contestant.round().await;
            if round == 0 {
                // The first round warms up.
                contestant.rates.clear();
            }
        }
    }
    println!("CreateTask, {IN_FLIGHT} in flight, {ROUNDS} rounds of {ROUND:?} each\n");
    println!(
        "{:<22} {:>10} {:>10} {:>10} {:>8}",
        "server", "median/s", "lowest", "highest", "ratio"
    );
    let (base, ..) = contestants[1].figures();
    for contestant in &contestants {
        let (median, low, high) = contestant.figures();
        println!(
            "{:<22} {median:>10.0} {low:>10.0} {high:>10.0} {:>7.1}x",
            contestant.what,
            median / base
        );
    }
}
