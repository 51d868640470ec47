//! SIGTERM drains: watches end with UNAVAILABLE, running work is given back with
//! its attempt not counted, and everything is over within the grace.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::net::TcpStream;

use serde_json::json;
use support::{PATIENCE, Server, create, follow, get, next, until, watch};
use taskwatch::proto::task::State;
use tokio::time::timeout;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn running_work_is_given_back_and_goes_on() {
    let mut server = Server::start().await;
    let mut client = server.client();
    let task = client
        .create_task(create("demo", json!({"steps": 600, "step_seconds": 0.1})))
        .await
        .unwrap()
        .into_inner();
    let mut stream = client.watch_task(watch(&task.name)).await.unwrap().into_inner();
    let before = until(&mut stream, |task| {
        task.state() == State::Running
            && task.progress.as_ref().is_some_and(|progress| progress.percent() > 0.0)
    })
    .await
    .unwrap();
    // It never says a word, and must not hold the end up.
    let silent = TcpStream::connect(&server.address).unwrap();

    server.terminate();
    let cut = loop {
        match next(&mut stream).await {
            Ok(Some(task)) => assert!(task.end_time.is_none(), "it cannot have ended"),
            Ok(None) => panic!("a drained stream must not end with OK"),
            Err(status) => break status,
        }
    };
    assert_eq!(cut.code(), Code::Unavailable);
    let status = timeout(PATIENCE, server.ended()).await.expect("within the grace, and some");
    assert!(status.success(), "{status}\n{}", server.log());
    drop(silent);

    server.start_again().await;
    let after = follow(&server.address, &task.name, |task| task.state() == State::Running).await;
    assert_eq!(after.attempt, 1, "a released attempt does not count");
    assert!(after.revision > before.revision);
    let task = get(&mut server.client(), &task.name).await.unwrap();
    assert!(task.checkpoint.is_some(), "the next run goes on from it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_stops_at_once() {
    let mut server = Server::start().await;
    server.terminate();
    assert!(server.ended().await.success());
}
