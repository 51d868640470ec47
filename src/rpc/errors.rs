//! How refusals and faults look on the wire: a gRPC code, a message, and the
//! details of google/rpc/error_details.proto, ErrorInfo always among them.
//!
//! A status travels in trailers, of which some clients take no more than 8 KiB: what
//! a caller is told is cut well before that.

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt, pb};

use crate::domain::{Error, Violation};

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "taskwatch";

/// Bytes of a message.
const MESSAGE_BYTES: usize = 640;
/// Bytes of all field violations together.
const VIOLATION_BYTES: usize = 2_400;

/// The gRPC code of an error and its `ErrorInfo.reason`.
const fn code_and_reason(error: &Error) -> (Code, &'static str) {
    match error {
        Error::InvalidArgument(_) => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        Error::NotFound { .. } => (Code::NotFound, "NOT_FOUND"),
        Error::AlreadyExists { .. } => (Code::AlreadyExists, "ALREADY_EXISTS"),
        Error::FailedPrecondition { reason, .. } => (Code::FailedPrecondition, reason),
        Error::Aborted { reason, .. } => (Code::Aborted, reason),
        Error::ResourceExhausted { .. } => (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
        Error::Unavailable { .. } => (Code::Unavailable, "UNAVAILABLE"),
        Error::Unimplemented(_) => (Code::Unimplemented, "UNIMPLEMENTED"),
        Error::Internal => (Code::Internal, "INTERNAL"),
    }
}

/// The status of a call that failed.
pub(super) fn status(error: Error) -> Status {
    let (code, reason) = code_and_reason(&error);
    let message = cut(error.to_string(), MESSAGE_BYTES);
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, std::collections::HashMap::new());
    match error {
        Error::InvalidArgument(violations) => {
            details.set_bad_request(told(violations));
        }
        Error::NotFound { resource } | Error::AlreadyExists { resource, .. } => {
            details.set_resource_info(resource_type(&resource), resource, "", message.as_str());
        }
        Error::FailedPrecondition { reason, subject, description } => {
            details.set_precondition_failure([PreconditionViolation::new(
                reason,
                subject,
                cut(description, MESSAGE_BYTES),
            )]);
        }
        Error::ResourceExhausted { retry_after: Some(delay), .. }
        | Error::Unavailable { retry_after: Some(delay), .. } => {
            details.set_retry_info(Some(delay));
        }
        Error::Aborted { .. }
        | Error::ResourceExhausted { .. }
        | Error::Unavailable { .. }
        | Error::Unimplemented(_)
        | Error::Internal => {}
    }
    Status::with_error_details(code, message, details)
}

/// The same as a message, for one of many items.
pub(super) fn rpc_status(error: Error) -> pb::Status {
    let status = status(error);
    // What was encoded a line above decodes; without its details it is still true.
    pb::Status::decode(status.details()).unwrap_or_else(|_| pb::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// The status of a call that failed before any service saw it.
pub(super) fn of_transport(code: Code, reason: &str, message: String) -> Status {
    let info = ErrorDetails::with_error_info(reason, DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(code, cut(message, MESSAGE_BYTES), info)
}

/// The caller has given up.
pub(super) fn deadline_exceeded() -> Status {
    of_transport(
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "the call took longer than its deadline: what it asked for may have been done".into(),
    )
}

/// What tonic itself says with a code that puts the fault in the wrong place; none where
/// the code is right, or the status is one of ours (those have details).
pub(super) fn of_tonic(status: &Status) -> Option<Status> {
    let (code, message) = (status.code(), status.message());
    if !status.details().is_empty() {
        return None;
    }
    let begins = |texts: &[&str]| texts.iter().any(|text| message.starts_with(text));
    let malformed = [
        "failed to decode Protobuf message",
        "Unexpected EOF decoding stream",
        "Missing request message",
        "protocol error: received message with",
    ];
    let too_large =
        ["Error, decoded message length too large", "Error, encoded message length too large"];
    if code == Code::Internal && begins(&malformed) {
        Some(of_transport(Code::InvalidArgument, "MALFORMED_MESSAGE", unreadable(message)))
    } else if code == Code::OutOfRange && begins(&too_large) {
        let message = message.trim_start_matches("Error, ");
        let message = format!("{message}: send or ask for less at once");
        Some(of_transport(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", message))
    } else if code == Code::Unimplemented && message.starts_with("Content is compressed") {
        let message = format!("{}: send it as it is", message.to_lowercase());
        Some(of_transport(code, "COMPRESSION_NOT_SUPPORTED", message))
    } else {
        None
    }
}

/// Why a request cannot be read, and then where. prost begins with the way there, which may
/// be longer than a message.
fn unreadable(message: &str) -> String {
    let mut why = message.trim_start_matches("failed to decode Protobuf message: ");
    let mut fields = Vec::new();
    // `Task.labels: `, from the outermost on.
    while let Some((step, rest)) = why.split_once(": ")
        && let Some((_, field)) = step.split_once('.').filter(|_| !step.contains(' '))
    {
        fields.push(field);
        why = rest;
    }
    if why == "recursion limit reached" {
        why = "it is nested too deeply, make it flatter";
        // All the way down it is the same.
        fields.truncate(4);
    }
    let at = if fields.is_empty() { String::new() } else { format!(", at {}", fields.join(".")) };
    format!("the request cannot be read: {why}{at}")
}

fn resource_type(name: &str) -> &'static str {
    match name.split_once('/') {
        Some(("queues", _)) => "taskwatch.v1.Queue",
        Some(("operations", _)) => "google.longrunning.Operation",
        _ => "taskwatch.v1.Task",
    }
}

/// As many violations as there is room for, the first one always.
fn told(violations: Vec<Violation>) -> Vec<FieldViolation> {
    let total = violations.len();
    let mut room = VIOLATION_BYTES;
    let mut told = Vec::new();
    for Violation { field, description } in violations {
        let (field, description) = (cut(field, MESSAGE_BYTES), cut(description, MESSAGE_BYTES));
        let size = field.len() + description.len() + 16;
        if size > room {
            break;
        }
        room -= size;
        told.push(FieldViolation::new(field, description));
    }
    if told.len() < total {
        told.push(FieldViolation::new("", "there is more that is wrong than is shown here"));
    }
    told
}

fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_error_has_its_code_and_details() {
        let resource = || "tasks/x".to_owned();
        let retry_after = Some(Duration::from_millis(1500));
        let cases = [
            (Error::invalid("task.kind", "is required"), Code::InvalidArgument),
            (Error::NotFound { resource: resource() }, Code::NotFound),
            (
                Error::AlreadyExists { resource: resource(), field: String::new() },
                Code::AlreadyExists,
            ),
            (
                Error::FailedPrecondition {
                    reason: "NOT_SETTABLE",
                    subject: resource(),
                    description: "is QUEUED".into(),
                },
                Code::FailedPrecondition,
            ),
            (Error::lease_lost("x"), Code::Aborted),
            (
                Error::ResourceExhausted { message: "too much waits".into(), retry_after },
                Code::ResourceExhausted,
            ),
            (Error::Unavailable { message: "draining".into(), retry_after }, Code::Unavailable),
            (Error::Unimplemented("not yet"), Code::Unimplemented),
            (Error::Internal, Code::Internal),
        ];
        for (error, code) in cases {
            let status = status(error.clone());
            assert_eq!(status.code(), code);
            let details = status.get_error_details();
            assert_eq!(details.error_info().expect("always there").domain, DOMAIN);
            let (bad, resource, precondition, retry) = (
                details.bad_request().is_some(),
                details.resource_info().is_some(),
                details.precondition_failure().is_some(),
                details.retry_info().is_some(),
            );
            assert_eq!(bad, code == Code::InvalidArgument);
            assert_eq!(resource, matches!(code, Code::NotFound | Code::AlreadyExists));
            assert_eq!(precondition, code == Code::FailedPrecondition);
            assert_eq!(retry, matches!(code, Code::ResourceExhausted | Code::Unavailable));
            let item = rpc_status(error);
            assert_eq!((item.code, item.message.as_str()), (code.into(), status.message()));
            assert!(!item.details.is_empty());
        }
    }

    #[test]
    fn the_reason_is_the_error_s_own() {
        let details = status(Error::lease_lost("x")).get_error_details();
        assert_eq!(details.error_info().expect("always there").reason, "LEASE_LOST");
    }

    #[test]
    fn what_is_told_fits_into_trailers() {
        let violation = |n: usize| Violation {
            field: format!("requests[{n}].task.labels[\"{}\"]", "ä".repeat(63)),
            description: "key must have at most 63 characters".into(),
        };
        let status = status(Error::InvalidArgument((0..1_000).map(violation).collect()));
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).expect("fits");
        let size: usize = headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 32).sum();
        assert!(size < 8 * 1024, "{size}");
        let details = status.get_error_details();
        let shown = &details.bad_request().expect("there").field_violations;
        assert!(shown.len() > 3);
        assert!(shown.last().expect("there").description.contains("more"));
    }
}
