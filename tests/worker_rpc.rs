//! WorkerService, attempts, kinds and queues over a real socket, on both databases:
//! what a worker in another process sees, what it may say, and what it is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::time::Duration;

use prost_types::FieldMask;
use serde_json::json;
use support::{Client, Server, ask, create, get, object, value};
use taskwatch::proto::{
    FinishTasksRequest, LeaseTasksRequest, ListAttemptsRequest, ListKindsRequest,
    ListQueuesRequest, Progress, Queue, ReportTasksRequest, Task, UpdateQueueRequest,
    finish_tasks_request::{self, outcome},
    kind::Source,
    report_tasks_request::Report,
    task::State,
    worker_service_client::WorkerServiceClient,
};
use tonic::{Code, transport::Channel};
use tonic_types::{StatusExt, pb};

const CONFIG: &str = "[kinds]\naccept_unknown = true\n[kinds.held]\nconcurrency = 1\n\
     [queues.narrow]\nrate = \"100/s\"\n[retry]\ninitial_backoff = \"1ms\"\nmax_backoff = \"1ms\"\n";

macro_rules! on_both {
    ($($scenario:ident),* $(,)?) => {
        mod sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario(&Server::with(None, Some(CONFIG)).await).await;
            })*
        }
        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                let database = support::postgres::database().await;
                super::$scenario(&Server::with(Some(database), Some(CONFIG)).await).await;
            })*
        }
    };
}

on_both!(a_whole_life, what_is_wanted, crossed_calls, attempts, kinds, queues);

struct Worker(WorkerServiceClient<Channel>);

/// A lease as this worker holds it.
#[derive(Clone)]
struct Held {
    task: Task,
    token: String,
}

impl Worker {
    async fn of(server: &Server) -> Self {
        Self(WorkerServiceClient::connect(server.url()).await.expect("connected"))
    }

    async fn lease(&mut self, kind: &str, wait: i64) -> Vec<Held> {
        let request = LeaseTasksRequest {
            worker: "tester".to_owned(),
            kinds: vec![kind.to_owned()],
            max_tasks: 10,
            wait: Some(prost_types::Duration { seconds: wait, nanos: 0 }),
            ..Default::default()
        };
        let leases = self.0.lease_tasks(request).await.unwrap().into_inner().leases;
        leases
            .into_iter()
            .map(|lease| Held { task: lease.task.unwrap(), token: lease.lease_token })
            .collect()
    }

    async fn one(&mut self, kind: &str) -> Held {
        self.lease(kind, 30).await.pop().expect("a lease")
    }

    /// The wanted state, or the code and the reason of the refusal.
    async fn report(&mut self, held: &Held, percent: f64) -> Result<State, (i32, String)> {
        let report = Report {
            name: held.task.name.clone(),
            lease_token: held.token.clone(),
            progress: Some(Progress { percent: Some(percent), ..Progress::default() }),
            checkpoint: Some(object(json!({"at": percent}))),
        };
        let request = ReportTasksRequest { reports: vec![report] };
        let answer = self.0.report_tasks(request).await.unwrap().into_inner().answers.remove(0);
        match answer.error {
            None => Ok(State::try_from(answer.wanted_state).unwrap()),
            Some(error) => Err(refusal(error)),
        }
    }

    async fn finish(
        &mut self,
        held: &Held,
        outcome: outcome::Outcome,
    ) -> Result<(), (i32, String)> {
        let outcome = finish_tasks_request::Outcome {
            name: held.task.name.clone(),
            lease_token: held.token.clone(),
            outcome: Some(outcome),
            ..Default::default()
        };
        let request = FinishTasksRequest { outcomes: vec![outcome] };
        let status = self.0.finish_tasks(request).await.unwrap().into_inner().statuses.remove(0);
        if status.code == 0 { Ok(()) } else { Err(refusal(status)) }
    }
}

fn refusal(status: pb::Status) -> (i32, String) {
    use tonic_types::pb::ErrorInfo;
    let info = status.details.iter().find(|any| any.type_url.ends_with("google.rpc.ErrorInfo"));
    let info: ErrorInfo = prost::Message::decode(&*info.expect("an ErrorInfo").value).unwrap();
    assert_eq!(info.domain, "taskwatch");
    (status.code, info.reason)
}

fn lost<T>() -> Result<T, (i32, String)> {
    Err((Code::Aborted as i32, "LEASE_LOST".to_owned()))
}

fn failure(message: &str) -> outcome::Outcome {
    outcome::Outcome::Error(pb::Status { code: 13, message: message.to_owned(), details: vec![] })
}

async fn a_whole_life(server: &Server) {
    let (mut client, mut worker) = (server.client(), Worker::of(server).await);
    assert!(worker.lease("work", 0).await.is_empty());
    let waiting = async { worker.one("work").await };
    let creating = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.create_task(create("work", json!({"n": 1}))).await.unwrap().into_inner()
    };
    let (held, made) = tokio::join!(waiting, creating);
    assert_eq!((&held.task.name, held.task.state()), (&made.name, State::Running));
    assert_eq!((held.task.worker.as_str(), held.task.input.clone()), ("tester", made.input));
    assert_eq!(worker.report(&held, 40.0).await, Ok(State::Running));
    let seen = get(&mut client, &made.name).await.unwrap();
    assert_eq!(seen.progress.unwrap().percent, Some(40.0));
    assert_eq!(seen.checkpoint, Some(object(json!({"at": 40.0}))));
    // Given back, it goes on from its checkpoint, and the attempt does not count.
    assert_eq!(worker.finish(&held, outcome::Outcome::Released(true)).await, Ok(()));
    let again = worker.one("work").await;
    assert_eq!((again.task.attempt, again.task.checkpoint.clone()), (1, seen.checkpoint));
    assert_ne!(again.token, held.token);
    assert_eq!(worker.report(&held, 50.0).await, lost());
    let result = outcome::Outcome::Result(value(json!({"done": true})));
    assert_eq!(worker.finish(&again, result.clone()).await, Ok(()));
    assert_eq!(worker.finish(&again, result).await, Ok(()), "said twice, answered twice");
    assert_eq!(worker.finish(&again, failure("late")).await, lost());
    let ended = get(&mut client, &made.name).await.unwrap();
    assert_eq!(
        (ended.state(), ended.result),
        (State::Succeeded, Some(value(json!({"done": true}))))
    );
}

async fn what_is_wanted(server: &Server) {
    let (mut client, mut worker) = (server.client(), Worker::of(server).await);
    client.create_task(create("work", json!(null))).await.unwrap();
    let held = worker.one("work").await;
    let name = held.task.name.clone();
    for (asked, wanted) in [
        (State::Paused, State::Paused),
        (State::Running, State::Running),
        (State::Cancelled, State::Cancelling),
    ] {
        ask(&mut client, &name, asked).await.unwrap();
        assert_eq!(worker.report(&held, 10.0).await, Ok(wanted));
    }
    assert_eq!(worker.finish(&held, outcome::Outcome::Cancelled(true)).await, Ok(()));
    assert_eq!(get(&mut client, &name).await.unwrap().state(), State::Cancelled);
    // By hand it is queued again, and handed out again.
    ask(&mut client, &name, State::Queued).await.unwrap();
    assert_eq!(worker.one("work").await.task.attempt, 2);
}

/// A bad item of a call spoils none of the others, and answers keep their order.
async fn crossed_calls(server: &Server) {
    let (mut client, mut worker) = (server.client(), Worker::of(server).await);
    for _ in 0..3 {
        client.create_task(create("work", json!(null))).await.unwrap();
    }
    let mut held = worker.lease("work", 30).await;
    assert_eq!(held.len(), 3);
    held[1].token = "no token".to_owned();
    let outcomes = held.iter().map(|held| finish_tasks_request::Outcome {
        name: held.task.name.clone(),
        lease_token: held.token.clone(),
        outcome: Some(outcome::Outcome::Result(value(json!(1)))),
        ..Default::default()
    });
    let mut outcomes: Vec<_> = outcomes.collect();
    outcomes[2].outcome = None;
    let request = FinishTasksRequest { outcomes };
    let statuses = worker.0.finish_tasks(request).await.unwrap().into_inner().statuses;
    let codes: Vec<i32> = statuses.iter().map(|status| status.code).collect();
    assert_eq!(codes, [0, Code::Aborted as i32, Code::InvalidArgument as i32]);
    assert!(statuses[2].message.starts_with("outcomes[2].outcome"), "{}", statuses[2].message);
    assert_eq!(get(&mut client, &held[2].task.name).await.unwrap().state(), State::Running);
    for bad in [
        LeaseTasksRequest::default(),
        LeaseTasksRequest {
            worker: "w".into(),
            kinds: vec!["external".into()],
            ..Default::default()
        },
    ] {
        let status = worker.0.lease_tasks(bad).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.get_error_details().bad_request().is_some());
    }
}

async fn attempts(server: &Server) {
    let (mut client, mut worker) = (server.client(), Worker::of(server).await);
    let made = client.create_task(create("work", json!(null))).await.unwrap().into_inner();
    for message in ["first", "second"] {
        let held = worker.one("work").await;
        assert_eq!(worker.finish(&held, failure(message)).await, Ok(()));
    }
    worker.one("work").await;
    let page = async |client: &mut Client, page_size, page_token: &str| {
        let (name, page_token) = (made.name.clone(), page_token.to_owned());
        let request = ListAttemptsRequest { name, page_size, page_token };
        client.list_attempts(request).await
    };
    let all = page(&mut client, 0, "").await.unwrap().into_inner();
    assert!(all.next_page_token.is_empty());
    let seen: Vec<_> = all
        .attempts
        .iter()
        .map(|a| (a.attempt, a.end_state(), a.error.as_ref().map_or("", |e| e.message.as_str())))
        .collect();
    assert_eq!(
        seen,
        [(1, State::Failed, "first"), (2, State::Failed, "second"), (3, State::Unspecified, "")]
    );
    assert!(all.attempts.iter().all(|a| a.worker == "tester" && a.start_time.is_some()));
    assert!(all.attempts[1].end_time.is_some() && all.attempts[2].end_time.is_none());
    let first = page(&mut client, 2, "").await.unwrap().into_inner();
    let rest = page(&mut client, 2, &first.next_page_token).await.unwrap().into_inner();
    assert_eq!([first.attempts, rest.attempts].concat(), all.attempts);
    for (name, size, token, field) in [
        ("tasks/", 0, "", "name"),
        (made.name.as_str(), -1, "", "page_size"),
        (made.name.as_str(), 0, "nonsense", "page_token"),
    ] {
        let request = ListAttemptsRequest {
            name: name.to_owned(),
            page_size: size,
            page_token: token.to_owned(),
        };
        let status = client.list_attempts(request).await.expect_err("refused");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
    let request = ListAttemptsRequest { name: "tasks/none".to_owned(), ..Default::default() };
    assert_eq!(client.list_attempts(request).await.unwrap_err().code(), Code::NotFound);
}

async fn kinds(server: &Server) {
    let (mut client, mut worker) = (server.client(), Worker::of(server).await);
    for kind in ["work", "work", "nobody"] {
        client.create_task(create(kind, json!(null))).await.unwrap();
    }
    client.create_task(create("external", json!(null))).await.unwrap();
    let held = worker.lease("work", 30).await;
    let list = client.list_kinds(ListKindsRequest {}).await.unwrap().into_inner().kinds;
    let seen: Vec<_> = list
        .iter()
        .map(|k| (k.kind.as_str(), k.source(), k.queued_tasks, k.running_tasks, k.workers))
        .collect();
    assert_eq!(
        seen,
        [
            ("demo", Source::BuiltIn, 0, 0, 1),
            ("external", Source::BuiltIn, 1, 0, 0),
            ("nobody", Source::Workers, 1, 0, 0),
            ("work", Source::Workers, 2 - held.len() as i64, held.len() as i64, 1),
        ]
    );
    assert!(list[3].last_worker_time.is_some() && list[2].last_worker_time.is_none());
}

async fn queues(server: &Server) {
    let (mut client, mut worker) = (server.client(), Worker::of(server).await);
    let mut request = create("work", json!(null));
    request.task.as_mut().unwrap().queue = "nightly".to_owned();
    client.create_task(request).await.unwrap();
    let update = |name: &str, paused, paths: &[&str]| UpdateQueueRequest {
        queue: Some(Queue { name: name.to_owned(), paused, ..Queue::default() }),
        update_mask: Some(FieldMask { paths: paths.iter().map(ToString::to_string).collect() }),
    };
    let queue =
        client.update_queue(update("queues/nightly", true, &[])).await.unwrap().into_inner();
    assert_eq!(
        (queue.name.as_str(), queue.paused, queue.queued_tasks),
        ("queues/nightly", true, 1)
    );
    assert!(worker.lease("work", 1).await.is_empty());
    // What only the server sets changes nothing.
    let same = client.update_queue(update("queues/nightly", false, &["queued_tasks"])).await;
    assert!(same.unwrap().into_inner().paused);
    let listed = client.list_queues(ListQueuesRequest {}).await.unwrap().into_inner().queues;
    let listed: Vec<_> = listed.iter().map(|queue| (queue.name.as_str(), queue.paused)).collect();
    assert_eq!(listed, [("queues/narrow", false), ("queues/nightly", true)]);
    client.update_queue(update("queues/nightly", false, &["paused"])).await.unwrap();
    assert_eq!(worker.one("work").await.task.queue, "nightly");
    for (bad, field) in [
        (update("nightly", true, &[]), "queue.name"),
        (update("queues/nightly", true, &["rate"]), "update_mask"),
        (UpdateQueueRequest::default(), "queue"),
    ] {
        let status = client.update_queue(bad).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
}
