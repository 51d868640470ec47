//! One task as google.longrunning.Operation.

use prost::Message;
use prost_types::Any;
use tonic::Code;
use tonic_types::pb;

use crate::{
    domain::{Name, Status, Task},
    proto::longrunning::{Operation, operation::Result as End},
    rpc::message::{self, View},
};

/// `operations/{task}`
pub(super) fn name(id: &Name) -> String {
    format!("operations/{id}")
}

/// The task itself is the metadata. Done means that it has ended: only then there is an
/// error, or a response.
pub(super) fn operation(task: &Task) -> Operation {
    let metadata = message::task(task, None, View::Basic);
    let end = match &task.status {
        // The error of an attempt that is followed by another one is not the operation's.
        Status::Queued | Status::Running(_) | Status::Paused(_) | Status::Cancelling(_) => None,
        Status::Succeeded { .. } => {
            let result = metadata.result.clone().unwrap_or_default();
            Some(End::Response(any("google.protobuf.Value", &result)))
        }
        Status::Failed { .. } => Some(End::Error(
            metadata.error.clone().unwrap_or_else(|| status(Code::Unknown, "it failed".into())),
        )),
        Status::Cancelled { .. } => {
            let why = format!("{} was cancelled", name(&task.id));
            Some(End::Error(status(Code::Cancelled, why)))
        }
    };
    Operation {
        name: name(&task.id),
        metadata: Some(any("taskwatch.v1.Task", &metadata)),
        done: end.is_some(),
        result: end,
    }
}

fn status(code: Code, message: String) -> pb::Status {
    pb::Status { code: code.into(), message, details: Vec::new() }
}

fn any(type_name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{type_name}"), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use prost_types::{Value as ProtoValue, value::Kind};

    use super::*;
    use crate::{
        domain::{
            self, Code as ErrorCode, Failure, Labels, NewTask, Object, RetryPolicy, State,
            Timestamp, Value,
        },
        proto,
    };

    fn object() -> Object {
        Object::from_json(&serde_json::Map::from_iter([("a".into(), 1.into())]))
    }

    /// With what a task can have in any state.
    fn task(status: Status) -> Task {
        let name = |text: &str| Name::new(text).expect("well formed");
        let new = NewTask {
            id: name("a"),
            kind: name("demo"),
            input: Some(object()),
            queue: None,
            priority: 0,
            labels: Labels::new(),
            schedule_time: None,
            retry_policy: RetryPolicy::default(),
            attempt_timeout: None,
            retention: None,
        };
        Task {
            status,
            error: Some(Failure::new(ErrorCode::UNAVAILABLE, "gone")),
            checkpoint: Some(object()),
            ..domain::create(&new, Timestamp::from_micros(0))
        }
    }

    #[test]
    fn done_means_exactly_one_of_error_and_response() {
        let end_time = Timestamp::from_micros(1);
        let result = Value::from_json(&serde_json::json!("x"));
        let statuses = [
            Status::Queued,
            Status::Running(None),
            Status::Paused(None),
            Status::Cancelling(None),
            Status::Succeeded { end_time, result },
            Status::Failed { end_time },
            Status::Cancelled { end_time },
        ];
        for (status, state) in statuses.into_iter().zip(State::ALL) {
            let operation = operation(&task(status));
            assert_eq!(operation.name, "operations/a");
            assert_eq!(operation.done, state.is_terminal());
            let metadata = operation.metadata.expect("always there");
            assert_eq!(metadata.type_url, "type.googleapis.com/taskwatch.v1.Task");
            let metadata = proto::Task::decode(&metadata.value[..]).expect("its own bytes");
            assert_eq!(metadata.state, state.number());
            assert_eq!((metadata.input, metadata.checkpoint), (None, None), "basic");
            match operation.result {
                None => assert!(!operation.done),
                Some(End::Response(response)) => {
                    assert_eq!(state, State::Succeeded);
                    assert_eq!(response.type_url, "type.googleapis.com/google.protobuf.Value");
                    let value = ProtoValue::decode(&response.value[..]).expect("its own bytes");
                    assert_eq!(value.kind, Some(Kind::StringValue("x".into())));
                }
                Some(End::Error(error)) if state == State::Cancelled => {
                    assert_eq!(
                        (error.code, error.message.as_str()),
                        (1, "operations/a was cancelled")
                    );
                }
                Some(End::Error(error)) => {
                    assert_eq!(state, State::Failed);
                    assert_eq!((error.code, error.message.as_str()), (14, "gone"));
                }
            }
        }
    }

    #[test]
    fn what_failed_without_a_word_has_a_code_all_the_same() {
        let status = Status::Failed { end_time: Timestamp::from_micros(1) };
        let operation = operation(&Task { error: None, ..task(status) });
        let Some(End::Error(error)) = operation.result else { panic!("it has failed") };
        assert_eq!(error.code, 2);
    }
}
