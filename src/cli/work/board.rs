//! The tasks of a server somewhere, for the runner in this process: its calls as
//! those of WorkerService.

use futures_util::future::BoxFuture;
use prost::Message;
use tonic::{Code, Status};

use crate::{
    cli::{clean::clean, explain::code_name, out, text::time},
    client::WorkerClient,
    clock,
    domain::{
        Error, Finish, Name, Object, Outcome, ProgressReport, Report, State, TaskId, TimeLimit,
        Token,
    },
    proto::{
        FinishTasksRequest, Lease, LeaseTasksRequest, Progress, finish_tasks_request,
        finish_tasks_request::outcome::Outcome as End, report_tasks_request, report_tasks_response,
    },
    runner::{Assignment, Board},
    tasks::{Answer, LeaseRequest},
};

/// Answers a runner by asking a server.
#[derive(Debug)]
pub(super) struct RemoteBoard {
    worker: WorkerClient,
    queues: Vec<String>,
}

impl RemoteBoard {
    /// Tasks from these queues; from all where none is named.
    pub(super) fn new(worker: WorkerClient, queues: Vec<String>) -> Self {
        Self { worker, queues }
    }
}

impl Board for RemoteBoard {
    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Vec<Assignment>, Error>> {
        Box::pin(async move {
            let request = LeaseTasksRequest {
                worker: request.worker.to_string(),
                kinds: request.kinds.iter().map(Name::to_string).collect(),
                queues: self.queues.clone(),
                max_tasks: i32::try_from(request.max_tasks).unwrap_or(i32::MAX),
                lease_duration: prost_types::Duration::try_from(request.duration).ok(),
                wait: prost_types::Duration::try_from(request.wait).ok(),
            };
            let leases = self.worker.lease(request).await.map_err(|status| error(&status))?;
            let assigned: Vec<_> = leases.into_iter().filter_map(assignment).collect();
            for Assignment { id, attempt, .. } in &assigned {
                out::say(format!("tasks/{id} begins, attempt {attempt}"));
            }
            Ok(assigned)
        })
    }

    fn report(&self, reports: Vec<(TaskId, Report)>) -> BoxFuture<'_, Vec<Result<Answer, Error>>> {
        Box::pin(async move {
            let count = reports.len();
            let reports = reports.into_iter().map(|(id, report)| {
                let Report { token, progress, checkpoint } = report;
                report_tasks_request::Report {
                    name: format!("tasks/{id}"),
                    lease_token: token_text(token),
                    progress: progress.map(progress_of),
                    checkpoint: checkpoint.as_ref().and_then(message),
                }
            });
            match self.worker.report(reports.collect()).await {
                Ok(answers) => answers.into_iter().map(answer).collect(),
                Err(status) => vec![Err(error(&status)); count],
            }
        })
    }

    fn finish(&self, outcomes: Vec<(TaskId, Finish)>) -> BoxFuture<'_, Vec<Result<(), Error>>> {
        Box::pin(async move {
            let said: Vec<String> =
                outcomes.iter().map(|(id, finish)| ending(id, &finish.outcome)).collect();
            let outcomes = outcomes.into_iter().map(outcome);
            let request = FinishTasksRequest { outcomes: outcomes.collect() };
            match self.worker.finish(request.outcomes).await {
                Ok(statuses) => std::iter::zip(statuses, &said)
                    .map(|(status, said)| finished(&status, said))
                    .collect(),
                Err(status) => said.iter().map(|_| Err(error(&status))).collect(),
            }
        })
    }
}

fn finished(status: &tonic_types::Status, said: &str) -> Result<(), Error> {
    refusal(Some(status))?;
    out::say(said);
    Ok(())
}

/// What is said of an attempt that has ended.
fn ending(id: &TaskId, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded(_) => format!("tasks/{id} succeeded"),
        Outcome::Failed { error, .. } => {
            let (code, message) = (code_name(error.code.number()), clean(&error.message));
            format!("tasks/{id} failed: {code}: {message}")
        }
        Outcome::Cancelled => format!("tasks/{id} was cancelled"),
        Outcome::Released => format!("tasks/{id} was given back"),
    }
}

fn assignment(lease: Lease) -> Option<Assignment> {
    let task = lease.task?;
    let (token, id) = (token(&lease.lease_token), task.name.strip_prefix("tasks/"));
    let (Some(token), Some(id), Some(kind)) =
        (token, id.and_then(Name::new), Name::new(&task.kind))
    else {
        tracing::error!(task = clean(&task.name), "came with what no server gives");
        return None;
    };
    let start_time = time(task.start_time.as_ref()).unwrap_or_else(clock::now);
    Some(Assignment {
        id,
        kind,
        attempt: u32::try_from(task.attempt).unwrap_or(1),
        state: State::from_number(task.state).unwrap_or(State::Running),
        token,
        start_time,
        expire_time: time(lease.expire_time.as_ref()).unwrap_or(start_time),
        // The server ends the attempt at its timeout, and the lease is lost then.
        limit: TimeLimit::None,
        input: task.input.as_ref().map(object).unwrap_or_default(),
        checkpoint: task.checkpoint.as_ref().map(object),
        kept_progress: task.progress.map(|progress| ProgressReport {
            percent: progress.percent,
            message: progress.message,
            completed_units: progress.completed_units,
            total_units: progress.total_units,
            unit: progress.unit,
            details: progress.details.as_ref().map(object),
        }),
    })
}

fn outcome((id, finish): (TaskId, Finish)) -> finish_tasks_request::Outcome {
    let Finish { report: Report { token, progress, checkpoint }, outcome } = finish;
    let (end, permanent) = match outcome {
        Outcome::Succeeded(value) => {
            let value = prost_types::Value::decode(value.encoded().clone()).unwrap_or_default();
            (End::Result(value), false)
        }
        Outcome::Failed { error, permanent } => {
            let status = tonic_types::Status {
                code: error.code.number(),
                message: error.message,
                details: Vec::new(),
            };
            (End::Error(status), permanent)
        }
        Outcome::Cancelled => (End::Cancelled(true), false),
        Outcome::Released => (End::Released(true), false),
    };
    finish_tasks_request::Outcome {
        name: format!("tasks/{id}"),
        lease_token: token_text(token),
        outcome: Some(end),
        permanent,
        progress: progress.map(progress_of),
        checkpoint: checkpoint.as_ref().and_then(message),
    }
}

fn answer(answer: report_tasks_response::Answer) -> Result<Answer, Error> {
    refusal(answer.error.as_ref())?;
    Ok(Answer {
        wanted: State::from_number(answer.wanted_state).unwrap_or(State::Running),
        expire_time: time(answer.lease_expire_time.as_ref()).unwrap_or_else(clock::now),
        limit: TimeLimit::None,
    })
}

fn refusal(status: Option<&tonic_types::Status>) -> Result<(), Error> {
    match status.filter(|status| status.code != 0) {
        Some(status) => Err(error(&Status::new(Code::from(status.code), &status.message))),
        None => Ok(()),
    }
}

/// As the runner understands it: whether the lease is lost, or the call can be made
/// again.
fn error(status: &Status) -> Error {
    let message = clean(status.message());
    match status.code() {
        Code::Aborted => Error::Aborted { reason: "LEASE_LOST", message },
        Code::NotFound => Error::NotFound { resource: message },
        Code::InvalidArgument | Code::OutOfRange => Error::invalid("worker", message),
        Code::FailedPrecondition | Code::Unimplemented | Code::PermissionDenied => {
            Error::FailedPrecondition {
                reason: "REFUSED",
                subject: String::new(),
                description: message,
            }
        }
        Code::ResourceExhausted => Error::ResourceExhausted { message, retry_after: None },
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => Error::Unavailable { message, retry_after: None },
    }
}

fn progress_of(report: ProgressReport) -> Progress {
    Progress {
        percent: report.percent,
        message: report.message,
        completed_units: report.completed_units,
        total_units: report.total_units,
        unit: report.unit,
        details: report.details.as_ref().and_then(message),
        ..Progress::default()
    }
}

fn message(object: &Object) -> Option<prost_types::Struct> {
    prost_types::Struct::decode(object.encoded().clone()).ok()
}

fn object(message: &prost_types::Struct) -> Object {
    Object::from_encoded(message.encode_to_vec().into())
}

/// Tokens are UUIDs, as this very server writes them.
fn token(text: &str) -> Option<Token> {
    uuid::Uuid::try_parse(text).ok().map(|token| Token(token.into_bytes()))
}

fn token_text(token: Token) -> String {
    uuid::Uuid::from_bytes(token.0).simple().to_string()
}
