//! Clients that balance, each with its language's own means, over three replicas of which one
//! hangs and dies, one drains and one comes back: every call that is retried is answered, none
//! creates twice, and every watch reaches the end of its task. `make tools` builds them.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::json;
use support::{Client, PATIENCE, Server, create, follow};
use taskwatch::proto::{ListTasksRequest, Task, task::State};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const TASKS: usize = 500;
const AT_ONCE: usize = 24;

/// Runs demos; a lease ends soon where a server died.
const RUNS: &str = "[runner]\nlease = \"2s\"\n";
/// Also a program that holds its drain up.
const STUBBORN: &str = "[runner]\nlease = \"2s\"\n[kinds.stubborn]\nstop_grace = \"3s\"\n\
    command = [\"sh\", \"-c\", \"trap '' TERM; while :; do sleep 0.1; done\"]\n";

async fn replica(database: &str, config: &str) -> Server {
    let logs = [("TASKWATCH_LOG", "info,h2::codec=debug")];
    Server::with_environment(Some(database.to_owned()), Some(config), &logs).await
}

/// Calls that have come to this process, as its log tells.
fn calls(server: &Server) -> usize {
    let is_call = |line: &&str| line.contains("\"received\"") && line.contains("\"Headers ");
    server.log().lines().filter(is_call).count()
}

/// One of the programs, with what it prints.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    ended: BTreeSet<String>,
    folder: TempDir,
}

impl Program {
    fn start(command: &[&str], replicas: &[&Server]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in command.iter().map(|part| root.join(part)) {
            assert!(part.exists(), "{} is missing: run `make tools`", part.display());
        }
        let addresses: Vec<_> = replicas.iter().map(|server| server.address.as_str()).collect();
        let folder = TempDir::new().expect("a directory");
        let mut child = Command::new(root.join(command[0]))
            .args(command[1..].iter().map(|part| root.join(part)))
            .args(["--address", &addresses.join(",")])
            .args(["--tasks", &TASKS.to_string(), "--at-once", &AT_ONCE.to_string()])
            .args(["demo", r#"{"steps": 4, "step_seconds": 0.1}"#])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("stderr")).expect("a file"))
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}: run `make tools`"));
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines, ended: BTreeSet::new(), folder }
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).expect("what it complained of")
    }

    /// Takes the next task that it followed to its end; none when it has ended itself.
    async fn next(&mut self) -> Option<()> {
        let line = self.lines.next_line().await.expect("text")?;
        let (name, state) = line.split_once(' ').expect("a name and a state");
        assert_eq!(state, "SUCCEEDED", "{name}");
        assert!(self.ended.insert(name.to_owned()), "{name} ended twice");
        Some(())
    }

    /// Waits until so many more tasks have ended.
    async fn goes_on(&mut self, tasks: usize) {
        for _ in 0..tasks {
            let next = timeout(PATIENCE, self.next()).await;
            let ended = self.ended.len();
            assert!(next == Ok(Some(())), "{next:?} after {ended}\n{}", self.stderr());
        }
    }

    /// Waits until its calls hang, or it has gone on without them for long enough.
    async fn hangs(&mut self) {
        for _ in 0..2 * AT_ONCE {
            if timeout(Duration::from_secs(2), self.next()).await.is_err() {
                return;
            }
        }
    }
}

async fn all(client: &mut Client) -> Vec<Task> {
    let filter = "kind = \"demo\"".to_owned();
    let request = ListTasksRequest { filter, page_size: 1_000, ..Default::default() };
    let page = client.list_tasks(request).await.unwrap().into_inner();
    assert_eq!(page.next_page_token, "");
    page.tasks
}

async fn balances(command: &[&str]) {
    let database = support::postgres::database().await;
    let (mut a, mut b) = (replica(&database, RUNS).await, replica(&database, STUBBORN).await);
    let c = replica(&database, RUNS).await;
    let stubborn = create("stubborn", json!(null));
    let stubborn = b.client().create_task(stubborn).await.unwrap().into_inner();
    follow(&b.address, &stubborn.name, |task| task.state() == State::Running).await;

    let mut program = Program::start(command, &[&a, &b, &c]);
    program.goes_on(3 * AT_ONCE).await;
    for server in [&a, &b, &c] {
        assert!(calls(server) > AT_ONCE, "no share of the calls\n{}", server.log());
    }

    // Calls that wait at A, creates too, are cut by its death.
    a.signal(Signal::STOP);
    program.hangs().await;
    a.kill();
    program.goes_on(2 * AT_ONCE).await;

    // Whatever began while B's health was still good is over after so many.
    b.terminate();
    program.goes_on(2 * AT_ONCE).await;
    let before = calls(&b);
    program.goes_on(2 * AT_ONCE).await;
    assert_eq!(calls(&b), before, "who drains is left, though it still answers");
    let status = b.ended().await;
    assert!(status.success(), "{status}");

    a.start_again().await;
    while timeout(PATIENCE, program.next()).await.expect("in time").is_some() {}
    let status = timeout(PATIENCE, program.child.wait()).await.expect("in time").unwrap();
    assert!(status.success(), "{status}\n{}", program.stderr());
    assert!(calls(&a) > AT_ONCE, "who came back has no share of the calls");
    assert!(program.stderr().contains("cut at revision"), "no watch was cut: this shows nothing");

    let tasks = all(&mut c.client()).await;
    assert_eq!(tasks.len(), TASKS, "each was created once");
    assert!(tasks.iter().all(|task| task.state() == State::Succeeded));
    let names: BTreeSet<_> = tasks.into_iter().map(|task| task.name).collect();
    assert_eq!(names, program.ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn go() {
    balances(&["clients/go/bin/balance"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python() {
    balances(&["clients/python/.venv/bin/python", "clients/python/balance.py"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tonic() {
    let binary = Path::new(env!("CARGO_BIN_EXE_taskwatch"));
    let example = binary.with_file_name("examples").join("balance");
    balances(&[example.to_str().expect("UTF-8")]).await;
}
