//! What Taskwatch is held against: servers on the same proto that do the least. They are
//! processes of their own, of this very program.

use std::{
    convert::Infallible,
    fs::File,
    future::Future,
    io::{BufRead, BufReader, Write},
    path::Path,
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::Arc,
    task::{Context, Poll},
};

use prost::Message as _;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement,
    TransactionTrait,
};
use taskwatch::proto::{
    Codec, CreateTaskRequest, Frame, GetTaskRequest, RetryPolicy, Task, UpdateTaskRequest,
    WatchEvent, WatchTaskRequest, task::State,
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
};
use tokio_stream::{
    StreamExt,
    wrappers::{TcpListenerStream, WatchStream},
};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codegen::{Service, http},
    server::Grpc,
    transport::Server,
};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// A baseline as a process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
    _folder: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("ended");
    }
}

impl Process {
    /// Stores nothing; streams frames that are ready-made.
    pub(crate) fn bare() -> Self {
        Self::start("serve-bare")
    }

    /// One INSERT and one COMMIT a request.
    pub(crate) fn commits() -> Self {
        Self::start("serve-commits")
    }

    /// Appends to a file, with one flush for all who wait, and never reads it.
    pub(crate) fn log() -> Self {
        Self::start("serve-log")
    }

    fn start(mode: &str) -> Self {
        let folder = TempDir::new().expect("a directory");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .arg(mode)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut address = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut address).expect("its address");
        Self { child, address: address.trim().to_owned(), _folder: folder }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// The child processes, by what they are told.
pub(crate) const MODES: [&str; 3] = ["serve-bare", "serve-commits", "serve-log"];

/// What the child processes run.
pub(crate) async fn serve(mode: &str) {
    let kept = match mode {
        "serve-commits" => Kept::Commits(database(Path::new("baseline.db")).await),
        "serve-log" => {
            let (log, entries) = mpsc::unbounded_channel();
            let file = File::create("baseline.log").expect("a file");
            tokio::spawn(append(file, entries));
            Kept::Log(log)
        }
        _ => Kept::Nothing,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    Server::builder()
        .add_service(Baseline { kept, frames: watch::Sender::new(frame(None)) })
        .serve_with_incoming(
            TcpListenerStream::new(listener)
                .map(|socket| socket.inspect(|socket| socket.set_nodelay(true).expect("set"))),
        )
        .await
        .expect("served");
}

/// A file as durable as Taskwatch's own.
async fn database(path: &Path) -> DatabaseConnection {
    let database = connect(path).await;
    let table =
        "CREATE TABLE tasks (id TEXT PRIMARY KEY, kind TEXT NOT NULL, state INTEGER NOT NULL)";
    database.execute_unprepared(table).await.expect("a table");
    database
}

/// Opens a database of SQLite by its one writer.
pub(crate) async fn connect(path: &Path) -> DatabaseConnection {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", path.display()));
    options.max_connections(1).sqlx_logging(false);
    let database = Database::connect(options).await.expect("a database");
    for sql in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"] {
        database.execute_unprepared(sql).await.expect(sql);
    }
    database
}

/// What is to be appended, and who waits until it stands.
type Entry = (Vec<u8>, oneshot::Sender<()>);

async fn append(file: File, mut entries: mpsc::UnboundedReceiver<Entry>) {
    let (file, mut batch) = (Arc::new(file), Vec::new());
    while entries.recv_many(&mut batch, 500).await > 0 {
        let (bytes, waiting): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let file = Arc::clone(&file);
        let written = spawn_blocking(move || {
            (&*file).write_all(&bytes.concat())?;
            file.sync_data()
        });
        written.await.expect("it ran").expect("written");
        for waits in waiting {
            // Who has gone does not wait any more.
            let _gone = waits.send(());
        }
    }
}

#[derive(Clone)]
enum Kept {
    Nothing,
    Commits(DatabaseConnection),
    Log(mpsc::UnboundedSender<Entry>),
}

#[derive(Clone)]
struct Baseline {
    kept: Kept,
    frames: watch::Sender<Frame>,
}

/// A task as long as those of Taskwatch.
fn task(kind: String) -> Task {
    let time = Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 123_456_000 });
    Task {
        name: format!("tasks/{}", uuid::Uuid::now_v7()),
        kind,
        state: State::Queued.into(),
        create_time: time,
        update_time: time,
        revision: 1,
        attempt: 1,
        queue: "default".to_owned(),
        retry_policy: Some(RetryPolicy::default()),
        ..Default::default()
    }
}

fn frame(progress: Option<taskwatch::proto::Progress>) -> Frame {
    let task = Task { progress, ..task("external".to_owned()) };
    Frame::new(&WatchEvent { task: Some(task), ..Default::default() })
}

impl Baseline {
    async fn create(self, request: CreateTaskRequest) -> Result<Response<Task>, Status> {
        let task = task(request.task.unwrap_or_default().kind);
        match &self.kept {
            Kept::Nothing => {}
            Kept::Commits(database) => {
                let insert = Statement::from_sql_and_values(
                    DbBackend::Sqlite,
                    "INSERT INTO tasks (id, kind, state) VALUES (?, ?, 1)",
                    [task.name.as_str().into(), task.kind.as_str().into()],
                );
                let broken = |error: sea_orm::DbErr| Status::new(Code::Internal, error.to_string());
                let transaction = database.begin().await.map_err(broken)?;
                transaction.execute_raw(insert).await.map_err(broken)?;
                transaction.commit().await.map_err(broken)?;
            }
            Kept::Log(log) => {
                let (done, stands) = oneshot::channel();
                log.send((task.encode_to_vec(), done)).expect("it is open");
                stands.await.expect("appended");
            }
        }
        Ok(Response::new(task))
    }

    async fn get(self, request: GetTaskRequest) -> Result<Response<Task>, Status> {
        Ok(Response::new(Task { name: request.name, ..task("external".to_owned()) }))
    }

    /// The one frame for all who watch.
    async fn update(self, request: UpdateTaskRequest) -> Result<Response<Task>, Status> {
        let progress = request.task.unwrap_or_default().progress;
        self.frames.send_replace(frame(progress));
        Ok(Response::new(task("external".to_owned())))
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        match method.as_str() {
            "CreateTask" => {
                let call =
                    service_fn(|request: Request<_>| self.clone().create(request.into_inner()));
                Grpc::new(ProstCodec::<Task, CreateTaskRequest>::default())
                    .unary(call, request)
                    .await
            }
            "GetTask" => {
                let call = service_fn(|request: Request<_>| self.clone().get(request.into_inner()));
                Grpc::new(ProstCodec::<Task, GetTaskRequest>::default()).unary(call, request).await
            }
            "UpdateTask" => {
                let call =
                    service_fn(|request: Request<_>| self.clone().update(request.into_inner()));
                Grpc::new(ProstCodec::<Task, UpdateTaskRequest>::default())
                    .unary(call, request)
                    .await
            }
            "WatchTask" => {
                let call = service_fn(|_: Request<WatchTaskRequest>| {
                    let frames = WatchStream::new(self.frames.subscribe());
                    std::future::ready(Ok(Response::new(frames.map(Ok::<_, Status>))))
                });
                Grpc::new(Codec::<Frame, WatchTaskRequest>::default())
                    .server_streaming(call, request)
                    .await
            }
            _ => Status::unimplemented(method).into_http(),
        }
    }
}

impl tonic::server::NamedService for Baseline {
    const NAME: &'static str = "taskwatch.v1.TaskService";
}

impl Service<http::Request<Body>> for Baseline {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}
