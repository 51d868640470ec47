//! A real server for the tests: the binary itself, as a process on a port of its
//! own, that can be killed, drained and started again on the same data. It ends
//! with the test, and shows its log where the test fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::zombie_processes)]
#![allow(clippy::wildcard_enum_match_arm, dead_code, unreachable_pub, missing_docs)]

pub mod db;
pub mod engine;
pub mod postgres;
pub mod tmux;

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use prost_types::{Struct, Value, value};
use taskwatch::proto::{
    CreateTaskRequest, Frame, GetTaskRequest, Task, UpdateTaskRequest, WatchTaskRequest,
    task::State, task_service_client::TaskServiceClient,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

/// Nothing that is waited for takes longer than this, or the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub type Client = TaskServiceClient<Channel>;

/// One server process and the data that it leaves behind.
pub struct Server {
    folder: TempDir,
    database: String,
    config: Option<PathBuf>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    starts: usize,
    pub address: String,
}

impl Server {
    /// On a SQLite file in a directory of its own.
    pub async fn start() -> Self {
        Self::with(None, None).await
    }

    /// With a configuration file of this content.
    pub async fn configured(config: &str) -> Self {
        Self::with(None, Some(config)).await
    }

    /// On another database, where one is given.
    pub async fn with(database: Option<String>, config: Option<&str>) -> Self {
        Self::with_environment(database, config, &[]).await
    }

    /// And with these variables.
    pub async fn with_environment(
        database: Option<String>,
        config: Option<&str>,
        environment: &[(&str, &str)],
    ) -> Self {
        let folder = TempDir::new().expect("a directory");
        let path = folder.path().join("taskwatch.toml");
        let config = config.map(|text| {
            fs::write(&path, text).expect("configuration written");
            path
        });
        let database = database
            .unwrap_or_else(|| format!("sqlite://{}/taskwatch.db", folder.path().display()));
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let mut server = Self {
            folder,
            database,
            config,
            environment: environment.iter().map(own).collect(),
            child: None,
            starts: 0,
            address: "127.0.0.1:0".to_owned(),
        };
        server.start_again().await;
        server
    }

    /// Starts it on the same data and, from the second time on, the same port.
    pub async fn start_again(&mut self) {
        if let Err(how) = self.try_start().await {
            panic!("the server ended at its start: {how}");
        }
    }

    /// The same, where it may end at its start: then how it ended, with its log.
    pub async fn try_start(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "it still runs");
        self.starts += 1;
        let log = File::create(self.log_path()).expect("a log");
        let child = self.command().stderr(log).spawn().expect("the binary starts");
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(address) = listening(&log) {
                self.address = address;
                return Ok(());
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("waited"));
            if let Some(status) = ended {
                self.child = None;
                return Err(format!("{status}\n{}", self.log()));
            }
            assert!(Instant::now() < deadline, "the server does not listen\n{log}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The command line of this server, for a second process on the same data.
    pub fn command(&self) -> Command {
        let mut command = taskwatch();
        command.args(["serve", "--grace", "5s", "--log-format", "json"]);
        command.args(["--listen", &self.address, "--database", &self.database]);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.envs(self.environment.iter().cloned()).current_dir(self.folder.path());
        command
    }

    /// Ends it as a power cut would, as far as the process can tell.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// Asks it to stop: SIGTERM.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("told");
    }

    /// Waits for it to end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let child = self.child.as_mut().expect("it runs");
            if let Some(status) = child.try_wait().expect("waited") {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client on a connection of its own, that connects when it is first used.
    pub fn client(&self) -> Client {
        client(&self.address)
    }

    /// What the present process has logged.
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        File::open(self.log_path())
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .expect("the log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join(format!("log-{}", self.starts))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}", self.log());
        }
    }
}

/// Without the environment's settings.
fn deaf(command: &mut Command) {
    let ours = |key: &OsStr| key.as_encoded_bytes().starts_with(b"TASKWATCH_");
    for (key, _) in std::env::vars_os().filter(|(key, _)| ours(key)) {
        command.env_remove(key);
    }
}

/// The binary, deaf to the environment's settings and to the terminal.
pub fn taskwatch() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatch"));
    deaf(&mut command);
    // Its own group, so that a Ctrl-C of the terminal reaches the tests first.
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    command
}

/// Where a log says that the server listens.
fn listening(log: &str) -> Option<String> {
    log.lines().filter(|line| line.contains("listen")).find_map(|line| {
        line.match_indices("127.0.0.1:").find_map(|(at, host)| {
            let port: String =
                line[at + host.len()..].chars().take_while(char::is_ascii_digit).collect();
            (!port.is_empty() && port != "0").then(|| format!("{host}{port}"))
        })
    })
}

pub fn client(address: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    TaskServiceClient::new(endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy())
        .max_decoding_message_size(8 << 20)
}

/// A request for a task of this kind and input.
pub fn create(kind: &str, input: serde_json::Value) -> CreateTaskRequest {
    CreateTaskRequest { task: Some(task(kind, input)), ..Default::default() }
}

pub fn task(kind: &str, input: serde_json::Value) -> Task {
    let input = match input {
        serde_json::Value::Null => None,
        other => Some(object(other)),
    };
    Task { kind: kind.to_owned(), input, ..Default::default() }
}

/// A JSON object as a message.
pub fn object(json: serde_json::Value) -> Struct {
    match value(json).kind {
        Some(value::Kind::StructValue(object)) => object,
        other => panic!("not an object: {other:?}"),
    }
}

/// JSON as a message.
pub fn value(json: serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => value::Kind::NullValue(0),
        serde_json::Value::Bool(flag) => value::Kind::BoolValue(flag),
        serde_json::Value::Number(number) => {
            value::Kind::NumberValue(number.as_f64().expect("finite"))
        }
        serde_json::Value::String(text) => value::Kind::StringValue(text),
        serde_json::Value::Array(items) => value::Kind::ListValue(prost_types::ListValue {
            values: items.into_iter().map(value).collect(),
        }),
        serde_json::Value::Object(fields) => value::Kind::StructValue(Struct {
            fields: fields.into_iter().map(|(key, item)| (key, value(item))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

/// An update of one task, with its mask.
pub fn update(task: Task, paths: &[&str]) -> UpdateTaskRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    UpdateTaskRequest { task: Some(task), update_mask: Some(prost_types::FieldMask { paths }) }
}

/// Asks for another state.
pub async fn ask(client: &mut Client, name: &str, state: State) -> Result<Task, Status> {
    let task = Task { name: name.to_owned(), state: state.into(), ..Default::default() };
    Ok(client.update_task(update(task, &["state"])).await?.into_inner())
}

pub async fn get(client: &mut Client, name: &str) -> Result<Task, Status> {
    let request = GetTaskRequest { name: name.to_owned(), view: 0 };
    Ok(client.get_task(request).await?.into_inner())
}

pub fn watch(name: &str) -> WatchTaskRequest {
    WatchTaskRequest { name: name.to_owned(), ..Default::default() }
}

/// Follows one task on an open stream until `done` holds of a state.
pub async fn until(
    stream: &mut Streaming<Frame>,
    mut done: impl FnMut(&Task) -> bool,
) -> Result<Task, Status> {
    loop {
        let task = next(stream).await?.expect("a state before the end of the stream");
        if done(&task) {
            return Ok(task);
        }
    }
}

/// The next state on a stream of one task; none at its end.
pub async fn next(stream: &mut Streaming<Frame>) -> Result<Option<Task>, Status> {
    let frame = timeout(PATIENCE, stream.message()).await.expect("a message in time")?;
    Ok(frame.map(|frame| frame.event().expect("a good frame").task.expect("a task")))
}

/// Watches a task to its end, over restarts of the server: what a patient client
/// does. Checks on the way that revisions never shrink, and that only a terminal
/// state ends the stream with OK.
pub async fn to_the_end(address: &str, name: &str) -> Task {
    follow(address, name, |_| false).await
}

/// As `to_the_end`, but stops early at a state that it is told to look for.
pub async fn follow(address: &str, name: &str, mut done: impl FnMut(&Task) -> bool) -> Task {
    let deadline = Instant::now() + 2 * PATIENCE;
    let mut seen = 0;
    loop {
        assert!(Instant::now() < deadline, "{name} did not come to its end");
        let request = WatchTaskRequest { after_revision: seen, ..watch(name) };
        let mut last: Option<Task> = None;
        let cut = match client(address).watch_task(request).await {
            Err(status) => status,
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match next(&mut stream).await {
                        Ok(Some(task)) => {
                            assert!(task.revision >= seen, "{name}: a revision shrank");
                            seen = task.revision;
                            if done(&task) {
                                return task;
                            }
                            last = Some(task);
                        }
                        Ok(None) => {
                            let task = last.expect("a state before OK");
                            assert!(task.end_time.is_some(), "OK without a terminal state");
                            return task;
                        }
                        Err(status) => break status,
                    }
                }
            }
        };
        assert_ne!(cut.code(), Code::NotFound, "{name} was lost");
        sleep(Duration::from_millis(20)).await;
    }
}
