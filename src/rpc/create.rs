//! CreateTaskRequest to command, and the digest that tells requests apart which come
//! under one request id.

use sha2::{Digest, Sha256};

use super::{path::At, payload, read};
use crate::{
    domain::{NewTask, Object, RetryPolicy, TaskId, Timestamp, limits},
    proto,
    tasks::Create,
};

/// Reads one request. `path` is where it stands, for the messages of what can only be
/// checked later.
pub(super) fn create(
    at: &At<'_>,
    request: proto::CreateTaskRequest,
    path: String,
) -> Option<Create> {
    let proto::CreateTaskRequest { task, task_id, request_id } = request;
    let id_is_new = task_id.is_empty();
    let id = if id_is_new {
        TaskId::new(&uuid::Uuid::now_v7().to_string())
    } else {
        read::name(&at.field("task_id"), &task_id)
    };
    let request_id = read::request_id(&at.field("request_id"), request_id);
    let Some(task) = task else {
        at.field("task").refuse("is required, with its kind at least");
        return None;
    };
    let new = new_task(&at.field("task"), task, id)?;
    let request = request_id.map(|request_id| (request_id, digest(&task_id, &new)));
    Some(Create { new, id_is_new, request, path })
}

fn new_task(at: &At<'_>, task: proto::Task, id: Option<TaskId>) -> Option<NewTask> {
    let proto::Task {
        kind,
        input,
        queue,
        priority,
        labels,
        schedule_time,
        retry_policy,
        attempt_timeout,
        retention,
        // Not the caller's to choose, or not at first.
        name: _,
        state: _,
        progress: _,
        result: _,
        error: _,
        create_time: _,
        start_time: _,
        end_time: _,
        update_time: _,
        revision: _,
        attempt: _,
        worker: _,
        checkpoint: _,
    } = task;
    let kind = read::name(&at.field("kind"), &kind);
    let input =
        input.and_then(|input| payload::object(&at.field("input"), input, limits::PAYLOAD_BYTES));
    let queue = read::optional_name(&at.field("queue"), &queue);
    let priority = read::priority(&at.field("priority"), priority);
    let labels = read::labels(&at.field("labels"), labels);
    let schedule_time = schedule_time.and_then(|time| read::time(&at.field("schedule_time"), time));
    let retry_policy = self::retry_policy(&at.field("retry_policy"), retry_policy);
    let attempt_timeout = read::duration(&at.field("attempt_timeout"), attempt_timeout);
    let retention = read::duration(&at.field("retention"), retention);
    Some(NewTask {
        id: id?,
        kind: kind?,
        input,
        queue,
        priority,
        labels,
        schedule_time,
        retry_policy,
        attempt_timeout,
        retention,
    })
}

fn retry_policy(at: &At<'_>, policy: Option<proto::RetryPolicy>) -> RetryPolicy {
    let proto::RetryPolicy { max_attempts, initial_backoff, max_backoff, backoff_multiplier } =
        policy.unwrap_or_default();
    RetryPolicy {
        max_attempts: read::max_attempts(&at.field("max_attempts"), max_attempts),
        initial_backoff: read::duration(&at.field("initial_backoff"), initial_backoff),
        max_backoff: read::duration(&at.field("max_backoff"), max_backoff),
        backoff_multiplier: read::multiplier(&at.field("backoff_multiplier"), backoff_multiplier),
    }
}

/// Equal for requests that mean the same. What is not set leaves no trace, so that a
/// field that comes later changes no digest of a request without it.
fn digest(task_id: &str, new: &NewTask) -> [u8; 32] {
    let NewTask {
        // That of the request: the server's own choice differs each time.
        id: _,
        kind,
        input,
        queue,
        priority,
        labels,
        schedule_time,
        retry_policy,
        attempt_timeout,
        retention,
    } = new;
    let RetryPolicy { max_attempts, initial_backoff, max_backoff, backoff_multiplier } =
        retry_policy;
    let mut hash = Sha256::new();
    let mut field = |number: u8, bytes: &[u8]| {
        hash.update([number]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    let micros = |span: std::time::Duration| span.as_micros().to_be_bytes();
    if !task_id.is_empty() {
        field(1, task_id.as_bytes());
    }
    field(2, kind.as_bytes());
    if let Some(input) = input.as_ref().map(Object::encoded) {
        field(3, input);
    }
    if let Some(queue) = queue {
        field(4, queue.as_bytes());
    }
    if *priority != 0 {
        field(5, &priority.to_be_bytes());
    }
    for (key, value) in labels {
        field(6, key.as_bytes());
        field(7, value.as_bytes());
    }
    if let Some(time) = schedule_time.map(Timestamp::micros) {
        field(8, &time.to_be_bytes());
    }
    if let Some(attempts) = max_attempts {
        field(9, &attempts.to_be_bytes());
    }
    if let Some(backoff) = initial_backoff {
        field(10, &micros(*backoff));
    }
    if let Some(backoff) = max_backoff {
        field(11, &micros(*backoff));
    }
    if let Some(multiplier) = backoff_multiplier {
        field(12, &multiplier.to_be_bytes());
    }
    if let Some(timeout) = attempt_timeout {
        field(13, &micros(*timeout));
    }
    if let Some(retention) = retention {
        field(14, &micros(*retention));
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        domain::{Error, Name},
        rpc::path::Findings,
    };

    fn request() -> proto::CreateTaskRequest {
        let task = proto::Task { kind: "demo".into(), ..proto::Task::default() };
        proto::CreateTaskRequest { task: Some(task), ..Default::default() }
    }

    fn read(request: proto::CreateTaskRequest) -> Result<Create, Error> {
        let findings = Findings::default();
        let create = create(&findings.root(), request, String::new());
        findings.judge(create)
    }

    fn fields(request: proto::CreateTaskRequest) -> Vec<String> {
        match read(request) {
            Err(Error::InvalidArgument(found)) => found.into_iter().map(|v| v.field).collect(),
            other => panic!("must be refused: {other:?}"),
        }
    }

    fn digest_of(change: impl FnOnce(&mut proto::CreateTaskRequest)) -> [u8; 32] {
        let mut request = proto::CreateTaskRequest { request_id: "r".into(), ..request() };
        change(&mut request);
        read(request).expect("fine").request.expect("has an id").1
    }

    fn task(request: &mut proto::CreateTaskRequest) -> &mut proto::Task {
        request.task.as_mut().expect("set")
    }

    #[test]
    fn the_least_that_is_needed() {
        let create = read(request()).expect("fine");
        assert_eq!(create.new.kind.as_str(), "demo");
        assert_eq!(create.new.id.len(), 36);
        assert_eq!(create.request, None);
        let two = read(request()).expect("fine");
        assert!(create.new.id < two.new.id, "names sort by creation");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        assert_eq!(fields(proto::CreateTaskRequest::default()), ["task"]);
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let bad = proto::Task {
            kind: "no spaces".into(),
            queue: "-".into(),
            priority: 101,
            labels: [("k\0".into(), String::new()), ("x".repeat(64), "y".repeat(257))].into(),
            schedule_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
            retry_policy: Some(proto::RetryPolicy {
                max_attempts: -1,
                initial_backoff: seconds(-1),
                max_backoff: Some(prost_types::Duration { seconds: 1, nanos: -1 }),
                backoff_multiplier: 0.5,
            }),
            attempt_timeout: seconds(-1),
            retention: seconds(101 * 365 * 24 * 3_600),
            ..Default::default()
        };
        let bad = proto::CreateTaskRequest {
            task: Some(bad),
            task_id: "a/b".into(),
            request_id: "x".repeat(129),
        };
        let key = format!("task.labels[\"{}…\"]", "x".repeat(63));
        assert_eq!(
            fields(bad),
            [
                "task_id",
                "request_id",
                "task.kind",
                "task.queue",
                "task.priority",
                "task.labels[\"k\\0\"]",
                &key,
                &key,
                "task.schedule_time",
                "task.retry_policy.max_attempts",
                "task.retry_policy.initial_backoff",
                "task.retry_policy.max_backoff",
                "task.retry_policy.backoff_multiplier",
                "task.attempt_timeout",
                "task.retention",
            ]
        );
    }

    #[test]
    fn sixty_four_labels_and_no_more() {
        let labels = |n: usize| {
            let mut request = request();
            task(&mut request).labels = (0..n).map(|n| (n.to_string(), String::new())).collect();
            request
        };
        assert!(read(labels(64)).is_ok());
        assert_eq!(fields(labels(65)), ["task.labels"]);
    }

    #[test]
    fn what_is_not_the_caller_s_is_ignored() {
        let mut request = request();
        *task(&mut request) = proto::Task {
            kind: "demo".into(),
            name: "nonsense".into(),
            state: 99,
            revision: -1,
            worker: "\0".into(),
            ..Default::default()
        };
        assert!(read(request).is_ok());
    }

    #[test]
    fn nothing_is_nothing_and_short_is_not() {
        let mut request = request();
        task(&mut request).retention = Some(prost_types::Duration::default());
        task(&mut request).attempt_timeout = Some(prost_types::Duration { seconds: 0, nanos: 5 });
        let new = read(request).expect("fine").new;
        assert_eq!(new.retention, None);
        assert_eq!(new.attempt_timeout, Some(Duration::from_micros(1)));
    }

    #[test]
    fn the_digest_is_that_of_what_was_asked_for() {
        let plain = digest_of(|_| {});
        assert_eq!(plain, digest_of(|_| {}), "the server's own id is no part of it");
        assert_eq!(plain, digest_of(|request| task(request).worker = "ignored".into()));
        assert_eq!(plain, digest_of(|request| request.request_id = "other".into()));
        let zero = Some(prost_types::Duration::default());
        assert_eq!(plain, digest_of(|request| task(request).retention = zero));
        let changes: [fn(&mut proto::CreateTaskRequest); 8] = [
            |request| request.task_id = "a".into(),
            |request| task(request).kind = "other".into(),
            |request| task(request).queue = "a".into(),
            |request| task(request).priority = 1,
            |request| task(request).input = Some(prost_types::Struct::default()),
            |request| task(request).labels = [("a".to_owned(), "b".to_owned())].into(),
            |request| task(request).schedule_time = Some(prost_types::Timestamp::default()),
            |request| {
                let retry_policy = proto::RetryPolicy { max_attempts: 1, ..Default::default() };
                task(request).retry_policy = Some(retry_policy);
            },
        ];
        let mut seen = vec![plain];
        for change in changes {
            let digest = digest_of(change);
            assert!(!seen.contains(&digest));
            seen.push(digest);
        }
    }

    #[test]
    fn a_chosen_id_is_taken() {
        let create = read(proto::CreateTaskRequest { task_id: "nightly.1".into(), ..request() });
        assert_eq!(Name::new("nightly.1"), create.ok().map(|create| create.new.id));
    }
}
