//! `taskwatch run`: real commands, watched and stopped from elsewhere, while the
//! server comes and goes.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::json;
use support::{PATIENCE, Server, ask, follow, get, taskwatch, to_the_end, value};
use taskwatch::proto::{Task, task::State};
use tokio::{
    net::TcpSocket,
    time::{Instant, sleep},
};

fn run(url: &str, folder: &Path, flags: &[&str], command: &[&str]) -> Command {
    let mut run = taskwatch();
    run.arg("run").args(flags).arg("--").args(command);
    run.env("TASKWATCH_SERVER", url).current_dir(folder);
    run.stdout(Stdio::piped()).stderr(Stdio::piped());
    run
}

fn start(server: &Server, flags: &[&str], command: &[&str]) -> Child {
    run(&server.url(), server.folder(), flags, command).spawn().expect("it starts")
}

async fn done(child: Child) -> Output {
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().expect("it ends"));
    tokio::time::timeout(PATIENCE, ended).await.expect("in time").expect("it ran")
}

async fn exists(path: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} does not appear", path.display());
        sleep(Duration::from_millis(20)).await;
    }
}

async fn created(server: &Server, id: &str) -> Task {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match get(&mut server.client(), &format!("tasks/{id}")).await {
            Ok(task) if task.state() != State::Queued => return task,
            _ if Instant::now() < deadline => sleep(Duration::from_millis(20)).await,
            other => panic!("{other:?}"),
        }
    }
}

/// Where no server is: held, so that no other test's gets it, and not listened at.
fn nowhere() -> (TcpSocket, String) {
    let held = TcpSocket::new_v4().expect("a socket");
    held.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let url = format!("http://{}", held.local_addr().expect("its address"));
    (held, url)
}

fn tree(root: &Path) {
    for at in 0..20 {
        let dir = root.join(format!("dir-{}", at % 4));
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join(format!("file-{at}")), vec![at; 50_000]).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_tree_goes_through_untouched() {
    let server = Server::start().await;
    tree(&server.folder().join("tree"));
    let plain = Command::new("tar").args(["cf", "-", "tree"]).current_dir(server.folder()).output();
    let plain = plain.expect("tar").stdout;
    let ran = done(start(&server, &["--id", "a", "--quiet"], &["tar", "cf", "-", "tree"])).await;
    assert_eq!((ran.status.code(), ran.stdout == plain), (Some(0), true));
    assert_eq!(String::from_utf8_lossy(&ran.stderr), "");
    let task = to_the_end(&server.address, "tasks/a").await;
    assert_eq!(task.state(), State::Succeeded);
    assert_eq!(task.result, Some(value(json!({"exit_status": 0}))));

    let ran = done(start(
        &server,
        &["--id", "b", "--label", "env=test"],
        &["tar", "cvf", "/dev/null", "tree"],
    ))
    .await;
    assert_eq!(ran.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("taskwatch watch b"));
    let task = to_the_end(&server.address, "tasks/b").await;
    let last = String::from_utf8_lossy(&ran.stdout).lines().last().map(str::to_owned);
    assert_eq!(task.progress.map(|progress| progress.message), last);
    assert_eq!(task.labels["env"], "test");
    let full = get(&mut server.client(), "tasks/b").await.expect("there");
    assert!(full.input.expect("an input").fields.contains_key("command"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_there_is_not_taken_for_this_one() {
    let server = Server::start().await;
    let watched = "tasks/a; watch it with: taskwatch watch a\n";
    let first = done(start(&server, &["--id", "a"], &["true"])).await;
    assert_eq!(String::from_utf8_lossy(&first.stderr), watched);
    // It is run all the same: it never depends on the server.
    let second = done(start(&server, &["--id", "a"], &["echo", "ran"])).await;
    assert_eq!((second.status.code(), &*second.stdout), (Some(0), &b"ran\n"[..]));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.starts_with("error: nobody can watch this: tasks/a exists already"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn percentages_are_seen_while_it_runs() {
    let server = Server::start().await;
    let script = "printf '10%%\\r'; while ! test -e one; do sleep 0.02; done; \
                  printf ' 42%% copying\\r' >&2; while ! test -e go; do sleep 0.02; done; \
                  echo out; echo err >&2; exit 3";
    let child = start(&server, &["--id", "a"], &["sh", "-c", script]);
    created(&server, "a").await;
    let seen = |percent: f64| {
        move |task: &Task| {
            let progress = task.progress.clone().unwrap_or_default();
            task.state() == State::Running && progress.percent == Some(percent)
        }
    };
    follow(&server.address, "tasks/a", seen(10.0)).await;
    fs::write(server.folder().join("one"), "").expect("written");
    follow(&server.address, "tasks/a", seen(42.0)).await;
    fs::write(server.folder().join("go"), "").expect("written");
    let ran = done(child).await;
    assert_eq!((ran.status.code(), &*ran.stdout), (Some(3), &b"10%\rout\n"[..]));
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(err.ends_with(" 42% copying\rerr\n"), "{err}");
    let task = to_the_end(&server.address, "tasks/a").await;
    assert_eq!(task.state(), State::Failed);
    assert!(task.error.expect("an error").message.starts_with("exit status 3: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_killed_and_one_that_cannot_start() {
    let server = Server::start().await;
    let ran = done(start(&server, &["--id", "a"], &["sh", "-c", "kill -9 $$"])).await;
    assert_eq!(ran.status.code(), Some(128 + 9));
    let task = to_the_end(&server.address, "tasks/a").await;
    assert_eq!(task.error.expect("an error").message, "killed by signal 9");
    let ran = done(start(&server, &["--id", "b"], &["no-such-command"])).await;
    assert_eq!(ran.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("error: no-such-command: "));
    fs::write(server.folder().join("text"), "no program").expect("written");
    let ran = done(start(&server, &["--id", "b"], &["./text"])).await;
    assert_eq!(ran.status.code(), Some(126));
    assert!(get(&mut server.client(), "tasks/b").await.is_err(), "there is nothing to watch");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_pause_and_cancel_it() {
    let server = Server::start().await;
    let script = "trap 'echo stopping; exit 5' TERM; n=0; while :; do n=$((n+1)); echo $n >>count; sleep 0.02; done";
    let child = start(&server, &["--id", "a"], &["sh", "-c", script]);
    created(&server, "a").await;
    let count = server.folder().join("count");
    exists(&count).await;
    ask(&mut server.client(), "tasks/a", State::Paused).await.expect("asked");
    // Once it has been stopped, nothing is counted any more.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = fs::read_to_string(&count).expect("read");
        sleep(Duration::from_millis(300)).await;
        if before == fs::read_to_string(&count).expect("read") {
            break;
        }
        assert!(Instant::now() < deadline, "it is not stopped");
    }
    let before = fs::read_to_string(&count).expect("read");
    ask(&mut server.client(), "tasks/a", State::Running).await.expect("asked");
    while fs::read_to_string(&count).expect("read") == before {
        assert!(Instant::now() < deadline, "it does not go on");
        sleep(Duration::from_millis(20)).await;
    }
    ask(&mut server.client(), "tasks/a", State::Cancelled).await.expect("asked");
    let ran = done(child).await;
    assert_eq!((ran.status.code(), &*ran.stdout), (Some(5), &b"stopping\n"[..]));
    assert_eq!(to_the_end(&server.address, "tasks/a").await.state(), State::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_cancelling_sees_it_end_and_the_deaf_are_killed() {
    let server = Server::start().await;
    let script = "trap '' TERM; touch ready; while :; do sleep 0.05; done";
    let child = start(&server, &["--id", "a", "--stop-grace", "200ms"], &["sh", "-c", script]);
    created(&server, "a").await;
    exists(&server.folder().join("ready")).await;
    ask(&mut server.client(), "tasks/a", State::Cancelling).await.expect("asked");
    assert_eq!(done(child).await.status.code(), Some(128 + 9));
    assert_eq!(to_the_end(&server.address, "tasks/a").await.state(), State::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_on_while_the_server_restarts_and_catches_up() {
    let mut server = Server::start().await;
    let script = "echo 10%; while ! test -e one; do sleep 0.02; done; echo 60%; \
                  while ! test -e two; do sleep 0.02; done; echo 90%";
    let child = start(&server, &["--id", "a"], &["sh", "-c", script]);
    created(&server, "a").await;
    server.kill();
    fs::write(server.folder().join("one"), "").expect("written");
    sleep(Duration::from_millis(300)).await;
    server.start_again().await;
    follow(&server.address, "tasks/a", |task| {
        task.progress.as_ref().and_then(|progress| progress.percent) == Some(60.0)
    })
    .await;
    // And once more, over its end.
    server.kill();
    fs::write(server.folder().join("two"), "").expect("written");
    sleep(Duration::from_millis(300)).await;
    server.start_again().await;
    let ran = done(child).await;
    assert_eq!((ran.status.code(), &*ran.stdout), (Some(0), &b"10%\n60%\n90%\n"[..]));
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(err.contains("the command runs on") && err.contains("there again"), "{err}");
    let task = to_the_end(&server.address, "tasks/a").await;
    assert_eq!(task.state(), State::Succeeded);
    assert_eq!(task.progress.and_then(|progress| progress.percent), Some(90.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_where_no_server_is() {
    let (_held, url) = nowhere();
    let folder = tempfile::tempdir().expect("a directory");
    let flags = ["--wait-server", "1s", "--id", "a"];
    let child = run(&url, folder.path(), &flags, &["sh", "-c", "echo done; exit 4"]).spawn();
    let ran = done(child.expect("it starts")).await;
    assert_eq!((ran.status.code(), &*ran.stdout), (Some(4), &b"done\n"[..]));
    let err = String::from_utf8_lossy(&ran.stderr);
    let parts = ["cannot reach", "not told how the command ended", "(tasks/a)"];
    assert!(parts.iter().all(|part| err.contains(part)), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_wait_for_a_server() {
    let (_held, url) = nowhere();
    let folder = tempfile::tempdir().expect("a directory");
    let script = ["sh", "-c", "trap '' TERM; touch done; exit 4"];
    let mut child = run(&url, folder.path(), &["--wait-server", "1h"], &script).spawn().unwrap();
    exists(&folder.path().join("done")).await;
    let (pid, deadline) = (rustix::process::Pid::from_child(&child), Instant::now() + PATIENCE);
    while child.try_wait().expect("waited").is_none() {
        assert!(Instant::now() < deadline, "it waits on");
        // The first ones may still be the command's.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
        sleep(Duration::from_millis(50)).await;
    }
    let ran = done(child).await;
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(4), "{err}");
    assert!(err.contains("not told how the command ended: a signal came first"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ignored_stays_so() {
    let server = Server::start().await;
    // As nohup has it: neither run nor the command ends by it.
    let script = "kill -HUP $PPID; kill -HUP $$; echo lives on";
    let run = run(&server.url(), server.folder(), &["--id", "a"], &["sh", "-c", script]);
    let mut ignoring = Command::new("sh");
    ignoring.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    ignoring.arg(run.get_program()).args(run.get_args()).current_dir(server.folder());
    ignoring.envs(run.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let ignoring = ignoring.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let ran = done(ignoring.expect("it starts")).await;
    assert_eq!((ran.status.code(), &*ran.stdout), (Some(0), &b"lives on\n"[..]));
    assert_eq!(to_the_end(&server.address, "tasks/a").await.state(), State::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_the_command_s() {
    let server = Server::start().await;
    let until_told = "trap 'echo interrupted; exit 9' INT; kill -INT $PPID; \
                      while :; do sleep 0.02; done";
    // From its first moment on.
    let ran = done(start(&server, &["--id", "a"], &["sh", "-c", until_told])).await;
    assert_eq!((ran.status.code(), &*ran.stdout), (Some(9), &b"interrupted\n"[..]));
    assert_eq!(to_the_end(&server.address, "tasks/a").await.state(), State::Failed);
}
