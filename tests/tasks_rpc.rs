//! Every call of TaskService over a real socket, on SQLite and on PostgreSQL: what
//! it does, what it refuses and how, and that a refusal changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use serde_json::json;
use support::{Client, Server, ask, create, get, object, task, to_the_end, update, value};
use taskwatch::proto::{
    BatchCreateTasksRequest, CreateTaskRequest, DeleteTaskRequest, GetTaskRequest,
    ListTasksRequest, Progress, Task, TaskView, task::State,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The same scenario on each database.
macro_rules! on_both {
    ($($scenario:ident),* $(,)?) => {
        mod sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario(&Server::start().await).await;
            })*
        }
        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                let database = support::postgres::database().await;
                super::$scenario(&Server::with(Some(database), None).await).await;
            })*
        }
    };
}

on_both!(
    creation,
    request_ids,
    batches,
    reading,
    pages,
    filters,
    masks,
    the_guard,
    external_tasks,
    demo_tasks,
    deletion,
    limits,
);

fn external(id: &str) -> CreateTaskRequest {
    CreateTaskRequest { task_id: id.to_owned(), ..create("external", json!(null)) }
}

async fn count(client: &mut Client) -> usize {
    client.list_tasks(ListTasksRequest::default()).await.unwrap().into_inner().tasks.len()
}

/// Refused with this code and an ErrorInfo of this project.
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code) -> Status {
    let status = answer.expect_err("a refusal");
    assert_eq!(status.code(), code, "{status:?}");
    let info = status.get_error_details().error_info().cloned().expect("an ErrorInfo");
    assert_eq!(info.domain, "taskwatch");
    assert!(!info.reason.is_empty());
    status
}

/// Refused as bad input, and the path of the field is named.
fn names<T: std::fmt::Debug>(answer: Result<T, Status>, field: &str) {
    let status = refused(answer, Code::InvalidArgument);
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("a BadRequest").field_violations;
    assert!(violations.iter().any(|violation| violation.field == field), "{violations:?}");
}

async fn creation(server: &Server) {
    let mut client = server.client();
    let mut request = external("mine");
    let sent = request.task.as_mut().unwrap();
    sent.input = Some(object(json!({"a": [1, "two", null, {"b": true}]})));
    sent.labels.insert("env".to_owned(), "prod".to_owned());
    sent.priority = 7;
    let made = client.create_task(request.clone()).await.unwrap().into_inner();
    assert_eq!((made.name.as_str(), made.state()), ("tasks/mine", State::Queued));
    assert_eq!(made.input, request.task.as_ref().unwrap().input);
    assert_eq!((made.attempt, made.priority, made.queue.as_str()), (1, 7, ""));
    assert!(made.create_time.is_some() && made.end_time.is_none() && made.revision > 0);
    assert_eq!(get(&mut client, "tasks/mine").await.unwrap(), made);

    let status = refused(client.create_task(request).await, Code::AlreadyExists);
    let details = status.get_error_details();
    assert_eq!(details.resource_info().unwrap().resource_name, "tasks/mine");
    let chosen = client.create_task(external("")).await.unwrap().into_inner();
    assert!(chosen.name.starts_with("tasks/"));

    names(client.create_task(CreateTaskRequest::default()).await, "task");
    names(client.create_task(create("", json!(null))).await, "task.kind");
    names(client.create_task(create("never-heard-of", json!(null))).await, "task.kind");
    names(client.create_task(external("a/b")).await, "task_id");
    assert_eq!(count(&mut client).await, 2, "a refusal changes nothing");
}

async fn request_ids(server: &Server) {
    let mut client = server.client();
    let request = CreateTaskRequest { request_id: "once".to_owned(), ..external("") };
    let first = client.create_task(request.clone()).await.unwrap().into_inner();
    ask(&mut client, &first.name, State::Running).await.unwrap();
    let again = client.create_task(request).await.unwrap().into_inner();
    assert_eq!((&again.name, again.state()), (&first.name, State::Running), "as it is now");
    let other = CreateTaskRequest { request_id: "once".to_owned(), ..external("other") };
    names(client.create_task(other).await, "request_id");
    assert_eq!(count(&mut client).await, 1);
}

async fn batches(server: &Server) {
    let mut client = server.client();
    let requests: Vec<_> = (0..1_000).map(|number| external(&format!("n{number}"))).collect();
    let batch = BatchCreateTasksRequest { requests: requests.clone() };
    let made = client.batch_create_tasks(batch).await.unwrap().into_inner().tasks;
    assert_eq!(made.len(), 1_000);
    assert_eq!(made[999].name, "tasks/n999", "in the order of the requests");

    // One that is taken spoils all.
    let requests = vec![external("new"), external("n5")];
    let status = refused(
        client.batch_create_tasks(BatchCreateTasksRequest { requests }).await,
        Code::AlreadyExists,
    );
    let told = "tasks/n5 exists already: choose another requests[1].task_id, or none";
    assert_eq!(status.message(), told);
    refused(get(&mut client, "tasks/new").await, Code::NotFound);
    let requests = vec![external("new"), create("", json!(null))];
    names(
        client.batch_create_tasks(BatchCreateTasksRequest { requests }).await,
        "requests[1].task.kind",
    );
    let requests = vec![external("new"), external("twice"), external("twice")];
    names(
        client.batch_create_tasks(BatchCreateTasksRequest { requests }).await,
        "requests[2].task_id",
    );
    let requests = vec![external(""); 1_001];
    names(client.batch_create_tasks(BatchCreateTasksRequest { requests }).await, "requests");
}

async fn reading(server: &Server) {
    let mut client = server.client();
    let mut request = external("mine");
    request.task.as_mut().unwrap().input = Some(object(json!({"a": 1})));
    client.create_task(request).await.unwrap();
    let basic = GetTaskRequest { name: "tasks/mine".to_owned(), view: TaskView::Basic.into() };
    assert_eq!(client.get_task(basic).await.unwrap().into_inner().input, None);
    assert!(get(&mut client, "tasks/mine").await.unwrap().input.is_some(), "full by default");
    let status = refused(get(&mut client, "tasks/none").await, Code::NotFound);
    let details = status.get_error_details();
    assert_eq!(details.resource_info().unwrap().resource_name, "tasks/none");
    names(get(&mut client, "mine").await, "name");
}

async fn pages(server: &Server) {
    let mut client = server.client();
    let requests = (0..25)
        .map(|number| {
            let mut request = external(&format!("n{number}"));
            request.task.as_mut().unwrap().priority = number % 3;
            request
        })
        .collect();
    client.batch_create_tasks(BatchCreateTasksRequest { requests }).await.unwrap();
    for order_by in [
        "",
        "create_time",
        "priority",
        "priority desc, create_time",
        "end_time",
        "end_time desc",
        "update_time",
    ] {
        let order_by = order_by.to_owned();
        let mut request = ListTasksRequest { page_size: 10, order_by, ..Default::default() };
        let mut seen = Vec::new();
        loop {
            let page = client.list_tasks(request.clone()).await.unwrap().into_inner();
            assert!(page.tasks.len() <= 10);
            seen.extend(page.tasks);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        if let Some(then) = request.order_by.strip_prefix("priority") {
            let falls = then.starts_with(" desc");
            assert!(seen.is_sorted_by_key(|t| if falls { -t.priority } else { t.priority }));
        }
        let mut ids: Vec<_> = seen.into_iter().map(|task| task.name).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 25, "each one once, by {:?}", request.order_by);
        // A token is bound to its filter and its order.
        request.filter = "priority = 1".to_owned();
        names(client.list_tasks(request).await, "page_token");
    }
    let token = "nonsense".to_owned();
    let bad = ListTasksRequest { page_token: token, ..Default::default() };
    names(server.client().list_tasks(bad).await, "page_token");
    let bad = ListTasksRequest { page_size: -1, ..Default::default() };
    names(server.client().list_tasks(bad).await, "page_size");
    let bad = ListTasksRequest { order_by: "colour".to_owned(), ..Default::default() };
    names(server.client().list_tasks(bad).await, "order_by");
}

async fn filters(server: &Server) {
    let mut client = server.client();
    for (id, env, priority) in [("a", "prod", 1), ("b", "test", 2), ("c", "prod", 3)] {
        let mut request = external(id);
        let task = request.task.as_mut().unwrap();
        task.labels.insert("env".to_owned(), env.to_owned());
        task.priority = priority;
        client.create_task(request).await.unwrap();
    }
    client.create_task(external("d")).await.unwrap();
    ask(&mut client, "tasks/a", State::Running).await.unwrap();
    let cases = [
        ("state = RUNNING", "a"),
        (r#"labels.env = "prod""#, "ac"),
        ("labels:env", "abc"),
        ("NOT labels:env", "d"),
        ("priority >= 2 AND labels:env", "bc"),
        // OR binds tighter than AND.
        ("priority = 1 OR priority = 2 AND state = RUNNING", "a"),
        ("priority = 1 OR (priority = 2 AND state = RUNNING)", "a"),
        (r#"kind = "external" AND queue = "default""#, "abcd"),
        (r#"create_time > "2020-01-01T00:00:00Z""#, "abcd"),
        (r#"labels.env != "prod""#, "bd"),
    ];
    for (filter, expected) in cases {
        let request = ListTasksRequest {
            filter: filter.to_owned(),
            order_by: "create_time".to_owned(),
            ..Default::default()
        };
        let tasks = client.list_tasks(request).await.expect(filter).into_inner().tasks;
        let ids: String = tasks.iter().map(|task| &task.name["tasks/".len()..]).collect();
        assert_eq!(ids, expected, "{filter}");
    }
    for filter in ["state", "state = NOWHERE", "colour = 1", "priority = ", "(state = QUEUED"] {
        let request = ListTasksRequest { filter: filter.to_owned(), ..Default::default() };
        names(client.list_tasks(request).await, "filter");
    }
}

async fn masks(server: &Server) {
    let mut client = server.client();
    let made = client.create_task(external("mine")).await.unwrap().into_inner();
    let mut change = Task { name: made.name.clone(), priority: 5, ..Default::default() };
    change.labels.insert("a".to_owned(), "b".to_owned());
    let named = client.update_task(update(change.clone(), &["labels"])).await.unwrap();
    assert_eq!(named.get_ref().priority, 0, "not named, not changed");
    let mut request = update(change, &[]);
    request.update_mask = None;
    let set = client.update_task(request.clone()).await.unwrap().into_inner();
    assert_eq!((set.priority, set.labels.len()), (5, 1), "an empty mask: what is set");
    let again = client.update_task(request).await.unwrap().into_inner();
    assert_eq!(again.revision, set.revision, "nothing changed, nothing grows");
    let bare = Task { name: made.name.clone(), ..Default::default() };
    let cleared = client.update_task(update(bare.clone(), &["*"])).await.unwrap().into_inner();
    assert_eq!((cleared.priority, cleared.labels.len()), (0, 0), "all that can be set");
    let ignored = client.update_task(update(bare.clone(), &["create_time"])).await.unwrap();
    assert_eq!(ignored.get_ref().create_time, made.create_time);
    names(client.update_task(update(bare.clone(), &["colour"])).await, "update_mask");
    refused(client.update_task(update(bare, &["state"])).await, Code::InvalidArgument);
    let absent = Task { name: "tasks/none".to_owned(), priority: 1, ..Default::default() };
    refused(client.update_task(update(absent, &["priority"])).await, Code::NotFound);
}

async fn the_guard(server: &Server) {
    let mut client = server.client();
    let made = client.create_task(external("mine")).await.unwrap().into_inner();
    let change = Task { priority: 5, ..made.clone() };
    client.update_task(update(change.clone(), &["priority"])).await.unwrap();
    let late = Task { priority: 6, ..change };
    refused(client.update_task(update(late, &["priority"])).await, Code::Aborted);
    assert_eq!(get(&mut client, "tasks/mine").await.unwrap().priority, 5);
}

async fn external_tasks(server: &Server) {
    let mut client = server.client();
    let name = client.create_task(external("mine")).await.unwrap().into_inner().name;
    ask(&mut client, &name, State::Running).await.unwrap();
    let progress = Progress { completed_units: 1, total_units: 4, ..Default::default() };
    let report = Task { name: name.clone(), progress: Some(progress), ..Default::default() };
    let shown = client.update_task(update(report, &["progress"])).await.unwrap().into_inner();
    assert_eq!(shown.progress.unwrap().percent, Some(25.0), "derived");
    let end = Task {
        name: name.clone(),
        state: State::Succeeded.into(),
        result: Some(value(json!({"rows": 4}))),
        ..Default::default()
    };
    let ended = client.update_task(update(end, &["state", "result"])).await.unwrap().into_inner();
    assert_eq!(ended.result, Some(value(json!({"rows": 4}))));
    assert!(ended.end_time.is_some());
    let status = refused(ask(&mut client, &name, State::Running).await, Code::FailedPrecondition);
    assert!(status.get_error_details().precondition_failure().is_some());
    assert_eq!(get(&mut client, &name).await.unwrap(), ended, "a refusal changes nothing");

    // Cancelled, and queued again by hand.
    let name = client.create_task(external("other")).await.unwrap().into_inner().name;
    ask(&mut client, &name, State::Cancelled).await.unwrap();
    let again = ask(&mut client, &name, State::Queued).await.unwrap();
    assert_eq!((again.state(), again.attempt), (State::Queued, 2));
}

async fn demo_tasks(server: &Server) {
    let mut client = server.client();
    let request = create("demo", json!({"steps": 3, "step_seconds": 0.01}));
    let name = client.create_task(request).await.unwrap().into_inner().name;
    let end = to_the_end(&server.address, &name).await;
    assert_eq!(end.result, Some(value(json!({"steps": 3}))));
    assert_eq!(end.progress.unwrap().percent, Some(100.0));

    let mut request = create("demo", json!({"steps": 3, "step_seconds": 0.01, "fail_at": 2}));
    request.task.as_mut().unwrap().retry_policy =
        Some(taskwatch::proto::RetryPolicy { max_attempts: 1, ..Default::default() });
    let name = client.create_task(request).await.unwrap().into_inner().name;
    let end = to_the_end(&server.address, &name).await;
    assert_eq!(end.state(), State::Failed);
    assert_ne!(end.error.unwrap().code, 0);

    // Running, paused, resumed, cancelled.
    let request = create("demo", json!({"steps": 1000, "step_seconds": 0.05}));
    let name = client.create_task(request).await.unwrap().into_inner().name;
    support::follow(&server.address, &name, |task| task.state() == State::Running).await;
    assert_eq!(ask(&mut client, &name, State::Paused).await.unwrap().state(), State::Paused);
    ask(&mut client, &name, State::Running).await.unwrap();
    support::follow(&server.address, &name, |task| task.state() == State::Running).await;
    ask(&mut client, &name, State::Cancelled).await.unwrap();
    assert_eq!(to_the_end(&server.address, &name).await.state(), State::Cancelled);
}

async fn deletion(server: &Server) {
    let mut client = server.client();
    let name = client.create_task(external("mine")).await.unwrap().into_inner().name;
    let delete = DeleteTaskRequest { name: name.clone(), allow_missing: false };
    refused(client.delete_task(delete.clone()).await, Code::FailedPrecondition);
    ask(&mut client, &name, State::Cancelled).await.unwrap();
    client.delete_task(delete.clone()).await.unwrap();
    refused(get(&mut client, &name).await, Code::NotFound);
    refused(client.delete_task(delete).await, Code::NotFound);
    let missing = DeleteTaskRequest { name, allow_missing: true };
    client.delete_task(missing).await.unwrap();
}

async fn limits(server: &Server) {
    let mut client = server.client();
    let with = |change: fn(&mut Task)| {
        let mut task = task("external", json!(null));
        change(&mut task);
        CreateTaskRequest { task: Some(task), ..Default::default() }
    };
    names(client.create_task(with(|task| task.priority = 101)).await, "task.priority");
    names(client.create_task(with(|task| task.queue = "a b".to_owned())).await, "task.queue");
    let deep = with(|task| {
        let deep = (0..16).fold(json!(1), |inner, _| json!([inner]));
        task.input = Some(object(json!({"deep": deep})));
    });
    refused(client.create_task(deep).await, Code::InvalidArgument);
    let large = with(|task| {
        task.input = Some(object(json!({"text": "x".repeat((1 << 20) + 1)})));
    });
    names(client.create_task(large).await, "task.input");
    let huge = with(|task| task.input = Some(object(json!({"text": "x".repeat(5 << 20)}))));
    let status = client.create_task(huge).await.expect_err("larger than a message");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let many = with(|task| {
        task.labels = (0..65).map(|number| (format!("k{number}"), String::new())).collect();
    });
    names(client.create_task(many).await, "task.labels");
    let null = with(|task| task.input = Some(object(json!({"text": "a\u{0}b"}))));
    refused(client.create_task(null).await, Code::InvalidArgument);
    let long = CreateTaskRequest { request_id: "x".repeat(129), ..external("") };
    names(client.create_task(long).await, "request_id");
    assert_eq!(count(&mut client).await, 0, "a refusal changes nothing");
}
