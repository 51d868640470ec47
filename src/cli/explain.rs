//! What a server's refusal means, in sentences: its rich details unpacked.

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{clean::clean, exit::Fault};

/// The fault that a call to `server` ended with.
pub(super) fn fault(status: &Status, server: &str) -> Fault {
    let message = sentence(status, server);
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => Fault::Unreachable(message),
        // tonic's own word for a deadline that passed on this side.
        Code::Cancelled => Fault::Unreachable(message),
        Code::NotFound => Fault::Missing(message),
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => Fault::Failed(message),
    }
}

/// Whether no server answered, other than one that said that it is not available.
fn unanswered(status: &Status) -> bool {
    status.code() == Code::Unavailable && std::error::Error::source(status).is_some()
}

/// Whether the same call may be answered otherwise later.
pub(super) fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unknown
    )
}

/// A refusal, with what it holds besides its message.
pub(super) fn sentence(status: &Status, server: &str) -> String {
    if unanswered(status) {
        return format!(
            "cannot reach the server at {server}: {}; start one with taskwatch serve, or name \
             another with --server",
            clean(&root(status))
        );
    }
    let details = status.get_error_details();
    let mut lines = Vec::new();
    let violations = details.bad_request().map_or(&[][..], |bad| &bad.field_violations);
    match (violations, status.code()) {
        ([], Code::Unimplemented) => lines.push(format!("{server} is no Taskwatch server")),
        ([], Code::Cancelled | Code::DeadlineExceeded) => {
            lines.push(format!("the server at {server} did not answer in time"));
        }
        ([], code) if status.message().is_empty() => {
            lines.push(format!("the server answered {}", code_name(code.into())));
        }
        ([], Code::NotFound) => {
            let what = clean(status.message());
            lines.push(format!("{what}; taskwatch list shows what is there"));
        }
        ([], _) => lines.push(clean(status.message())),
        ([one], _) => lines.push(format!("{}: {}", clean(&one.field), clean(&one.description))),
        (many, _) => {
            lines.push(format!("{} fields are wrong", many.len()));
            lines.extend(
                many.iter()
                    .map(|one| format!("  {}: {}", clean(&one.field), clean(&one.description))),
            );
        }
    }
    for unmet in details.precondition_failure().map_or(&[][..], |failure| &failure.violations) {
        if !unmet.description.is_empty() && unmet.description != status.message() {
            lines.push(format!("  {}: {}", clean(&unmet.subject), clean(&unmet.description)));
        }
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        lines.push(format!("  try again in {:.1} s", delay.as_secs_f64()));
    }
    lines.join("\n")
}

/// The innermost reason, which says most: "Connection refused", not "transport error".
fn root(status: &Status) -> String {
    let mut error: &dyn std::error::Error = status;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A canonical code as the wire's own documents spell it.
pub(super) fn code_name(code: i32) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.map_or_else(|| format!("code {code}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, FieldViolation};

    fn with(code: Code, message: &str, details: ErrorDetails) -> Status {
        Status::with_error_details(code, message, details)
    }

    #[test]
    fn refusals_as_sentences() {
        let two = vec![
            FieldViolation::new("task.kind", "must be set"),
            FieldViolation::new("task.priority", "must be -100 to 100"),
        ];
        let retry = ErrorDetails::with_retry_info(Some(std::time::Duration::from_millis(1500)));
        let cases = [
            (
                Status::not_found("tasks/a not found"),
                "tasks/a not found; taskwatch list shows what is there",
            ),
            (
                with(
                    Code::InvalidArgument,
                    "task.kind: must be set",
                    ErrorDetails::with_bad_request(two[..1].to_vec()),
                ),
                "task.kind: must be set",
            ),
            (
                with(Code::InvalidArgument, "x", ErrorDetails::with_bad_request(two)),
                "2 fields are wrong\n  task.kind: must be set\n  task.priority: must be -100 to \
                 100",
            ),
            (
                with(Code::ResourceExhausted, "too much waits", retry),
                "too much waits\n  try again in 1.5 s",
            ),
            (Status::internal(""), "the server answered INTERNAL"),
            (Status::unimplemented(""), "s is no Taskwatch server"),
            (Status::unavailable("it drains"), "it drains"),
        ];
        for (status, expected) in cases {
            assert_eq!(sentence(&status, "s"), expected);
        }
    }

    #[test]
    fn which_refusals_mean_that_nobody_is_there() {
        assert!(matches!(fault(&Status::unavailable("x"), "s"), Fault::Unreachable(_)));
        assert!(matches!(fault(&Status::cancelled("Timeout expired"), "s"), Fault::Unreachable(_)));
        assert!(matches!(fault(&Status::not_found("x"), "s"), Fault::Missing(_)));
    }
}
