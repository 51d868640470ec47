//! The clients and workers in other languages: each program of `clients/` runs against
//! a real server, through crashes of either side. `make tools` builds them.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use prost_types::value;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{Client, PATIENCE, Server, ask, create, follow, get, to_the_end};
use taskwatch::proto::{RetryPolicy, Task, task::State};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

/// A language, by the commands of its two programs.
struct Language {
    worker: &'static [&'static str],
    client: &'static [&'static str],
}

const PYTHON: Language = Language {
    worker: &["python/.venv/bin/python", "python/worker.py"],
    client: &["python/.venv/bin/python", "python/client.py"],
};
const GO: Language = Language { worker: &["go/bin/worker"], client: &["go/bin/client"] };
const TYPESCRIPT: Language = Language {
    worker: &["node", "typescript/dist/worker.js"],
    client: &["node", "typescript/dist/client.js"],
};

/// A program at work. It ends with the test.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Program {
    fn start(server: &Server, program: &[&str], arguments: &[&str]) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients");
        let built = program.iter().filter(|part| part.contains('/'));
        for part in built.map(|part| folder.join(part)) {
            assert!(part.exists(), "{} is missing: run `make tools`", part.display());
        }
        let mut child = Command::new(program[0])
            .args(&program[1..])
            .args(["--address", &server.address])
            .args(arguments)
            .current_dir(&folder)
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?}: {error}: run `make tools`"));
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// A worker that takes a while for each file.
    fn worker(server: &Server, language: &Language, lease: &str) -> Self {
        Self::start(server, language.worker, &["--lease", lease, "--delay", "200"])
    }

    fn client(server: &Server, language: &Language, input: &Value) -> Self {
        Self::start(server, language.client, &["hash-files", &input.to_string()])
    }

    /// Reads what it tells until a line has `part`.
    async fn says(&mut self, part: &str) -> String {
        let mut said = String::new();
        while let Some(line) =
            timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").expect("text")
        {
            if line.contains(part) {
                return line;
            }
            said = said + &line + "\n";
        }
        panic!("it never said {part:?}, but\n{said}");
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().expect("it runs") as i32).expect("a pid");
        kill_process(pid, signal).expect("told");
    }

    /// Its end, with all that it printed.
    async fn ends(mut self) -> (ExitStatus, String) {
        let mut printed = String::new();
        let mut stdout = self.child.stdout.take().expect("piped");
        let end = async {
            while let Some(line) = self.lines.next_line().await.expect("text") {
                eprintln!("{line}");
            }
            stdout.read_to_string(&mut printed).await.expect("text");
            self.child.wait().await.expect("waited for")
        };
        let status = timeout(PATIENCE, end).await.expect("an end in time");
        (status, printed)
    }
}

/// Files whose order differs by bytes, by folders and by UTF-16; the last one is large.
fn tree() -> TempDir {
    let folder = TempDir::new().expect("a directory");
    let write = |path: &str, content: &[u8]| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    for i in 0..6 {
        write(&format!("0/{i}"), format!("file {i}").as_bytes());
    }
    write("a/b", b"in a folder");
    write("a.txt", b"before it");
    write("empty", b"");
    write("\u{ff5e}", b"one unit");
    write("\u{1f980}", b"two units");
    write("ä", &vec![7; (2 << 20) + 1]);
    std::os::unix::fs::symlink("a.txt", folder.path().join("link")).unwrap();
    folder
}

/// What the workers must find, by the definition.
fn chain(folder: &Path) -> Value {
    let mut paths = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                paths.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    paths.sort();
    let mut link = vec![0; 32];
    for path in &paths {
        let file = Sha256::digest(fs::read(folder.join(path)).unwrap());
        link = Sha256::digest([&link[..], &file[..], path.as_bytes()].concat()).to_vec();
    }
    let sha256: String = link.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"files": paths.len(), "sha256": sha256})
}

fn input(folder: &Path) -> Value {
    json!({"directory": folder})
}

fn done(task: &Task) -> i64 {
    task.progress.as_ref().map_or(0, |progress| progress.completed_units)
}

/// That this result, as JSON or as a message, is what was to be found.
fn is_found(result: &Value, folder: &Path) {
    let wanted = chain(folder);
    assert_eq!(result["sha256"], wanted["sha256"], "{result}");
    assert_eq!(result["files"].as_f64(), wanted["files"].as_f64(), "{result}");
}

fn result(task: &Task) -> Value {
    assert_eq!(task.state(), State::Succeeded, "{:?}", task.error);
    match task.result.as_ref().and_then(|value| value.kind.clone()) {
        Some(value::Kind::StructValue(object)) => match &object.fields["sha256"].kind {
            Some(value::Kind::StringValue(sha256)) => match object.fields["files"].kind {
                Some(value::Kind::NumberValue(files)) => json!({"sha256": sha256, "files": files}),
                _ => panic!("{object:?}"),
            },
            _ => panic!("{object:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// A task that is tried again at once, once a worker serves its kind.
async fn queued(client: &mut Client, input: &Value) -> String {
    let mut request = create("hash-files", input.clone());
    let policy = RetryPolicy {
        initial_backoff: Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }),
        ..Default::default()
    };
    request.task.as_mut().unwrap().retry_policy = Some(policy);
    client.create_task(request).await.expect("created").into_inner().name
}

async fn server() -> Server {
    Server::configured("[kinds]\naccept_unknown = true\n").await
}

/// A watching client has the result, also of a server that dies under it and its worker.
async fn watches_through_a_crash(language: &Language, other: &Language) {
    let (mut server, tree) = (server().await, tree());
    let worker = Program::worker(&server, other, "30");
    let mut client = Program::client(&server, language, &input(tree.path()));
    client.says("RUNNING 17% 0/1").await;
    server.kill();
    server.start_again().await;
    // The progress goes on.
    client.says("a.txt").await;
    let (status, printed) = client.ends().await;
    assert!(status.success());
    is_found(&serde_json::from_str(&printed).expect("JSON"), tree.path());
    // Idle, it heeds SIGTERM.
    worker.signal(Signal::TERM);
    let (status, _) = worker.ends().await;
    assert!(status.success(), "{status}");
}

/// Pause, resume and cancel reach the worker; it gives back what it has when it stops.
async fn is_steered(language: &Language) {
    let (server, tree) = (server().await, tree());
    let mut client = server.client();
    let worker = Program::worker(&server, language, "1800");
    let name = queued(&mut client, &input(tree.path())).await;
    follow(&server.address, &name, |task| done(task) >= 1).await;
    ask(&mut client, &name, State::Paused).await.expect("paused");
    // It learns of it with the report of a file at the latest, and does no more.
    let paused = get(&mut client, &name).await.expect("kept");
    let mut last = done(&paused);
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        let now = done(&get(&mut client, &name).await.expect("kept"));
        if now == last {
            break;
        }
        assert_eq!(now, last + 1, "it worked on");
        last = now;
    }
    ask(&mut client, &name, State::Running).await.expect("resumed");
    follow(&server.address, &name, |task| done(task) > last).await;
    worker.signal(Signal::TERM);
    let (status, _) = worker.ends().await;
    assert!(status.success(), "{status}");
    let given_back = get(&mut client, &name).await.expect("kept");
    assert_eq!((given_back.state(), given_back.attempt), (State::Queued, 1));

    let _worker = Program::worker(&server, language, "1800");
    let at = done(&given_back);
    follow(&server.address, &name, |task| done(task) > at).await;
    ask(&mut client, &name, State::Cancelled).await.expect("asked");
    let end = to_the_end(&server.address, &name).await;
    assert_eq!((end.state(), end.attempt), (State::Cancelled, 1));
}

/// What a killed worker had done is not done again.
async fn goes_on_from_the_checkpoint(language: &Language) {
    let (server, tree) = (server().await, tree());
    let mut client = server.client();
    let mut first = Program::worker(&server, language, "2");
    let name = queued(&mut client, &input(tree.path())).await;
    follow(&server.address, &name, |task| done(task) >= 2).await;
    first.child.kill().await.expect("killed");
    // Who began again would find another content.
    let before = tempfile::TempDir::new().unwrap();
    copy(tree.path(), before.path());
    fs::write(tree.path().join("0/0"), b"changed").unwrap();
    fs::write(tree.path().join("0/1"), b"changed").unwrap();
    let _second = Program::worker(&server, language, "2");
    let end = to_the_end(&server.address, &name).await;
    is_found(&result(&end), before.path());
    assert_eq!(end.attempt, 2);
}

/// One file that takes longer than a lease keeps its task.
async fn keeps_its_lease(language: &Language) {
    let (server, folder) = (server().await, TempDir::new().unwrap());
    fs::write(folder.path().join("large"), vec![1; 20 << 20]).unwrap();
    let _worker = Program::worker(&server, language, "3");
    let name = queued(&mut server.client(), &input(folder.path())).await;
    let end = to_the_end(&server.address, &name).await;
    is_found(&result(&end), folder.path());
    assert_eq!(end.attempt, 1);
}

/// What can never go well is not tried again, and the client says so.
async fn fails_for_good(language: &Language, other: &Language) {
    let server = server().await;
    let _worker = Program::worker(&server, language, "30");
    let mut client = Program::client(&server, other, &json!({"directory": "/no/such"}));
    let name = client.says("tasks/").await;
    let (status, printed) = client.ends().await;
    assert_eq!((status.code(), printed.as_str()), (Some(1), ""));
    let end = get(&mut server.client(), name.trim()).await.expect("kept");
    assert_eq!((end.state(), end.attempt), (State::Failed, 1));
    assert_eq!(end.error.expect("failed").code, i32::from(tonic::Code::InvalidArgument));
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(status.expect("cp").success());
}

macro_rules! in_each_language {
    ($($module:ident: $language:expr, $other:expr;)*) => {$(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn the_client_watches_through_a_crash() {
                watches_through_a_crash(&$language, &$other).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn the_worker_is_steered() {
                is_steered(&$language).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn the_worker_goes_on_from_the_checkpoint() {
                goes_on_from_the_checkpoint(&$language).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn the_worker_keeps_its_lease() {
                keeps_its_lease(&$language).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn the_worker_fails_for_good() {
                fails_for_good(&$language, &$other).await;
            }
        }
    )*};
}

in_each_language! {
    python: PYTHON, GO;
    go: GO, TYPESCRIPT;
    typescript: TYPESCRIPT, PYTHON;
}
