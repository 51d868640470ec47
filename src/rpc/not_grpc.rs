//! What is no gRPC request is answered with an HTTP status, since its sender would not look
//! for another one.

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use tonic::body::Body;

/// What is said to whoever speaks something else.
pub const NOT_GRPC: &str =
    "this port speaks gRPC, over HTTP/2 without TLS: try grpcurl -plaintext\n";

/// None for a gRPC request.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<Response<Body>> {
    if request.method() != Method::POST {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED);
        if request.method() == Method::HEAD {
            *refusal.body_mut() = Body::empty();
        }
        refusal.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        return Some(refusal);
    }
    (!speaks_grpc(request.headers())).then(|| plain(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// application/grpc, alone or with +proto or a parameter. gRPC-Web and JSON are others.
fn speaks_grpc(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return false };
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii();
    essence.eq_ignore_ascii_case(b"application/grpc")
        || essence.eq_ignore_ascii_case(b"application/grpc+proto")
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::new(http_body_util::Full::from(NOT_GRPC)));
    *answer.status_mut() = status;
    let text = header::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, text);
    answer
}
