//! Who creates tasks, and repeats each request until it is acknowledged, at another
//! replica every time; some requests are made at two of them at once.

use prost_types::Duration;
use rand::RngExt;
use serde_json::json;
use taskwatch::proto::{CreateTaskRequest, RetryPolicy};
use tokio::{join, time::sleep};

use super::{
    super::{
        history::{Miss, REQUEST, Seen, What},
        support::create as request,
    },
    Caller, PAUSE, ask, owners, timed, watchers,
};

pub(super) const CREATORS: usize = 4;

/// Until it is enough.
pub(super) async fn create(mut caller: Caller, tasks: usize) {
    for number in 0..tasks {
        if caller.load.enough.is_cancelled() {
            return;
        }
        let request = draw(&mut caller, number);
        let name = if caller.chance(20) {
            let mut other = caller.load.caller("creator");
            let (one, two) =
                join!(acknowledged(&mut caller, &request), acknowledged(&mut other, &request));
            one.or(two)
        } else {
            acknowledged(&mut caller, &request).await
        };
        if let Some(name) = name {
            begin(&mut caller, &name, &request);
        }
        caller.pause(100..500).await;
    }
}

/// Those who own and watch the new task.
fn begin(caller: &mut Caller, name: &str, request: &CreateTaskRequest) {
    caller.load.known(name);
    let (load, name) = (caller.load.clone(), name.to_owned());
    for _ in 0..caller.random.random_range(0..3) {
        load.following.spawn(watchers::watch(load.caller("watcher"), name.clone()));
    }
    if request.request_id.starts_with("external") {
        load.following.spawn(owners::own(load.caller("owner"), name.clone()));
        // Two who do not know of each other.
        if caller.chance(30) {
            load.following.spawn(owners::own(load.caller("owner"), name));
        }
    }
}

/// What begins its request id says what becomes of it: the checker goes by that.
fn draw(caller: &mut Caller, number: usize) -> CreateTaskRequest {
    let steps = caller.random.random_range(2..8);
    let step_seconds = f64::from(caller.random.random_range(2..30)) / 100.0;
    let (sort, mut request, max_attempts) = match caller.random.random_range(0..100) {
        0..25 => ("external", request("external", json!(null)), 1),
        25..45 => {
            let input = json!({ "steps": steps, "step_seconds": step_seconds });
            ("demo", request("demo", input), 10_000)
        }
        45..55 => {
            let input = json!({ "steps": steps, "step_seconds": 0.05, "fail_at": 2 });
            ("fails", request("demo", input), 3)
        }
        _ => ("work", request("work", json!({ "steps": steps })), 10_000),
    };
    let task = request.task.as_mut().expect("a task");
    let soon = Some(Duration { seconds: 0, nanos: 50_000_000 });
    task.retry_policy = Some(RetryPolicy {
        max_attempts,
        initial_backoff: soon,
        max_backoff: soon,
        backoff_multiplier: 1.0,
    });
    request.request_id = format!("{sort}-{}-{number}", caller.name);
    task.labels.insert(REQUEST.to_owned(), request.request_id.clone());
    request
}

/// The name, by whichever replica acknowledges first; none where one refuses, which is a
/// violation.
async fn acknowledged(caller: &mut Caller, request: &CreateTaskRequest) -> Option<String> {
    loop {
        let (server, begin) = (caller.any(), caller.load.history.now());
        let answer = ask(caller.tasks(server).create_task(timed(request.clone()))).await;
        let seen = answer.as_ref().map(Seen::from).map_err(Clone::clone);
        let request = request.request_id.clone();
        caller.add(server, begin, What::Create { request, answer: seen });
        match answer {
            Ok(task) => return Some(task.name),
            Err(Miss::Refused(_)) => return None,
            Err(Miss::Lost(_)) => sleep(PAUSE).await,
        }
    }
}
