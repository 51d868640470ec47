//! The bodies of requests and answers, watched over: what is being received has a
//! bound in bytes and in time, and an answer always ends with a status.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status};

use super::{errors, streams::Lasting};
use crate::domain::Error;

/// Bytes of all requests of which some is still to come. hyper's windows bound only what
/// nobody has read yet, and tonic reads on until a message is whole.
#[derive(Clone, Debug, Default)]
pub struct RequestBytes(Arc<AtomicUsize>);

impl RequestBytes {
    /// More is refused.
    pub const MOST: usize = 256 << 20;
}

/// How long a request may take to come in, once it was not there at once.
const RECEIVED_WITHIN: Duration = Duration::from_secs(60);

/// The body of a request.
#[derive(Debug)]
pub(super) struct Received<B> {
    body: B,
    bytes: usize,
    total: Arc<RequestBytes>,
    patience: Patience,
}

#[derive(Debug)]
enum Patience {
    /// It is there, or it has not been looked for.
    Fresh,
    /// It was not there.
    Waiting(Pin<Box<Sleep>>),
    /// It may take for ever: a stream of requests.
    Endless,
}

impl<B> Received<B> {
    /// Watches over `body`. A stream of requests may take as long as it likes. `total` is
    /// that of a connection, whose calls share it without holding up those of others.
    pub(super) const fn new(body: B, total: Arc<RequestBytes>, is_stream: bool) -> Self {
        let patience = if is_stream { Patience::Endless } else { Patience::Fresh };
        Self { body, bytes: 0, total, patience }
    }

    /// What was there whenever it was looked for is not counted: the thread that reads it holds
    /// no more than a message and a window.
    fn came(&mut self, bytes: usize) -> Result<(), Status> {
        self.bytes += bytes;
        if matches!(self.patience, Patience::Fresh) { Ok(()) } else { self.count(bytes) }
    }

    fn count(&self, bytes: usize) -> Result<(), Status> {
        let before = self.total.0.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > RequestBytes::MOST {
            return Err(errors::status(Error::ResourceExhausted {
                message: "too many large requests at once".into(),
                retry_after: Some(Duration::from_secs(1)),
            }));
        }
        Ok(())
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if matches!(self.patience, Patience::Fresh) {
            self.patience = Patience::Waiting(Box::pin(tokio::time::sleep(RECEIVED_WITHIN)));
            if let Err(status) = self.count(self.bytes) {
                return Poll::Ready(status);
            }
        }
        match &mut self.patience {
            Patience::Waiting(sleep) => sleep.as_mut().poll(cx).map(|()| {
                let within = RECEIVED_WITHIN.as_secs();
                errors::of_transport(
                    Code::DeadlineExceeded,
                    "REQUEST_INCOMPLETE",
                    format!("the request was not complete within {within} s"),
                )
            }),
            Patience::Fresh | Patience::Endless => Poll::Pending,
        }
    }
}

impl<B> Drop for Received<B> {
    fn drop(&mut self) {
        if !matches!(self.patience, Patience::Fresh) {
            self.total.0.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

impl<B> Body for Received<B>
where
    B: Body + Unpin,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Data = Bytes;
    type Error = tonic::codegen::StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return this.wait(cx).map(|status| Some(Err(status.into()))),
        };
        let counted = this.came(frame.data_ref().map_or(0, Bytes::len));
        Poll::Ready(Some(counted.map(|()| frame).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer.
pub(super) struct Answered {
    /// None once it is over.
    body: Option<tonic::body::Body>,
    deadline: Option<Pin<Box<Sleep>>>,
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Counted until the answer is over.
    _lasting: Option<Lasting>,
}

impl Answered {
    /// Ends `body` when the caller has given up, and when the server closes, where
    /// nothing else would end it.
    pub(super) fn new(
        body: tonic::body::Body,
        deadline: Option<Pin<Box<Sleep>>>,
        closing: Option<WaitForCancellationFutureOwned>,
        lasting: Option<Lasting>,
    ) -> Self {
        Self { body: Some(body), deadline, closing: closing.map(Box::pin), _lasting: lasting }
    }

    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.body = None;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(status)))))
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        // First the end: a body that always has something would never come to it.
        if this.deadline.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            return this.end(&errors::deadline_exceeded());
        }
        if this.closing.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            return this.end(&errors::status(Error::Unavailable {
                message: "the server stops: try another one, or again".into(),
                retry_after: None,
            }));
        }
        match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))) {
            Ok(Poll::Ready(Some(Ok(frame)))) => {
                let frame = frame.into_trailers().map(corrected).map(Frame::trailers);
                Poll::Ready(Some(Ok(frame.unwrap_or_else(|frame| frame))))
            }
            Ok(Poll::Ready(ended)) => Poll::Ready(ended),
            Ok(Poll::Pending) => Poll::Pending,
            // The panic's own message is in the log already.
            Err(_) => this.end(&errors::status(Error::Internal)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // Only metadata can make it fail, and ours has none.
        trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from_static("13"));
    }
    trailers
}

/// An answer that is too large is RESOURCE_EXHAUSTED; tonic says OUT_OF_RANGE.
fn corrected(sent: HeaderMap) -> HeaderMap {
    if sent.get(Status::GRPC_STATUS).is_none_or(|code| code != "11") {
        return sent;
    }
    let ours = Status::from_header_map(&sent).as_ref().and_then(errors::of_tonic);
    ours.map_or(sent, |status| trailers(&status))
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    fn total() -> Arc<RequestBytes> {
        Arc::default()
    }

    /// Some bytes of a request, and no more.
    fn begins(
        bytes: usize,
    ) -> impl Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin {
        let begin =
            futures_util::stream::iter([Ok::<_, Status>(Frame::data(vec![0; bytes].into()))]);
        StreamBody::new(begin.chain(futures_util::stream::pending()))
    }

    async fn refusal(
        body: &mut Received<impl Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin>,
    ) -> Code {
        let error = body.frame().await.expect("an end").expect_err("there is no room");
        Status::from_error(error).code()
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_come_of_a_request_is_counted_while_more_is_waited_for() {
        let total = total();
        let mut first = Received::new(begins(RequestBytes::MOST), Arc::clone(&total), false);
        assert!(first.frame().await.expect("data").is_ok());
        assert!(first.frame().now_or_never().is_none());
        let mut second = Received::new(begins(1), Arc::clone(&total), false);
        assert!(second.frame().await.expect("data").is_ok());
        assert_eq!(refusal(&mut second).await, Code::ResourceExhausted);
        let mut stream = Received::new(begins(1), Arc::clone(&total), true);
        assert_eq!(refusal(&mut stream).await, Code::ResourceExhausted);
        let whole = Full::new(Bytes::from_static(b"x"));
        let mut whole = Received::new(whole, Arc::clone(&total), false);
        assert!(whole.frame().await.expect("data").is_ok(), "it is there, and waits for nothing");
        drop((first, second, stream, whole));
        let mut last = Received::new(begins(1), Arc::clone(&total), false);
        assert!(last.frame().await.expect("data").is_ok());
        assert!(last.frame().now_or_never().is_none());
        drop(last);
        assert_eq!(total.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_is_not_waited_for_for_ever() {
        let never =
            || StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Status>>());
        let mut half = Received::new(never(), total(), false);
        let error = half.frame().await.expect("an end").expect_err("in time");
        assert_eq!(Status::from_error(error).code(), Code::DeadlineExceeded);
        let mut stream = Received::new(never(), total(), true);
        let long = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(long, stream.frame()).await.is_err());
    }

    async fn end_of(mut body: Answered) -> Status {
        let frame = body.frame().await.expect("an end").expect("no error");
        let trailers = frame.into_trailers().expect("trailers");
        assert!(body.frame().await.is_none());
        Status::from_header_map(&trailers).expect("has a status")
    }

    fn silent() -> tonic::body::Body {
        let silence = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
        tonic::body::Body::new(StreamBody::new(silence))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_with_a_status_whatever_happens() {
        let sleep = Box::pin(tokio::time::sleep(Duration::from_secs(5)));
        let late = Answered::new(silent(), Some(sleep), None, None);
        assert_eq!(end_of(late).await.code(), Code::DeadlineExceeded);

        let closing = tokio_util::sync::CancellationToken::new();
        closing.cancel();
        let closed = Answered::new(silent(), None, Some(closing.cancelled_owned()), None);
        assert_eq!(end_of(closed).await.code(), Code::Unavailable);

        let panics = StreamBody::new(futures_util::stream::poll_fn(
            |_| -> Poll<Option<Result<Frame<Bytes>, Status>>> { panic!("expected by the test") },
        ));
        let panicked = Answered::new(tonic::body::Body::new(panics), None, None, None);
        assert_eq!(end_of(panicked).await.code(), Code::Internal);
    }
}
