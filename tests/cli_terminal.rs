//! The command line in a real terminal: bars, the whole screen, other sizes, Ctrl-C,
//! and a server that goes and comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;

use serde_json::json;
use support::{Server, ask, create, get, tmux::Tmux};
use taskwatch::proto::task::State;

async fn make(server: &Server, id: &str, steps: u32) -> String {
    let mut request = create("demo", json!({"steps": steps, "step_seconds": 0.05}));
    request.task_id = id.to_owned();
    server.client().create_task(request).await.expect("created").into_inner().name
}

fn terminal(server: &Server, columns: u16, rows: u16) -> Tmux {
    Tmux::start(server.folder(), columns, rows, &[("TASKWATCH_SERVER", &server.url())])
}

async fn cancel(server: &Server, name: &str) {
    ask(&mut server.client(), name, State::Cancelled).await.expect("asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bar_grows_and_settles_and_the_status_is_the_task_s() {
    let server = Server::start().await;
    let tmux = terminal(&server, 100, 20);
    tmux.line(r#"taskwatch create demo --id a --watch --input '{"steps": 30, "step_seconds": 0.05}'; echo "status $?""#);
    tmux.shows("a bar", |screen| screen.contains("=>") && screen.contains("RUNNING")).await;
    let screen = tmux.says("status 0").await;
    assert!(screen.contains("100 % SUCCEEDED"), "{screen}");
    assert_eq!(screen.matches("% ").count(), 1, "one bar: {screen}");
    assert!(screen.contains("tasks/a SUCCEEDED after"), "{screen}");
    assert!(tmux.colours().contains("\u{1b}[32m"), "green is success");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_colours_where_nobody_wants_them() {
    let server = Server::start().await;
    let variables = [("TASKWATCH_SERVER", &*server.url()), ("NO_COLOR", "1")];
    let tmux = Tmux::start(server.folder(), 100, 20, &variables);
    make(&server, "a", 10_000).await;
    tmux.line("taskwatch watch a");
    tmux.says("RUNNING").await;
    assert!(!tmux.colours().contains("\u{1b}[3"), "{}", tmux.colours());
    tmux.key("C-c");
    tmux.line("clear; taskwatch list; taskwatch get a");
    tmux.says("worker").await;
    assert!(!tmux.colours().contains("\u{1b}[3"), "{}", tmux.colours());
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_watching_and_not_the_task() {
    let server = Server::start().await;
    let tmux = terminal(&server, 100, 20);
    let name = make(&server, "a", 10_000).await;
    tmux.line("taskwatch watch a; echo \"status $?\"");
    tmux.says("RUNNING").await;
    tmux.key("C-c");
    let screen = tmux.says("status 130").await;
    assert!(screen.contains("the task goes on"), "{screen}");
    let task = get(&mut server.client(), &name).await.expect("there");
    assert_eq!(task.state(), State::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_bars_come_and_go_with_their_tasks() {
    let mut server = Server::start().await;
    let tmux = terminal(&server, 100, 12);
    let a = make(&server, "a", 10_000).await;
    make(&server, "had-ended", 1).await;
    support::to_the_end(&server.address, "tasks/had-ended").await;
    tmux.line("taskwatch watch --filter 'kind = \"demo\"'");
    tmux.says("1 running, 0 queued, 0 ended").await;
    // What is created later appears; what had ended before does not.
    make(&server, "b", 10_000).await;
    let screen = tmux.says("2 running").await;
    assert!(screen.contains("\na ") && screen.contains("\nb "), "{screen}");
    assert!(!screen.contains("had-ended"), "{screen}");
    cancel(&server, &a).await;
    let screen = tmux.says("1 running, 0 queued, 1 ended").await;
    assert!(screen.contains("tasks/a CANCELLED after") && !screen.contains("\na "), "{screen}");

    // More than have room are counted; a larger terminal has room for them.
    for at in 0..15 {
        make(&server, &format!("c{at:02}"), 10_000).await;
    }
    tmux.says("16 running, 0 queued, 1 ended; 9 not shown").await;
    tmux.resize(70, 30);
    tmux.shows("all of them", |screen| {
        screen.contains("c14 ") && screen.contains("16 running") && !screen.contains("not shown")
    })
    .await;
    assert!(tmux.screen().lines().all(|line| line.chars().count() <= 70));
    tmux.resize(100, 12);
    tmux.says("not shown").await;

    server.kill();
    tmux.says("connecting again; the tasks go on").await;
    server.start_again().await;
    make(&server, "last", 1).await;
    tmux.says("tasks/last SUCCEEDED").await;
    tmux.says("16 running, 0 queued, 2 ended").await;
    tmux.key("C-c");
    tmux.says("the tasks go on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_screen_is_steered_by_keys_and_given_back() {
    let mut server = Server::start().await;
    let tmux = terminal(&server, 110, 20);
    make(&server, "first", 10_000).await;
    make(&server, "second", 10_000).await;
    tmux.line("echo before; taskwatch top; echo \"status $?\"");
    tmux.shows("both", |screen| screen.contains("first") && screen.contains("second")).await;
    tmux.says("2 running, 0 paused").await;
    tmux.shows("progress", |screen| screen.matches("step ").count() == 2).await;
    assert!(!tmux.screen().contains("before"), "a screen of its own");
    tmux.line("/first");
    tmux.shows("one", |screen| screen.contains("first") && !screen.contains("second ")).await;
    tmux.key("p");
    tmux.says("1 running, 1 paused").await;
    tmux.key("p");
    tmux.says("2 running, 0 paused").await;
    tmux.key("Enter");
    tmux.shows("details", |screen| screen.contains("attempts") && screen.contains("tasks/first"))
        .await;
    tmux.key("c");
    tmux.says("cancel tasks/first? [y/n]").await;
    tmux.key("y");
    tmux.shows("its end", |screen| screen.contains("state       CANCELLED")).await;
    tmux.key("r");
    tmux.key("y");
    tmux.shows("another attempt", |screen| screen.contains("attempt     2")).await;
    tmux.key("Escape");
    tmux.shows("the list", |screen| screen.contains("NAME")).await;
    tmux.key("Escape");
    tmux.resize(60, 10);
    tmux.shows("less", |screen| screen.lines().all(|line| line.chars().count() <= 60)).await;
    tmux.key("2");
    tmux.shows("kinds", |screen| screen.contains("external")).await;
    tmux.key("1");
    server.kill();
    tmux.resize(110, 20);
    tmux.says("connecting").await;
    server.start_again().await;
    tmux.shows("it again", |screen| screen.contains("second") && !screen.contains("connecting"))
        .await;
    tmux.key("q");
    let screen = tmux.says("status 0").await;
    assert!(screen.contains("before") && !screen.contains("RUNNING"), "{screen}");
    tmux.line("taskwatch top | cat; echo \"status $?\"");
    tmux.says("status 0").await;
    tmux.says("top needs a terminal").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_run_has_a_terminal() {
    let server = Server::start().await;
    let tmux = terminal(&server, 91, 20);
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size; printf 'name? '; read name; \
                  echo \"hello $name\"; sleep 100";
    fs::write(server.folder().join("script"), script).expect("written");
    tmux.line("taskwatch run --id a -- sh script; echo \"status $?\"; stty -a | grep -c ' icanon'");
    tmux.says("20 91").await;
    tmux.says("name?").await;
    tmux.line("world");
    tmux.says("hello world").await;
    // As typed, it is the command's, and then the terminal is as it was.
    tmux.key("C-c");
    let screen = tmux.says("status 130").await;
    tmux.shows("a terminal that takes lines", |screen| {
        screen.lines().any(|line| line.trim() == "1")
    })
    .await;
    assert!(screen.contains("taskwatch watch a"), "{screen}");
    let task = support::to_the_end(&server.address, "tasks/a").await;
    assert_eq!(task.state(), State::Failed);
}
