//! WorkerService: the same calls that the runner inside the server makes, for workers
//! anywhere.

use std::time::Duration;

use tonic::{Request, Response, Status};

use super::{
    deadline::Deadline,
    errors,
    message::{self, View},
    path::{At, Findings},
    read,
    report::{self, Word},
    streams::Lasting,
};
use crate::{
    domain::{EXTERNAL, Error, Name, TaskId, limits},
    proto::{self, report_tasks_response::Answer, worker_service_server::WorkerService},
    tasks::{self, LeaseRequest, Leased, Tasks},
};

/// WorkerService over [`Tasks`].
#[derive(Debug)]
pub(super) struct WorkerApi {
    tasks: Tasks,
}

impl WorkerApi {
    pub(super) const fn new(tasks: Tasks) -> Self {
        Self { tasks }
    }
}

#[tonic::async_trait]
impl WorkerService for WorkerApi {
    async fn lease_tasks(
        &self,
        request: Request<proto::LeaseTasksRequest>,
    ) -> Result<Response<proto::LeaseTasksResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let findings = Findings::default();
        let lease = lease_request(&findings.root(), request);
        let mut lease = findings.judge(lease).map_err(errors::status)?;
        lease.wait = Deadline::shorten(&extensions, lease.wait);
        // Held while it waits; one that does not wait is over at once.
        let _lasting = if lease.wait.is_zero() {
            None
        } else {
            Some(Lasting::begin(&extensions).map_err(errors::status)?)
        };
        let leased = self.tasks.lease(lease).await.map_err(errors::status)?;
        let mut leases = Vec::with_capacity(leased.len());
        leases.extend(leased.iter().filter_map(shown));
        Ok(Response::new(proto::LeaseTasksResponse { leases }))
    }

    async fn report_tasks(
        &self,
        request: Request<proto::ReportTasksRequest>,
    ) -> Result<Response<proto::ReportTasksResponse>, Status> {
        let reports = request.into_inner().reports;
        bounded("reports", reports.len()).map_err(errors::status)?;
        let words = words("reports", reports, report::report);
        let answers = each(words, |reports| self.tasks.report(reports)).await;
        let answers = answers.into_iter().map(answer).collect();
        Ok(Response::new(proto::ReportTasksResponse { answers }))
    }

    async fn finish_tasks(
        &self,
        request: Request<proto::FinishTasksRequest>,
    ) -> Result<Response<proto::FinishTasksResponse>, Status> {
        let outcomes = request.into_inner().outcomes;
        bounded("outcomes", outcomes.len()).map_err(errors::status)?;
        let words = words("outcomes", outcomes, report::outcome);
        let ends = each(words, |outcomes| self.tasks.finish(outcomes)).await;
        let statuses = ends
            .into_iter()
            .map(|end| end.err().map(errors::rpc_status).unwrap_or_default())
            .collect();
        Ok(Response::new(proto::FinishTasksResponse { statuses }))
    }
}

fn lease_request(at: &At<'_>, request: proto::LeaseTasksRequest) -> Option<LeaseRequest> {
    let proto::LeaseTasksRequest { worker, kinds, queues, max_tasks, lease_duration, wait } =
        request;
    let worker = read::name(&at.field("worker"), &worker);
    if kinds.is_empty() {
        at.field("kinds").refuse("is required: name the kinds that the worker serves");
    }
    if let Some(i) = kinds.iter().position(|kind| kind == EXTERNAL) {
        at.field("kinds")
            .index(i)
            .refuse("is \"external\", whose tasks are run by their owners: they are never leased");
    }
    let kinds = names(&at.field("kinds"), &kinds);
    let queues = names(&at.field("queues"), &queues);
    let max_tasks = read::at_most(&at.field("max_tasks"), max_tasks, 1, limits::BATCH);
    let duration = lease_duration_of(&at.field("lease_duration"), lease_duration);
    let wait = read::bounded_duration(&at.field("wait"), wait, limits::LEASE_WAIT_MAX);
    Some(LeaseRequest {
        worker: worker?,
        kinds,
        queues,
        max_tasks,
        duration,
        wait: wait.unwrap_or_default(),
        by_runner: false,
    })
}

fn lease_duration_of(at: &At<'_>, duration: Option<prost_types::Duration>) -> Duration {
    let duration =
        read::bounded_duration(at, duration, limits::LEASE_MAX).unwrap_or(limits::LEASE_DEFAULT);
    if duration < limits::LEASE_MIN {
        at.refuse(format!("must be at least {}s", limits::LEASE_MIN.as_secs()));
    }
    duration
}

/// Names, each once.
fn names(at: &At<'_>, texts: &[String]) -> Vec<Name> {
    if texts.len() > limits::LEASE_NAMES {
        at.refuse(format!("has {} names, more than {}", texts.len(), limits::LEASE_NAMES));
        return Vec::new();
    }
    let mut names = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        if let Some(name) = read::name(&at.index(i), text)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

fn shown(leased: &Leased) -> Option<proto::Lease> {
    let Leased { task, input } = leased;
    let Some(lease) = task.lease() else {
        tracing::error!(task = %task.id, "handed out without a lease");
        return None;
    };
    Some(proto::Lease {
        lease_token: read::token_text(lease.token),
        expire_time: Some(message::time(lease.expire_time)),
        task: Some(message::task(task, input.as_ref(), View::Full)),
    })
}

fn bounded(field: &str, number: usize) -> Result<(), Error> {
    if number > limits::BATCH {
        let why = format!("has {number} entries, more than {}", limits::BATCH);
        return Err(Error::invalid(field, why));
    }
    Ok(())
}

/// Reads each item by itself: a bad one spoils none of the others.
fn words<M, T>(
    field: &'static str,
    items: Vec<M>,
    read: impl Fn(&At<'_>, M) -> Word<T>,
) -> Vec<Result<(TaskId, T), Error>> {
    let word = |(i, item)| {
        let findings = Findings::default();
        let word = read(&findings.root().field(field).index(i), item);
        findings.judge(word)?
    };
    items.into_iter().enumerate().map(word).collect()
}

/// Sends on what could be read; what comes back takes its place among what could not.
async fn each<T, R, F>(
    words: Vec<Result<(TaskId, T), Error>>,
    send: impl FnOnce(Vec<(TaskId, T)>) -> F,
) -> Vec<Result<R, Error>>
where
    F: Future<Output = Vec<Result<R, Error>>>,
{
    let mut good = Vec::with_capacity(words.len());
    let mut refused = Vec::with_capacity(words.len());
    for word in words {
        match word {
            Ok(word) => {
                good.push(word);
                refused.push(None);
            }
            Err(error) => refused.push(Some(error)),
        }
    }
    let answers = if good.is_empty() { Vec::new() } else { send(good).await };
    let mut answers = answers.into_iter();
    refused
        .into_iter()
        .map(|refused| match refused {
            Some(error) => Err(error),
            None => answers.next().unwrap_or(Err(Error::Internal)),
        })
        .collect()
}

fn answer(answer: Result<tasks::Answer, Error>) -> Answer {
    match answer {
        Ok(tasks::Answer { wanted, expire_time, limit: _ }) => Answer {
            wanted_state: wanted.number(),
            lease_expire_time: Some(message::time(expire_time)),
            error: None,
        },
        Err(error) => Answer { error: Some(errors::rpc_status(error)), ..Answer::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{State, TimeLimit, Timestamp};

    fn read(request: proto::LeaseTasksRequest) -> Result<LeaseRequest, Error> {
        let findings = Findings::default();
        let lease = lease_request(&findings.root(), request);
        findings.judge(lease)
    }

    fn fields(request: proto::LeaseTasksRequest) -> Vec<String> {
        match read(request) {
            Err(Error::InvalidArgument(found)) => found.into_iter().map(|v| v.field).collect(),
            other => panic!("must be refused: {other:?}"),
        }
    }

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    fn least() -> proto::LeaseTasksRequest {
        proto::LeaseTasksRequest {
            worker: "w".into(),
            kinds: vec!["a".into(), "b".into(), "a".into()],
            ..Default::default()
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let lease = read(least()).expect("fine");
        assert_eq!(lease.kinds.len(), 2);
        assert_eq!((lease.max_tasks, lease.queues.len(), lease.by_runner), (1, 0, false));
        assert_eq!((lease.duration, lease.wait), (Duration::from_secs(30), Duration::ZERO));
    }

    #[test]
    fn all_that_can_be_wrong() {
        assert_eq!(fields(proto::LeaseTasksRequest::default()), ["worker", "kinds"]);
        let bad = proto::LeaseTasksRequest {
            worker: "a b".into(),
            kinds: vec!["ok".into(), "external".into(), "/".into()],
            queues: vec!["q".into(); 101],
            max_tasks: 1_001,
            lease_duration: seconds(3_601),
            wait: seconds(61),
        };
        assert_eq!(
            fields(bad),
            ["worker", "kinds[1]", "kinds[2]", "queues", "max_tasks", "lease_duration", "wait"]
        );
        let short = prost_types::Duration { seconds: 0, nanos: 999_999_999 };
        let bad = proto::LeaseTasksRequest {
            max_tasks: -1,
            lease_duration: Some(short),
            wait: seconds(-1),
            ..least()
        };
        assert_eq!(fields(bad), ["max_tasks", "lease_duration", "wait"]);
    }

    #[tokio::test]
    async fn a_bad_item_spoils_none_of_the_others() {
        let report = |name: &str, lease_token: String| proto::report_tasks_request::Report {
            name: name.into(),
            lease_token,
            ..Default::default()
        };
        let token = read::token_text(crate::domain::Token([1; 16]));
        let reports = vec![
            report("tasks/a", token.clone()),
            report("nonsense", token.clone()),
            report("tasks/b", "stale".into()),
            report("tasks/a", token),
        ];
        let words = words("reports", reports, report::report);
        let expire_time = Timestamp::from_micros(5);
        let answers = each(words, async |good| {
            let ids: Vec<&str> = good.iter().map(|(id, _)| id.as_str()).collect();
            assert_eq!(ids, ["a", "a"]);
            let wanted =
                tasks::Answer { wanted: State::Paused, expire_time, limit: TimeLimit::None };
            vec![Ok(wanted), Err(Error::no_task("a"))]
        })
        .await;
        let answers: Vec<Answer> = answers.into_iter().map(answer).collect();
        let codes: Vec<i32> =
            answers.iter().map(|a| a.error.as_ref().map_or(0, |error| error.code)).collect();
        assert_eq!(codes, [0, 3, 10, 5]);
        assert_eq!(answers[0].wanted_state, State::Paused.number());
        assert!(
            answers[1].error.as_ref().is_some_and(|e| e.message.starts_with("reports[1].name"))
        );
    }

    #[test]
    fn a_thousand_and_no_more() {
        assert!(bounded("reports", 1_000).is_ok());
        assert!(bounded("reports", 1_001).is_err());
    }
}
