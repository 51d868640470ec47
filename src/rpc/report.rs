//! What workers say, read: progress, checkpoints and outcomes.

use prost_types::Struct;

use super::{path::At, payload, read};
use crate::{
    domain::{Error, Finish, Object, Outcome, ProgressReport, Report, TaskId, limits},
    proto::{
        self,
        finish_tasks_request::{Outcome as ProtoOutcome, outcome::Outcome as End},
        report_tasks_request::Report as ProtoReport,
    },
};

/// A word of a worker on one task. The inner error is a matter of that lease alone.
pub(super) type Word<T> = Option<Result<(TaskId, T), Error>>;

/// Reads a report.
pub(super) fn report(at: &At<'_>, report: ProtoReport) -> Word<Report> {
    let ProtoReport { name, lease_token, progress, checkpoint } = report;
    let lease = lease(at, &name, &lease_token);
    let progress = progress.map(|progress| progress_report(&at.field("progress"), progress));
    let checkpoint = self::checkpoint(at, checkpoint);
    Some(lease?.map(|(id, token)| (id, Report { token, progress, checkpoint })))
}

/// Reads an outcome.
pub(super) fn outcome(at: &At<'_>, outcome: ProtoOutcome) -> Word<Finish> {
    let ProtoOutcome { name, lease_token, outcome, permanent, progress, checkpoint } = outcome;
    let lease = lease(at, &name, &lease_token);
    let progress = progress.map(|progress| progress_report(&at.field("progress"), progress));
    let checkpoint = self::checkpoint(at, checkpoint);
    if permanent && !matches!(outcome, Some(End::Error(_))) {
        at.field("permanent").refuse("belongs to an error: set `error`, or leave it out");
    }
    let outcome = end(at, outcome, permanent)?;
    Some(lease?.map(|(id, token)| {
        (id, Finish { report: Report { token, progress, checkpoint }, outcome })
    }))
}

fn lease(at: &At<'_>, name: &str, token: &str) -> Word<crate::domain::Token> {
    let id = read::task_name(&at.field("name"), name);
    if token.is_empty() {
        at.field("lease_token").refuse("is required: it came with the lease");
        return None;
    }
    let id = id?;
    Some(match read::token(token) {
        Some(token) => Ok((id, token)),
        // No lease ever had such a token.
        None => Err(Error::lease_lost(&id)),
    })
}

fn end(at: &At<'_>, end: Option<End>, permanent: bool) -> Option<Outcome> {
    let truly = |name, said: bool, outcome| {
        if !said {
            at.field(name).refuse("must be true, or left out");
        }
        Some(outcome)
    };
    match end {
        Some(End::Result(result)) => {
            payload::value(&at.field("result"), result, limits::PAYLOAD_BYTES)
                .map(Outcome::Succeeded)
        }
        Some(End::Error(error)) => read::failure(&at.field("error"), error)
            .map(|error| Outcome::Failed { error, permanent }),
        Some(End::Cancelled(said)) => truly("cancelled", said, Outcome::Cancelled),
        Some(End::Released(said)) => truly("released", said, Outcome::Released),
        None => {
            at.field("outcome")
                .refuse("is required: one of `result`, `error`, `cancelled` and `released`");
            None
        }
    }
}

fn checkpoint(at: &At<'_>, checkpoint: Option<Struct>) -> Option<Object> {
    payload::object(&at.field("checkpoint"), checkpoint?, limits::SMALL_PAYLOAD_BYTES)
}

/// Reads progress as a whole.
pub(super) fn progress_report(at: &At<'_>, progress: proto::Progress) -> ProgressReport {
    let proto::Progress {
        percent,
        message,
        completed_units,
        total_units,
        unit,
        details,
        // Not the worker's to say.
        update_time: _,
        estimated_end_time: _,
    } = progress;
    ProgressReport {
        percent: percent.map(|percent| read::percent(&at.field("percent"), percent)),
        message: message_text(at, message),
        completed_units: read::count(&at.field("completed_units"), completed_units),
        total_units: read::count(&at.field("total_units"), total_units),
        unit: unit_text(at, unit),
        details: details.and_then(|details| self::details(at, details)),
    }
}

/// `progress.message`
pub(super) fn message_text(at: &At<'_>, message: String) -> String {
    read::text(&at.field("message"), message, limits::PROGRESS_MESSAGE_CHARS)
}

/// `progress.unit`
pub(super) fn unit_text(at: &At<'_>, unit: String) -> String {
    read::text(&at.field("unit"), unit, limits::PROGRESS_UNIT_CHARS)
}

/// `progress.details`
pub(super) fn details(at: &At<'_>, details: Struct) -> Option<Object> {
    payload::object(&at.field("details"), details, limits::SMALL_PAYLOAD_BYTES)
}

#[cfg(test)]
mod tests {
    use tonic_types::pb;

    use super::*;
    use crate::{domain::Token, rpc::path::Findings};

    const TOKEN: Token = Token([7; 16]);

    fn fields<T: std::fmt::Debug>(read: impl FnOnce(&At<'_>) -> Word<T>) -> Vec<String> {
        let findings = Findings::default();
        let word = read(&findings.root());
        match findings.judge(word) {
            Err(Error::InvalidArgument(found)) => found.into_iter().map(|v| v.field).collect(),
            other => panic!("must be refused: {other:?}"),
        }
    }

    fn said(end: Option<End>) -> ProtoOutcome {
        ProtoOutcome {
            name: "tasks/a".into(),
            lease_token: read::token_text(TOKEN),
            outcome: end,
            ..Default::default()
        }
    }

    fn taken(end: End) -> Outcome {
        let findings = Findings::default();
        let word = outcome(&findings.root(), said(Some(end)));
        findings.judge(word).expect("well formed").expect("a token").1.outcome
    }

    #[test]
    fn all_that_is_wrong_with_a_report() {
        let bad = ProtoReport {
            name: "a".into(),
            lease_token: String::new(),
            progress: Some(proto::Progress {
                percent: Some(f64::NAN),
                message: "x".repeat(1_001),
                completed_units: -1,
                total_units: -1,
                unit: "y".repeat(129),
                details: Some(Struct {
                    fields: [("\0".to_owned(), prost_types::Value::default())].into(),
                }),
                ..Default::default()
            }),
            checkpoint: Some(Struct {
                fields: [("x".repeat(64 << 10), prost_types::Value::default())].into(),
            }),
        };
        assert_eq!(
            fields(|at| report(&at.field("reports").index(2), bad)),
            [
                "reports[2].name",
                "reports[2].lease_token",
                "reports[2].progress.percent",
                "reports[2].progress.message",
                "reports[2].progress.completed_units",
                "reports[2].progress.total_units",
                "reports[2].progress.unit",
                "reports[2].progress.details",
                "reports[2].checkpoint",
            ]
        );
    }

    #[test]
    fn a_token_that_nobody_had_is_a_lost_lease() {
        let findings = Findings::default();
        let report = report(
            &findings.root(),
            ProtoReport {
                name: "tasks/a".into(),
                lease_token: "stale".into(),
                ..Default::default()
            },
        );
        assert_eq!(findings.judge(report), Ok(Err(Error::lease_lost("a"))));
    }

    #[test]
    fn each_outcome() {
        let null = prost_types::Value { kind: None };
        assert_eq!(taken(End::Result(null)), Outcome::Succeeded(crate::domain::Value::default()));
        assert_eq!(taken(End::Cancelled(true)), Outcome::Cancelled);
        assert_eq!(taken(End::Released(true)), Outcome::Released);
        let Outcome::Failed { error, permanent: false } = taken(End::Error(pb::Status::default()))
        else {
            panic!("must be a retryable error")
        };
        assert_eq!(error.code, crate::domain::Code::UNKNOWN);
    }

    #[test]
    fn outcomes_that_say_nothing() {
        assert_eq!(fields(|at| outcome(at, said(None))), ["outcome"]);
        assert_eq!(fields(|at| outcome(at, said(Some(End::Cancelled(false))))), ["cancelled"]);
        assert_eq!(fields(|at| outcome(at, said(Some(End::Released(false))))), ["released"]);
        let permanent = ProtoOutcome { permanent: true, ..said(Some(End::Released(true))) };
        assert_eq!(fields(|at| outcome(at, permanent)), ["permanent"]);
        let error = pb::Status { code: 17, message: "x".repeat(4_001), details: vec![] };
        assert_eq!(
            fields(|at| outcome(at, said(Some(End::Error(error))))),
            ["error.code", "error.message"]
        );
    }
}
