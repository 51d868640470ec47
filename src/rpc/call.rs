//! A call that was handed on, and its answer. Puts right what tonic's services leave to us:
//! deadlines, panics, and the codes of what could not be decoded.

use std::{convert::Infallible, panic::AssertUnwindSafe, pin::Pin};

use futures_util::FutureExt;
use http::{HeaderMap, Response, header, uri::PathAndQuery};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};

use super::{body::Answered, errors, streams::Lasting};
use crate::domain::Error;

/// A call that waits for its answer, and for as little as can be beside: of hundreds, all that
/// they hold would not fit into the caches.
pub(super) struct Call<F> {
    pub(super) answer: F,
    pub(super) target: Option<PathAndQuery>,
    pub(super) gives_up: Option<Pin<Box<Sleep>>>,
    pub(super) closing: Option<CancellationToken>,
    pub(super) lasting: Option<Lasting>,
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Call<F> {
    pub(super) async fn answer(self) -> Response<Body> {
        let Self { answer, target, mut gives_up, closing, lasting } = self;
        let answer = AssertUnwindSafe(answer).catch_unwind();
        let answer = match &mut gives_up {
            None => answer.await,
            Some(gives_up) => tokio::select! {
                biased;
                answer = answer => answer,
                () = gives_up => return errors::deadline_exceeded().into_http(),
            },
        };
        let path = path(target.as_ref());
        match answer {
            Ok(Ok(answer)) => {
                let closing = closing.map(CancellationToken::cancelled_owned);
                corrected(answer, path)
                    .map(|body| Body::new(Answered::new(body, gives_up, closing, lasting)))
            }
            Ok(Err(never)) => match never {},
            Err(_) => panicked(path),
        }
    }
}

pub(super) fn path(target: Option<&PathAndQuery>) -> &str {
    target.map_or("", PathAndQuery::path)
}

/// Its message is in the log already, by the panic hook.
pub(super) fn panicked(path: &str) -> Response<Body> {
    tracing::error!(method = path, "a handler panicked");
    errors::status(Error::Internal).into_http()
}

/// What tonic said itself, said as it should be. Our own statuses have details, and
/// are left alone.
fn corrected(answer: Response<Body>, path: &str) -> Response<Body> {
    let ours = match answer.extensions().get::<Status>() {
        Some(status) if status.code() != Code::Unimplemented || !status.message().is_empty() => {
            errors::of_tonic(status)
        }
        None if !names_no_method(answer.headers()) => return answer,
        Some(_) | None => {
            let path = &path[..path.floor_char_boundary(128)];
            let message = format!("there is no method {path} here");
            Some(errors::of_transport(Code::Unimplemented, "UNKNOWN_METHOD", message))
        }
    };
    ours.map_or(answer, Status::into_http)
}

/// What a generated service says of a method that it does not have: UNIMPLEMENTED, and no more.
fn names_no_method(headers: &HeaderMap) -> bool {
    let unimplemented = |code: &header::HeaderValue| code == "12";
    headers.get(Status::GRPC_STATUS).is_some_and(unimplemented)
        && !headers.contains_key(Status::GRPC_MESSAGE)
}
