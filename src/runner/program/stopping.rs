//! How programs end that do not end by themselves, and what is left of them.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::tests::{Trial, eventually, gone, shell, state};
use crate::{
    domain::State,
    runner::{HandlerError, Wanted},
};

/// A program with a child and a grandchild; reports their ids, and then `rest`.
const FAMILY: &str = "sh -c 'sleep 1000 & echo $! >&9; wait' 9>\"$TMP\" & child=$!; \
    while ! [ -s \"$TMP\" ]; do sleep 0.01; done; \
    printf '{\"message\": \"%s %s %s\"}\\n' $$ $child \"$(cat \"$TMP\")\"; ";

fn family(rest: &str) -> (crate::config::ProgramConfig, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut config = shell(&format!("{FAMILY}{rest}"));
    config.env.insert("TMP".into(), file.path().to_str().unwrap().into());
    (config, file)
}

async fn all_gone(pids: &[u32]) {
    assert_eq!(pids.len(), 3);
    eventually("all are gone", || pids.iter().all(|pid| gone(*pid))).await;
}

#[tokio::test]
async fn a_cancel_ends_the_whole_group() {
    let (config, _file) = family("echo '{\"result\": 1}'; wait");
    let trial = Trial::start(&config, &json!({}), None);
    let pids = trial.pids().await;
    trial.want(State::Cancelling);
    assert_eq!(trial.end().await, Err(HandlerError::cancelled()));
    all_gone(&pids).await;
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed_after_the_grace() {
    let (mut config, _file) = family("while :; do sleep 0.1; done");
    config.stop_grace = Duration::from_millis(300);
    config.command[2].insert_str(0, "trap '' TERM; ");
    let trial = Trial::start(&config, &json!({}), None);
    let pids = trial.pids().await;
    trial.want(State::Cancelling);
    assert_eq!(trial.end().await, Err(HandlerError::cancelled()));
    all_gone(&pids).await;
}

#[tokio::test]
async fn once_told_to_stop_the_exit_status_counts_no_more_but_its_last_words_do() {
    let script = "trap 'echo \"{\\\"result\\\": 1, \\\"checkpoint\\\": {\\\"n\\\": 7}}\"; exit 0' TERM; \
                  echo '{\"message\": \"ready\"}'; while :; do sleep 0.05; done";
    let trial = Trial::start(&shell(script), &json!({}), None);
    trial.progress().await;
    trial.want(State::Cancelling);
    let attempt = trial.attempt.clone();
    assert_eq!(trial.end().await, Err(HandlerError::cancelled()));
    let saved = attempt.outbox.rest().checkpoint.unwrap().to_json();
    assert_eq!(saved.get("n"), Some(&json!(7)));
}

#[tokio::test]
async fn when_the_program_has_exited_its_group_is_killed_and_awaited_no_longer() {
    let (config, _file) = family("echo '{\"result\": 1}'");
    let trial = Trial::start(&config, &json!({}), None);
    let pids = trial.pids().await;
    assert_eq!(trial.end().await, Ok(json!(1)));
    all_gone(&pids).await;
}

#[tokio::test]
async fn who_left_the_group_with_the_output_is_not_awaited() {
    let script = "setsid sleep 1000 & printf '{\"message\": \"%s\"}\\n' $!; \
                  while [ \"$(ps -o pgid= $! | tr -d ' ')\" = $$ ]; do sleep 0.01; done; \
                  echo '{\"result\": 1}'";
    let trial = Trial::start(&shell(script), &json!({}), None);
    let pid = trial.pids().await[0];
    assert_eq!(trial.end().await, Ok(json!(1)));
    assert!(!gone(pid));
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_pause_stops_the_group_and_a_resume_lets_it_go_on() {
    let (config, _file) = family("wait");
    let trial = Trial::start(&config, &json!({}), None);
    let pids = trial.pids().await;
    trial.want(State::Paused);
    eventually("it stands", || pids.iter().all(|pid| state(*pid) == Some('T'))).await;
    trial.want(State::Running);
    eventually("it goes on", || pids.iter().all(|pid| state(*pid) == Some('S'))).await;
    trial.want(State::Paused);
    eventually("it stands", || pids.iter().all(|pid| state(*pid) == Some('T'))).await;
    // By SIGTERM, which a stopped group cannot hear.
    trial.want(State::Cancelling);
    assert_eq!(trial.end().await, Err(HandlerError::cancelled()));
    all_gone(&pids).await;
}

#[tokio::test]
async fn at_the_timeout_and_at_the_servers_end_it_is_stopped_as_well() {
    for wanted in [Wanted::TimeOut, Wanted::Release] {
        let (mut config, _file) = family("while :; do sleep 0.1; done");
        config.command[2].insert_str(0, "trap '' TERM; ");
        if wanted == Wanted::TimeOut {
            config.stop_grace = Duration::from_millis(200);
        }
        let trial = Trial::start(&config, &json!({}), None);
        let pids = trial.pids().await;
        if wanted == Wanted::TimeOut {
            trial.attempt.time_out(Duration::from_secs(3_600));
        } else {
            // Long before its own grace is over.
            let soon = tokio::time::Instant::now() + Duration::from_millis(200);
            trial.attempt.release(soon, soon);
        }
        assert_eq!(trial.end().await, Err(HandlerError::cancelled()));
        all_gone(&pids).await;
    }
}

#[tokio::test]
async fn who_drops_the_run_kills_the_group() {
    let (config, _file) = family("wait");
    let trial = Trial::start(&config, &json!({}), None);
    let pids = trial.pids().await;
    trial.want(State::Paused);
    eventually("it stands", || state(pids[0]) == Some('T')).await;
    trial.drop_run();
    all_gone(&pids).await;
}

/// Set in the process that the next test starts and kills.
const VICTIM: &str = "TASKWATCH_TEST_VICTIM";

/// Not a test of its own: runs a program until it is killed.
#[tokio::test]
async fn victim() {
    let Ok(how) = std::env::var(VICTIM) else { return };
    let (config, file) = family("wait");
    let trial = Trial::start(&config, &json!({}), None);
    let pids = trial.pids().await;
    if how == "paused" {
        trial.want(State::Paused);
        eventually("it stands", || pids.iter().all(|pid| state(*pid) == Some('T'))).await;
    }
    file.close().unwrap();
    println!("\npids {} {} {}", pids[0], pids[1], pids[2]);
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_survives_a_server_that_is_killed() {
    for how in ["running", "paused"] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "runner::program::stopping::victim", "--nocapture"])
            .env(VICTIM, how)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(victim.stdout.take().unwrap());
        let pids: Vec<u32> = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                line.strip_prefix("pids ")?.split(' ').map(|pid| pid.parse().ok()).collect()
            })
            .unwrap();
        assert!(pids.iter().all(|pid| !gone(*pid)));
        victim.kill().unwrap();
        victim.wait().unwrap();
        all_gone(&pids).await;
    }
}
