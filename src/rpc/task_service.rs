//! TaskService: each method reads its request in full, hands one command or question to
//! [`Tasks`], and shows what came back.

use std::{pin::Pin, time::Duration};

use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    census, create, errors,
    message::{self, View},
    page_token::Listing,
    path::{At, checked},
    payload::NUL,
    read,
    streams::Lasting,
    update,
    watch::{self, Frames},
};
use crate::{
    domain::{Error, Filter, NewTask, Order, TaskId, limits},
    hub::Full,
    proto::{self, TaskView, task_service_server::TaskService},
    store::ListQuery,
    tasks::{Create, Tasks},
    watch::{WatchAllOptions, WatchOptions},
};

/// TaskService over [`Tasks`].
#[derive(Debug)]
pub(super) struct TaskApi {
    tasks: Tasks,
}

impl TaskApi {
    pub(super) const fn new(tasks: Tasks) -> Self {
        Self { tasks }
    }
}

fn shown(full: &Full, view: View) -> proto::Task {
    message::task(&full.task.task, full.input.as_ref(), view)
}

#[tonic::async_trait]
impl TaskService for TaskApi {
    /// As an `async fn` it would keep the request until the answer comes: see
    /// [`Call`](super::call::Call).
    fn create_task<'a, 'async_trait>(
        &'a self,
        request: Request<proto::CreateTaskRequest>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<proto::Task>, Status>> + Send + 'async_trait>>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        let create = checked(|at| create::create(at, request.into_inner(), String::new()));
        let created = create.map(|create| self.tasks.create(create));
        Box::pin(async {
            let created = created?.await.map_err(errors::status)?;
            Ok(Response::new(shown(&created, View::Full)))
        })
    }

    async fn batch_create_tasks(
        &self,
        request: Request<proto::BatchCreateTasksRequest>,
    ) -> Result<Response<proto::BatchCreateTasksResponse>, Status> {
        let creates = checked(|at| batch(at, request.into_inner()))?;
        if creates.is_empty() {
            return Ok(Response::new(proto::BatchCreateTasksResponse::default()));
        }
        answer_fits(&creates).map_err(errors::status)?;
        let created = self.tasks.create_batch(creates).await.map_err(errors::status)?;
        let tasks = created.iter().map(|created| shown(created, View::Brief)).collect();
        let mut answer = proto::BatchCreateTasksResponse { tasks };
        // Of a repetition, whose tasks have come further, there may be more to tell than fits.
        if answer.encoded_len() > limits::MESSAGE_BYTES {
            answer.tasks.iter_mut().for_each(|task| task.progress = None);
        }
        Ok(Response::new(answer))
    }

    async fn get_task(
        &self,
        request: Request<proto::GetTaskRequest>,
    ) -> Result<Response<proto::Task>, Status> {
        let proto::GetTaskRequest { name, view } = request.into_inner();
        let (id, with_input) = checked(|at| {
            let id = read::task_name(&at.field("name"), &name);
            let with_input = read::view(&at.field("view"), view, TaskView::Full);
            Some((id?, with_input))
        })?;
        let task = self.tasks.get(&id, with_input).await.map_err(errors::status)?;
        Ok(Response::new(shown(&task, View::of(with_input))))
    }

    async fn list_tasks(
        &self,
        request: Request<proto::ListTasksRequest>,
    ) -> Result<Response<proto::ListTasksResponse>, Status> {
        let (query, listing) = checked(|at| list_query(at, &request.into_inner()))?;
        let page = self.tasks.list(&query).await.map_err(errors::status)?;
        let view = View::of(query.with_input);
        let tasks = page
            .tasks
            .iter()
            .map(|stored| message::task(&stored.task, stored.input.as_ref(), view))
            .collect();
        let next_page_token = page.next.map(|next| listing.token(&next)).unwrap_or_default();
        Ok(Response::new(proto::ListTasksResponse { tasks, next_page_token }))
    }

    async fn update_task(
        &self,
        request: Request<proto::UpdateTaskRequest>,
    ) -> Result<Response<proto::Task>, Status> {
        let proto::UpdateTaskRequest { task, update_mask } = request.into_inner();
        let (id, patch) = checked(|at| {
            let Some(task) = task else {
                at.field("task").refuse("is required, with its name at least");
                return None;
            };
            let id = read::task_name(&at.field("task").field("name"), &task.name);
            let patch = update::patch(at, task, update_mask);
            Some((id?, patch))
        })?;
        let task = self.tasks.update(id, patch).await.map_err(errors::status)?;
        Ok(Response::new(shown(&task, View::Full)))
    }

    async fn delete_task(
        &self,
        request: Request<proto::DeleteTaskRequest>,
    ) -> Result<Response<()>, Status> {
        let proto::DeleteTaskRequest { name, allow_missing } = request.into_inner();
        let id = checked(|at| read::task_name(&at.field("name"), &name))?;
        self.tasks.delete(id, allow_missing).await.map_err(errors::status)?;
        Ok(Response::new(()))
    }

    type WatchTaskStream = Frames;

    async fn watch_task(
        &self,
        request: Request<proto::WatchTaskRequest>,
    ) -> Result<Response<Frames>, Status> {
        let lasting = Lasting::begin(request.extensions()).map_err(errors::status)?;
        let (id, options) = checked(|at| watch_options(at, request.into_inner()))?;
        let with_input = options.with_input;
        let watch = self.tasks.watch(id, options).await.map_err(errors::status)?;
        Ok(Response::new(watch::one(watch, with_input, lasting)))
    }

    type WatchTasksStream = Frames;

    async fn watch_tasks(
        &self,
        request: Request<proto::WatchTasksRequest>,
    ) -> Result<Response<Frames>, Status> {
        let lasting = Lasting::begin(request.extensions()).map_err(errors::status)?;
        let options = checked(|at| watch_all_options(at, request.into_inner()))?;
        let with_input = options.with_input;
        let watch = self.tasks.watch_all(options).await.map_err(errors::status)?;
        Ok(Response::new(watch::all(watch, with_input, lasting)))
    }

    async fn list_attempts(
        &self,
        request: Request<proto::ListAttemptsRequest>,
    ) -> Result<Response<proto::ListAttemptsResponse>, Status> {
        census::attempts(&self.tasks, request.into_inner()).await.map(Response::new)
    }

    async fn list_kinds(
        &self,
        _: Request<proto::ListKindsRequest>,
    ) -> Result<Response<proto::ListKindsResponse>, Status> {
        let kinds = self.tasks.kinds().await.map_err(errors::status)?;
        let kinds = kinds.into_iter().map(census::kind).collect();
        Ok(Response::new(proto::ListKindsResponse { kinds }))
    }

    async fn list_queues(
        &self,
        _: Request<proto::ListQueuesRequest>,
    ) -> Result<Response<proto::ListQueuesResponse>, Status> {
        let queues = self.tasks.queues().await.map_err(errors::status)?;
        let queues = queues.into_iter().map(census::queue).collect();
        Ok(Response::new(proto::ListQueuesResponse { queues }))
    }

    async fn update_queue(
        &self,
        request: Request<proto::UpdateQueueRequest>,
    ) -> Result<Response<proto::Queue>, Status> {
        let (name, paused) = checked(|at| census::queue_update(at, request.into_inner()))?;
        let queue = self.tasks.update_queue(name, paused).await.map_err(errors::status)?;
        Ok(Response::new(census::queue(queue)))
    }
}

fn batch(at: &At<'_>, request: proto::BatchCreateTasksRequest) -> Option<Vec<Create>> {
    let at = at.field("requests");
    let requests = request.requests;
    if requests.len() > limits::BATCH {
        at.refuse(format!("has {} requests, more than {}", requests.len(), limits::BATCH));
        return None;
    }
    // Not collected at once: the first bad request must not hide the others.
    let creates: Vec<Option<Create>> = requests
        .into_iter()
        .enumerate()
        .map(|(i, request)| create::create(&at.index(i), request, format!("requests[{i}].")))
        .collect();
    creates.into_iter().collect()
}

/// Refuses a batch whose answer would be too large for one message, before anything is
/// created.
fn answer_fits(creates: &[Create]) -> Result<(), Error> {
    /// Times, numbers, tags and lengths of one task.
    const FIXED: usize = 256;
    let bytes = |new: &NewTask| {
        let labels: usize = new.labels.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        let queue = new.queue.as_ref().map_or(0, |queue| queue.len());
        FIXED + new.id.len() + new.kind.len() + queue + labels
    };
    let total: usize = creates.iter().map(|create| bytes(&create.new)).sum();
    if total > limits::MESSAGE_BYTES {
        return Err(Error::ResourceExhausted {
            message: format!(
                "the answer would be larger than {} bytes: send fewer requests at once",
                limits::MESSAGE_BYTES
            ),
            retry_after: None,
        });
    }
    Ok(())
}

fn filter(at: &At<'_>, text: &str) -> Option<Filter> {
    if text.contains('\0') {
        at.refuse(NUL);
        return None;
    }
    if text.len() > limits::FILTER_CHARS && text.chars().count() > limits::FILTER_CHARS {
        at.refuse(format!("must have at most {} characters", limits::FILTER_CHARS));
        return None;
    }
    at.take(Filter::parse(text))
}

/// What a list asks for, and what its page tokens are bound to.
pub(super) fn list_query(
    at: &At<'_>,
    request: &proto::ListTasksRequest,
) -> Option<(ListQuery, Listing)> {
    let proto::ListTasksRequest { page_size, page_token, filter, order_by, view } = request;
    let limit = read::page_size(&at.field("page_size"), *page_size, limits::DEFAULT_PAGE_SIZE)
        .min(limits::PAGE_SIZE);
    let with_input = read::view(&at.field("view"), *view, TaskView::Basic);
    let checked_filter = self::filter(&at.field("filter"), filter);
    let order = at.field("order_by").take(Order::parse(order_by));
    let (checked_filter, order) = (checked_filter?, order?);
    let listing = Listing::new(filter, &order);
    let after = if page_token.is_empty() { None } else { listing.cursor(page_token) };
    if after.is_none() && !page_token.is_empty() {
        at.field("page_token").refuse(
            "is not one of this list: send all else as in the call that gave it, or begin with \
             the first page",
        );
    }
    let max_bytes = limits::PAGE_BYTES;
    let query = ListQuery { filter: checked_filter, order, after, limit, max_bytes, with_input };
    Some((query, listing))
}

fn interval(at: &At<'_>, interval: Option<prost_types::Duration>) -> Option<Duration> {
    read::bounded_duration(at, interval, limits::WATCH_INTERVAL_MAX)
}

fn heartbeat(at: &At<'_>, interval: Option<prost_types::Duration>) -> Option<Duration> {
    self::interval(at, interval).map(|interval| interval.max(limits::HEARTBEAT_MIN))
}

fn watch_options(at: &At<'_>, request: proto::WatchTaskRequest) -> Option<(TaskId, WatchOptions)> {
    let proto::WatchTaskRequest { name, after_revision, view, min_interval, heartbeat_interval } =
        request;
    let id = read::task_name(&at.field("name"), &name);
    let options = WatchOptions {
        after_revision: read::count(&at.field("after_revision"), after_revision),
        with_input: read::view(&at.field("view"), view, TaskView::Basic),
        min_interval: interval(&at.field("min_interval"), min_interval).unwrap_or_default(),
        heartbeat_interval: heartbeat(&at.field("heartbeat_interval"), heartbeat_interval),
    };
    Some((id?, options))
}

fn watch_all_options(at: &At<'_>, request: proto::WatchTasksRequest) -> Option<WatchAllOptions> {
    let proto::WatchTasksRequest { filter, view, min_interval, heartbeat_interval } = request;
    let filter = self::filter(&at.field("filter"), &filter);
    let with_input = read::view(&at.field("view"), view, TaskView::Basic);
    let min_interval = interval(&at.field("min_interval"), min_interval).unwrap_or_default();
    let heartbeat_interval = heartbeat(&at.field("heartbeat_interval"), heartbeat_interval);
    Some(WatchAllOptions { filter: filter?, with_input, min_interval, heartbeat_interval })
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn fields<T: std::fmt::Debug>(result: Result<T, Status>) -> Vec<String> {
        let status = result.expect_err("must be refused");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let details = status.get_error_details();
        let found = details.bad_request().expect("has its violations");
        found.field_violations.iter().map(|found| found.field.clone()).collect()
    }

    #[test]
    fn a_batch_tells_of_all_its_requests() {
        let good = proto::CreateTaskRequest {
            task: Some(proto::Task { kind: "demo".into(), ..Default::default() }),
            ..Default::default()
        };
        let bad = |kind: &str| proto::CreateTaskRequest {
            task: Some(proto::Task { kind: kind.into(), priority: 999, ..Default::default() }),
            ..Default::default()
        };
        let requests = vec![good.clone(), bad(""), good.clone(), bad("demo")];
        let request = proto::BatchCreateTasksRequest { requests };
        assert_eq!(
            fields(checked(|at| batch(at, request))),
            ["requests[1].task.kind", "requests[1].task.priority", "requests[3].task.priority"]
        );
        let request = proto::BatchCreateTasksRequest { requests: vec![good; 1_001] };
        assert_eq!(fields(checked(|at| batch(at, request))), ["requests"]);
        let none = checked(|at| batch(at, proto::BatchCreateTasksRequest::default()));
        assert!(none.expect("fine").is_empty());
    }

    #[test]
    fn a_batch_whose_answer_would_not_fit() {
        let labels = (0..64).map(|n| (n.to_string(), "x".repeat(256))).collect();
        let task = proto::Task { kind: "demo".into(), labels, ..Default::default() };
        let request = proto::CreateTaskRequest { task: Some(task), ..Default::default() };
        let creates = |n| {
            let requests = vec![request.clone(); n];
            checked(|at| batch(at, proto::BatchCreateTasksRequest { requests })).expect("fine")
        };
        assert!(answer_fits(&creates(200)).is_ok());
        assert!(matches!(answer_fits(&creates(300)), Err(Error::ResourceExhausted { .. })));
    }

    #[test]
    fn watches_are_checked() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let request = proto::WatchTaskRequest {
            name: "tasks/".into(),
            after_revision: -1,
            view: 7,
            min_interval: seconds(-1),
            heartbeat_interval: seconds(3_601),
        };
        assert_eq!(
            fields(checked(|at| watch_options(at, request))),
            ["name", "after_revision", "view", "min_interval", "heartbeat_interval"]
        );
        let request = proto::WatchTaskRequest {
            name: "tasks/a".into(),
            heartbeat_interval: Some(prost_types::Duration { seconds: 0, nanos: 1 }),
            ..Default::default()
        };
        let (_, options) = checked(|at| watch_options(at, request)).expect("fine");
        assert_eq!(options.heartbeat_interval, Some(Duration::from_secs(1)));
        assert_eq!((options.min_interval, options.with_input), (Duration::ZERO, false));
    }

    #[test]
    fn names_of_tasks() {
        for bad in ["", "a", "tasks/", "tasks/a/b", "task/a", "tasks/-", "/tasks/a"] {
            let read = checked(|at| read::task_name(&at.field("name"), bad));
            assert_eq!(fields(read), ["name"], "{bad}");
        }
        let read = checked(|at| read::task_name(&at.field("name"), "tasks/a.b"));
        assert_eq!(read.expect("fine").as_str(), "a.b");
    }

    #[test]
    fn filters_have_a_bound() {
        let long = "x".repeat(4_097);
        assert_eq!(fields(checked(|at| filter(&at.field("filter"), &long))), ["filter"]);
        assert_eq!(fields(checked(|at| filter(&at.field("filter"), "kind = \"\0\""))), ["filter"]);
    }
}
