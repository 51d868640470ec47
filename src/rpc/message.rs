//! States to messages. Destructured in full, so that a new field of either side fails
//! to compile here.

use std::time::Duration;

use prost::Message;
use prost_types::{Any, Duration as ProtoDuration, Struct, Value as ProtoValue, value::Kind};
use tonic_types::pb;

use crate::{
    domain::{
        Failure, Name, Object, Progress, ProgressReport, RetryPolicy, Task, Timestamp, Value,
    },
    proto,
};

/// How much of a task is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// All of it.
    Full,
    /// Without input and checkpoint.
    Basic,
    /// Basic, and without result, error and details: what a thousand of fit into one
    /// message.
    Brief,
}

impl View {
    /// With the input, or without.
    pub(super) const fn of(with_input: bool) -> Self {
        if with_input { Self::Full } else { Self::Basic }
    }
}

/// The message of a task. The input counts in the full view only.
pub(super) fn task(task: &Task, input: Option<&Object>, view: View) -> proto::Task {
    let Task {
        id,
        kind,
        queue,
        // Shown as state, end_time and result.
        status: _,
        priority,
        labels,
        schedule_time,
        ready_time: _,
        retry_policy,
        attempt_timeout,
        retention,
        create_time,
        start_time,
        update_time,
        revision,
        settled_revision: _,
        attempt,
        first_attempt: _,
        worker,
        progress,
        checkpoint,
        error,
        last_outcome: _,
    } = task;
    let (full, brief) = (view == View::Full, view == View::Brief);
    proto::Task {
        name: name(id),
        kind: kind.to_string(),
        input: input.filter(|_| full).map(|input| object(id, input)),
        state: task.state().number(),
        progress: progress.as_ref().map(|progress| self::progress(id, progress, !brief)),
        result: task.result().filter(|_| !brief).map(|result| value(id, result)),
        error: error.as_ref().filter(|_| !brief).map(failure),
        create_time: Some(time(*create_time)),
        start_time: start_time.map(time),
        end_time: task.end_time().map(time),
        update_time: Some(time(*update_time)),
        revision: *revision,
        attempt: i32::try_from(*attempt).unwrap_or(i32::MAX),
        worker: worker.as_ref().map(Name::to_string).unwrap_or_default(),
        queue: queue.as_ref().map(Name::to_string).unwrap_or_default(),
        priority: *priority,
        labels: (**labels).clone(),
        schedule_time: schedule_time.map(time),
        retry_policy: self::retry_policy(retry_policy),
        attempt_timeout: attempt_timeout.map(duration),
        retention: retention.map(duration),
        checkpoint: checkpoint.as_ref().filter(|_| full).map(|checkpoint| object(id, checkpoint)),
    }
}

/// `tasks/{task}`
pub(super) fn name(id: &Name) -> String {
    format!("tasks/{id}")
}

fn progress(id: &Name, progress: &Progress, with_details: bool) -> proto::Progress {
    let Progress { report, update_time, estimated_end_time, pace: _ } = progress;
    let ProgressReport { percent, message, completed_units, total_units, unit, details } = report;
    proto::Progress {
        percent: *percent,
        message: message.clone(),
        completed_units: *completed_units,
        total_units: *total_units,
        unit: unit.clone(),
        details: details.as_ref().filter(|_| with_details).map(|details| object(id, details)),
        update_time: Some(time(*update_time)),
        estimated_end_time: estimated_end_time.map(time),
    }
}

/// None where nothing was asked for: no default is written into it.
fn retry_policy(policy: &RetryPolicy) -> Option<proto::RetryPolicy> {
    let RetryPolicy { max_attempts, initial_backoff, max_backoff, backoff_multiplier } = policy;
    (*policy != RetryPolicy::default()).then(|| proto::RetryPolicy {
        max_attempts: max_attempts
            .map_or(0, |attempts| i32::try_from(attempts).unwrap_or(i32::MAX)),
        initial_backoff: initial_backoff.map(duration),
        max_backoff: max_backoff.map(duration),
        backoff_multiplier: backoff_multiplier.unwrap_or_default(),
    })
}

pub(super) fn failure(failure: &Failure) -> pb::Status {
    let Failure { code, message, details } = failure;
    pb::Status {
        code: code.number(),
        message: message.clone(),
        details: details
            .iter()
            .map(|detail| Any { type_url: detail.type_url.clone(), value: detail.value.to_vec() })
            .collect(),
    }
}

fn object(task: &Name, object: &Object) -> Struct {
    Struct::decode(object.encoded().clone()).unwrap_or_else(|error| {
        tracing::error!(%error, %task, "a stored payload is damaged and is shown empty");
        Struct::default()
    })
}

fn value(task: &Name, value: &Value) -> ProtoValue {
    let message = ProtoValue::decode(value.encoded().clone()).unwrap_or_else(|error| {
        tracing::error!(%error, %task, "a stored payload is damaged and is shown as null");
        ProtoValue::default()
    });
    // Clients refuse to print a value without a kind.
    ProtoValue { kind: message.kind.or(Some(Kind::NullValue(0))) }
}

/// A time.
pub(super) fn time(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.micros();
    let rest = micros.rem_euclid(1_000_000);
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(rest * 1_000).unwrap_or_default(),
    }
}

fn duration(duration: Duration) -> ProtoDuration {
    ProtoDuration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        domain::{
            self, Code, Detail, KindDefaults, Labels, Lease, NewTask, Pace, Status, TimeLimit,
            Token,
        },
        rpc::{create, path::Findings},
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000 + 7)
    }

    fn an_object(json: &serde_json::Value) -> Object {
        Object::from_json(json.as_object().expect("an object"))
    }

    fn some_name(text: &str) -> Name {
        Name::new(text).expect("well formed")
    }

    fn new() -> NewTask {
        NewTask {
            id: some_name("a"),
            kind: some_name("demo"),
            input: Some(an_object(&json!({"steps": 3}))),
            queue: Some(some_name("night")),
            priority: -7,
            labels: Labels::from([("env".into(), "prod".into())]),
            schedule_time: Some(at(-5)),
            retry_policy: RetryPolicy {
                max_attempts: Some(3),
                initial_backoff: Some(Duration::from_millis(1_500)),
                max_backoff: Some(Duration::from_secs(9)),
                backoff_multiplier: Some(1.5),
            },
            attempt_timeout: Some(Duration::from_secs(60)),
            retention: Some(Duration::from_micros(1)),
        }
    }

    /// Nothing in it is empty.
    fn whole() -> Task {
        Task {
            status: Status::Succeeded { end_time: at(9), result: Value::from_json(&json!([1])) },
            start_time: Some(at(2)),
            worker: Some(some_name("w")),
            revision: 12,
            attempt: 2,
            progress: Some(Progress {
                report: ProgressReport {
                    percent: Some(75.0),
                    message: "reading".into(),
                    completed_units: 3,
                    total_units: 4,
                    unit: "files".into(),
                    details: Some(an_object(&json!({"file": "x"}))),
                },
                update_time: at(3),
                estimated_end_time: Some(at(4)),
                pace: Some(Pace { time: at(2), percent: 0.0 }),
            }),
            checkpoint: Some(an_object(&json!({"done": 3}))),
            error: Some(Failure {
                code: Code::UNAVAILABLE,
                message: "gone".into(),
                details: vec![Detail { type_url: "t/x".into(), value: vec![1, 2].into() }],
            }),
            ..domain::create(&new(), at(1))
        }
    }

    #[test]
    fn the_full_view_has_everything() {
        let message = task(&whole(), new().input.as_ref(), View::Full);
        let decoded = proto::Task::decode(&message.encode_to_vec()[..]).expect("its own bytes");
        assert_eq!(decoded, message);
        assert_eq!(message.name, "tasks/a");
        assert_eq!(message.state, proto::task::State::Succeeded as i32);
        assert_eq!(
            message.schedule_time,
            Some(prost_types::Timestamp { seconds: -5, nanos: 7_000 })
        );
        assert_eq!(message.retention, Some(ProtoDuration { seconds: 0, nanos: 1_000 }));
        let empty = [
            message.input.is_none(),
            message.progress.is_none(),
            message.result.is_none(),
            message.error.is_none(),
            message.create_time.is_none(),
            message.start_time.is_none(),
            message.end_time.is_none(),
            message.update_time.is_none(),
            message.checkpoint.is_none(),
            message.retry_policy.is_none(),
            message.attempt_timeout.is_none(),
        ];
        assert!(!empty.contains(&true), "{empty:?}");
        let error = message.error.expect("seen above");
        assert_eq!((error.code, error.details[0].value.as_slice()), (14, &[1, 2][..]));
    }

    #[test]
    fn what_was_set_comes_back_as_it_was() {
        let message = task(&domain::create(&new(), at(1)), new().input.as_ref(), View::Full);
        let request = proto::CreateTaskRequest {
            task: Some(message),
            task_id: "a".into(),
            request_id: String::new(),
        };
        let findings = Findings::default();
        let create = create::create(&findings.root(), request, String::new());
        assert_eq!(findings.judge(create).map(|create| create.new), Ok(new()));
    }

    #[test]
    fn the_smaller_views() {
        let full = task(&whole(), new().input.as_ref(), View::Full);
        let basic = task(&whole(), new().input.as_ref(), View::Basic);
        assert_eq!(basic, proto::Task { input: None, checkpoint: None, ..full.clone() });
        let progress = full.progress.map(|p| proto::Progress { details: None, ..p });
        let brief = task(&whole(), new().input.as_ref(), View::Brief);
        assert_eq!(brief, proto::Task { progress, result: None, error: None, ..basic });
    }

    #[test]
    fn nothing_set_is_nothing_shown() {
        let bare = NewTask {
            input: None,
            queue: None,
            labels: Labels::new(),
            schedule_time: None,
            retry_policy: RetryPolicy::default(),
            attempt_timeout: None,
            retention: None,
            ..new()
        };
        let message = task(&domain::create(&bare, at(1)), None, View::Full);
        assert_eq!((message.queue.as_str(), message.retry_policy), ("", None));
        assert_eq!((message.attempt_timeout, message.retention), (None, None));
        assert_eq!((message.progress, message.result, message.error), (None, None, None));
    }

    #[test]
    fn a_null_result_is_a_null() {
        let status = Status::Succeeded { end_time: at(9), result: Value::default() };
        let message = task(&Task { status, ..whole() }, None, View::Basic);
        let result = message.result.expect("present once it succeeded");
        assert_eq!(result.kind, Some(Kind::NullValue(0)));
    }

    #[test]
    fn a_lease_shows_nothing_of_its_token() {
        let lease = Lease {
            token: Token([0xab; 16]),
            expire_time: at(99),
            duration: KindDefaults::default().max_backoff,
            limit: TimeLimit::None,
            by_runner: false,
        };
        let running = Task { status: Status::Running(Some(lease)), ..whole() };
        let message = task(&running, None, View::Full);
        assert_eq!((message.state, message.end_time), (2, None));
        assert!(!message.encode_to_vec().windows(16).any(|bytes| bytes == [0xab; 16]));
        assert_eq!(Arc::strong_count(&running.labels), 1);
    }
}
