//! What stands between HTTP/2 and tonic's services, and refuses what these leave to us:
//! requests that are not gRPC, and malformed deadlines. What is handed on is a [`Call`].

use std::{
    convert::Infallible,
    future::ready,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
};

use http::{Request, Response};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tonic::{Code, body::Body};
use tower::Service;

pub use super::body::RequestBytes;
use super::{
    body::Received,
    call::{Call, panicked, path},
    deadline::{Deadline, Malformed},
    errors, not_grpc,
    streams::{Lasting, OpenStreams},
};

/// Streams of gRPC's own services. They have no end of their own, and know nothing of a
/// server that drains.
const GRPC_S_OWN: [&str; 3] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The services, as one connection meets them.
#[derive(Clone, Debug)]
pub struct Edge<S> {
    inner: S,
    connection: Arc<Connection>,
}

/// What the calls of a connection share.
#[derive(Debug)]
struct Connection {
    open: OpenStreams,
    received: Arc<RequestBytes>,
    closing: CancellationToken,
}

impl<S> Edge<S> {
    /// For one connection. `received` is shared by all of them; `closing` ends the
    /// streams of gRPC's own services.
    pub fn new(inner: S, received: RequestBytes, closing: CancellationToken) -> Self {
        let (open, received) = (OpenStreams::default(), Arc::new(received));
        let connection = Connection { open, received, closing };
        Self { inner, connection: Arc::new(connection) }
    }
}

/// What can stand behind an [`Edge`]. Never busy: it is called without being asked.
pub trait Served:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Served for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

impl<S, B> hyper::service::Service<Request<B>> for Edge<S>
where
    S: Served,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let call = match self.connection.begin(self.inner.clone(), request) {
            Ok(call) => call,
            Err(refusal) => return Box::pin(ready(Ok(refusal))),
        };
        Box::pin(async move { Ok(call.answer().await) })
    }
}

impl Connection {
    /// Hands a request on, or refuses it.
    #[expect(clippy::result_large_err, reason = "the answer itself, moved once")]
    fn begin<S, B>(
        &self,
        mut service: S,
        request: Request<B>,
    ) -> Result<Call<S::Future>, Response<Body>>
    where
        S: Served,
        B: http_body::Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<tonic::codegen::StdError>,
    {
        if let Some(refusal) = not_grpc::refusal(&request) {
            return Err(refusal);
        }
        let deadline = Deadline::of(request.headers()).map_err(|Malformed| {
            errors::of_transport(
                Code::InvalidArgument,
                "MALFORMED_TIMEOUT",
                "grpc-timeout must be at most 8 digits and one of H, M, S, m, u and n".into(),
            )
            .into_http()
        })?;
        let target = request.uri().path_and_query().cloned();
        let grpc_s_own = GRPC_S_OWN.contains(&path(target.as_ref()));
        let received = Arc::clone(&self.received);
        let mut request = request.map(|body| Body::new(Received::new(body, received, grpc_s_own)));
        request.extensions_mut().insert(self.open.clone());
        // Our own watches count themselves.
        let lasting = grpc_s_own.then(|| Lasting::begin(request.extensions())).transpose();
        let lasting = lasting.map_err(|error| errors::status(error).into_http())?;
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        let answer = catch_unwind(AssertUnwindSafe(|| service.call(request)))
            .map_err(|_| panicked(path(target.as_ref())))?;
        Ok(Call {
            answer,
            target,
            gives_up: deadline.map(|Deadline(end)| Box::pin(sleep_until(end))),
            closing: grpc_s_own.then(|| self.closing.clone()),
            lasting,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Method, StatusCode};
    use http_body_util::{BodyExt, Full};
    use hyper::service::Service as _;
    use tonic::{Status, service::Routes};
    use tonic_types::StatusExt;

    use super::*;

    const CHECK: &str = "/grpc.health.v1.Health/Check";

    fn health() -> Routes {
        Routes::new(tonic_health::server::health_reporter().1.max_decoding_message_size(1_000))
    }

    fn edge<S>(inner: S) -> Edge<S> {
        Edge::new(inner, RequestBytes::default(), CancellationToken::new())
    }

    fn request(path: &str, message: &[u8]) -> Request<Full<Bytes>> {
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
        body.extend(message);
        Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body.into()))
            .expect("well formed")
    }

    async fn status_of(answer: Response<Body>) -> Status {
        if let Some(status) = Status::from_header_map(answer.headers()) {
            return status;
        }
        let whole = answer.into_body().collect().await.expect("whole");
        let trailers = whole.trailers().expect("has trailers");
        Status::from_header_map(trailers).expect("has a status")
    }

    async fn call(request: Request<Full<Bytes>>) -> Status {
        let Ok(answer) = edge(health()).call(request).await;
        status_of(answer).await
    }

    fn reason(status: &Status) -> String {
        status.get_error_details().error_info().expect("has one").reason.clone()
    }

    #[tokio::test]
    async fn a_good_request_passes() {
        assert_eq!(call(request(CHECK, b"")).await.code(), Code::Ok);
        let mut good = request(CHECK, b"");
        good.headers_mut()
            .insert("content-type", "Application/gRPC+proto; v=1".parse().expect("fine"));
        assert_eq!(call(good).await.code(), Code::Ok);
        // A status of a handler's own stays what it is.
        let other = b"\x0a\x05other";
        assert_eq!(call(request(CHECK, other)).await.code(), Code::NotFound);
    }

    #[tokio::test]
    async fn what_cannot_be_decoded_is_the_caller_s_fault() {
        let malformed = call(request(CHECK, &[0xff; 9])).await;
        assert_eq!(malformed.code(), Code::InvalidArgument);
        assert_eq!(reason(&malformed), "MALFORMED_MESSAGE");
        let mut cut = request(CHECK, b"");
        *cut.body_mut() = Full::new(Bytes::from_static(&[0, 0, 0, 0, 9, 1]));
        assert_eq!(call(cut).await.code(), Code::InvalidArgument);
        let mut none = request(CHECK, b"");
        *none.body_mut() = Full::new(Bytes::new());
        assert_eq!(call(none).await.code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn what_is_too_large_has_exhausted_something() {
        let large = call(request(CHECK, &[0; 1_001])).await;
        assert_eq!(large.code(), Code::ResourceExhausted);
        assert_eq!(reason(&large), "MESSAGE_TOO_LARGE");
        assert!(large.message().ends_with("bytes: send or ask for less at once"), "{large:?}");
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_as_well() {
        let (_, health) = tonic_health::server::health_reporter();
        let answer =
            edge(Routes::new(health.max_encoding_message_size(1))).call(request(CHECK, b"")).await;
        let Ok(answer) = answer;
        let status = status_of(answer).await;
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
        );
    }

    #[tokio::test]
    async fn methods_that_nobody_has() {
        let status = call(request("/taskwatch.v1.TaskService/Fly", b"")).await;
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("/taskwatch.v1.TaskService/Fly"));
        let long = format!("/{}", "ä".repeat(100));
        let cut = call(request(&long, b"")).await;
        assert_eq!(cut.message(), format!("there is no method /{} here", "ä".repeat(63)));
        for path in ["/grpc.health.v1.Health/Fly", "/grpc.health.v1.Health/", "/Fly", "/"] {
            let status = call(request(path, b"")).await;
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
            assert_eq!(status.message(), format!("there is no method {path} here"));
            assert_eq!(reason(&status), "UNKNOWN_METHOD", "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_not_grpc_is_told_so_in_http() {
        let mut get = request(CHECK, b"");
        *get.method_mut() = Method::GET;
        let Ok(answer) = edge(health()).call(get).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()["allow"], "POST");
        let mut head = request(CHECK, b"");
        *head.method_mut() = Method::HEAD;
        let Ok(answer) = edge(health()).call(head).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(http_body::Body::is_end_stream(answer.body()), "HEAD is answered without a body");
        for other in ["text/html", "application/grpc-web", "application/grpc+json", ""] {
            let mut html = request(CHECK, b"");
            html.headers_mut().insert("content-type", other.parse().expect("fine"));
            let Ok(answer) = edge(health()).call(html).await;
            assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_kept_also_within_a_stream() {
        let never = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, Infallible>>()
        });
        let with_timeout = |path, timeout: &str| {
            let mut request = request(path, b"");
            request.headers_mut().insert("grpc-timeout", timeout.parse().expect("fine"));
            request
        };
        let Ok(answer) = edge(never).call(with_timeout(CHECK, "5S")).await;
        assert_eq!(status_of(answer).await.code(), Code::DeadlineExceeded);
        assert_eq!(call(with_timeout(CHECK, "soon")).await.code(), Code::InvalidArgument);
        // The reporter must live, or its watches end.
        let (_reporter, health) = tonic_health::server::health_reporter();
        let watch = with_timeout("/grpc.health.v1.Health/Watch", "5S");
        let Ok(answer) = edge(Routes::new(health)).call(watch).await;
        assert_eq!(status_of(answer).await.code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn streams_of_health_end_when_the_server_closes() {
        let (_reporter, health) = tonic_health::server::health_reporter();
        let closing = CancellationToken::new();
        let edge = Edge::new(Routes::new(health), RequestBytes::default(), closing.clone());
        let Ok(answer) = edge.call(request("/grpc.health.v1.Health/Watch", b"")).await;
        let mut body = answer.into_body();
        assert!(body.frame().await.expect("the present state").expect("fine").is_data());
        closing.cancel();
        let end = body.frame().await.expect("an end").expect("fine");
        let trailers = end.into_trailers().expect("trailers");
        let status = Status::from_header_map(&trailers).expect("has a status");
        assert_eq!(status.code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn streams_of_health_leave_room_for_others() {
        let (_reporter, health) = tonic_health::server::health_reporter();
        let edge = edge(Routes::new(health));
        let watch = || request("/grpc.health.v1.Health/Watch", b"");
        let mut open = Vec::new();
        for _ in 0..OpenStreams::LASTING {
            let Ok(answer) = edge.clone().call(watch()).await;
            assert!(Status::from_header_map(answer.headers()).is_none(), "it is open");
            open.push(answer);
        }
        let Ok(refused) = edge.clone().call(watch()).await;
        assert_eq!(status_of(refused).await.code(), Code::ResourceExhausted);
        open.pop();
        let Ok(answer) = edge.call(watch()).await;
        assert!(Status::from_header_map(answer.headers()).is_none(), "one has ended");
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_of_that_call_alone() {
        let panics = tower::service_fn(|request: Request<Body>| {
            assert_eq!(request.uri().path(), CHECK, "expected by the test");
            async {
                tokio::time::sleep(Duration::ZERO).await;
                panic!("expected by the test")
            }
        });
        let edge = edge(panics);
        for path in [CHECK, "/at.once", CHECK] {
            let Ok(answer) = edge.clone().call(request(path, b"")).await;
            assert_eq!(status_of(answer).await.code(), Code::Internal);
        }
    }
}
