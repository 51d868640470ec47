//! WaitOperation really waits: to the end, to its timeout, to the call's deadline, or to
//! that of the server.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::json;
use taskwatch::proto::{
    longrunning::{Operation, WaitOperationRequest},
    task::State,
};
use tokio::task::JoinHandle;
use tonic::{Code, Request, Status};

use crate::{
    Operations, external, look, metadata, names, operations, refused, response, succeed,
    support::{Server, ask, value},
    wait,
};

/// Begins to wait. The server has it when this returns: a later wait on the same
/// connection has run out meanwhile.
async fn waiting(operations: &mut Operations, name: &str) -> JoinHandle<Result<Operation, Status>> {
    let (mut other, request) = (operations.clone(), wait(name, None));
    let waits = tokio::spawn(async move { Ok(other.wait_operation(request).await?.into_inner()) });
    let ran_out = operations.wait_operation(wait(name, Some(300))).await.unwrap().into_inner();
    assert!(!ran_out.done && ran_out.result.is_none() && !waits.is_finished());
    waits
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_lasts_to_the_end() {
    let server = Server::start().await;
    let (mut client, mut operations) = (server.client(), operations(&server).await);
    let name = external(&mut client, "a").await;
    let waits = waiting(&mut operations, "operations/a").await;
    // A change that is not the end.
    ask(&mut client, &name, State::Paused).await.unwrap();
    let paused = operations.wait_operation(wait("operations/a", Some(100))).await.unwrap();
    assert_eq!(metadata(paused.get_ref()).state(), State::Paused);
    assert!(!waits.is_finished());
    succeed(&mut client, &name, json!("done")).await;
    let ended = waits.await.unwrap().unwrap();
    assert_eq!(response(&ended), value(json!("done")));
    // And is over at once where that has come already.
    for timeout in [None, Some(0), Some(60_000)] {
        let again = operations.wait_operation(wait("operations/a", timeout)).await.unwrap();
        assert_eq!(again.into_inner(), ended);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_runs_out_gives_the_operation() {
    let server = Server::start().await;
    let (mut client, mut operations) = (server.client(), operations(&server).await);
    external(&mut client, "a").await;
    let as_it_is = look(&mut operations, "operations/a").await;
    for timeout in [0, 50] {
        let ran_out = operations.wait_operation(wait("operations/a", Some(timeout))).await;
        assert_eq!(ran_out.unwrap().into_inner(), as_it_is);
    }
    // The call's own deadline counts as well, and the answer is there before it.
    let on_the_call = |timeout| {
        let mut operations = operations.clone();
        let mut request = Request::new(wait("operations/a", timeout));
        request.set_timeout(Duration::from_secs(4));
        async move { operations.wait_operation(request).await.expect("in time").into_inner() }
    };
    let ran_out = tokio::join!(on_the_call(None), on_the_call(Some(600_000)));
    assert_eq!((&ran_out.0, &ran_out.1), (&as_it_is, &as_it_is));
    let negative = WaitOperationRequest {
        timeout: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        ..wait("operations/a", None)
    };
    names(operations.wait_operation(negative).await, "timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_the_server_drains() {
    let mut server = Server::start().await;
    let (mut client, mut operations) = (server.client(), operations(&server).await);
    external(&mut client, "a").await;
    let waits = waiting(&mut operations, "operations/a").await;
    server.terminate();
    refused(waits.await.unwrap(), Code::Unavailable);
    assert!(server.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_leave_room_on_their_connection() {
    const LASTING: usize = 1_800;
    let server = Server::start().await;
    let (mut client, operations) = (server.client(), operations(&server).await);
    let name = external(&mut client, "a").await;
    let mut waits: FuturesUnordered<_> = (0..=LASTING)
        .map(|_| {
            let mut operations = operations.clone();
            async move { operations.wait_operation(wait("operations/a", None)).await }
        })
        .collect();
    let first = waits.next().await.expect("one too many");
    refused(first, Code::ResourceExhausted);
    // Which is not in the way of those that do not last, nor of another connection.
    look(&mut operations.clone(), "operations/a").await;
    succeed(&mut client, &name, json!(null)).await;
    while let Some(ended) = waits.next().await {
        assert!(ended.unwrap().into_inner().done);
    }
}
