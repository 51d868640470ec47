//! One connection, from its first byte to its last: HTTP/2 with the limits that
//! tonic's own server does not pass on.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{rt::Executor, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{places::Place, preface::Preface, turn::after_others};
use crate::rpc::{Edge, OpenStreams, RequestBytes, Served};

/// A peer is asked whether it still lives after so long, and given up after the other.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// The same of TCP, for what HTTP/2 does not reach.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Streams that may be reset for errors of theirs before the connection is closed.
const RESET_STREAMS: usize = 1_024;
/// Bytes that a stream may pile up here while its reader is slow.
const STREAM_SEND_BUFFER: usize = 16 << 10;
/// Bytes that wait in the socket beside what is on its way.
const UNSENT: u32 = 64 << 10;
/// Bytes of all headers of a request.
const HEADERS: u32 = 16 << 10;

/// How connections are served.
#[derive(Clone, Debug)]
pub(super) struct Settings<S> {
    services: S,
    received: RequestBytes,
    connections: TaskTracker,
    closing: CancellationToken,
    cut: CancellationToken,
}

impl<S: Served> Settings<S> {
    /// `closing` ends every connection gracefully, `cut` at once. They are in `connections`
    /// until their calls are over.
    pub(super) fn new(
        services: S,
        connections: TaskTracker,
        closing: CancellationToken,
        cut: CancellationToken,
    ) -> Self {
        Self { services, received: RequestBytes::default(), connections, closing, cut }
    }

    pub(super) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Serves a connection to its end.
    pub(super) fn spawn(&self, stream: TcpStream, place: Place) {
        let settings = self.clone();
        self.connections.spawn(async move {
            let streams = Streams::default();
            if let Err(error) = settings.serve(stream, &streams).await {
                // Of the peer, or of the network between: daily bread.
                tracing::debug!(%error, "a connection ended with an error");
            }
            drop(place);
            streams.end().await;
        });
    }

    async fn serve(
        self,
        stream: TcpStream,
        streams: &Streams,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        tune(&stream)?;
        // Looked at with every poll: by one connection, without the others.
        let closing = self.closing.child_token();
        let spoken = Arc::new(AtomicBool::new(false));
        let io = tokio::select! {
            begun = Preface::of(stream, Arc::clone(&spoken)) => begun?,
            // There is nobody to say goodbye to.
            () = closing.cancelled() => return Ok(()),
        };
        let Some(io) = io.map(TokioIo::new) else { return Ok(()) };
        let service = Edge::new(self.services, self.received, closing.clone());
        let mut connection = pin!(http2(streams.clone()).serve_connection(io, service));
        tokio::select! {
            ended = after_others(connection.as_mut(), || streams.are_many()) => return Ok(ended?),
            () = closing.cancelled() => {}
        }
        // There is nobody to say goodbye to, and hyper would wait for them.
        if !spoken.load(Ordering::Relaxed) {
            return Ok(());
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = after_others(connection, || streams.are_many()) => Ok(ended?),
            () = self.cut.cancelled() => Ok(()),
        }
    }
}

fn http2(streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(OpenStreams::PER_CONNECTION)
        .max_local_error_reset_streams(RESET_STREAMS)
        // Whoever gives up all of its calls at once has done nothing wrong.
        .max_pending_accept_reset_streams(OpenStreams::PER_CONNECTION as usize)
        .max_send_buf_size(STREAM_SEND_BUFFER)
        .max_header_list_size(HEADERS)
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1);
    builder
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    // A watcher that reads slowly must not find a buffer full of old states.
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

/// Spawns what hyper spawns, one task for each stream of a connection, which waits for them in
/// the end: to count those of all connections in one place would hold up each call for others.
#[derive(Clone, Debug, Default)]
struct Streams(TaskTracker);

impl Streams {
    fn are_many(&self) -> bool {
        self.0.len() > 1
    }

    /// Of a connection that is over.
    async fn end(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tonic::{Code, Request, service::Routes, transport::Channel};
    use tonic_health::{pb, server::HealthReporter};

    use super::*;
    use crate::{
        proto::{Codec, Frame},
        server::{
            accept::{self, Listener},
            preface,
        },
    };

    struct Port {
        address: std::net::SocketAddr,
        connections: TaskTracker,
        closing: CancellationToken,
        cut: CancellationToken,
        _reporter: HealthReporter,
    }

    /// A port that serves health, and nothing else.
    fn open() -> Port {
        let socket = accept::reserve("127.0.0.1:0".parse().expect("an address"));
        let listener = Listener::new(socket.expect("any port")).expect("opens");
        let (reporter, health) = tonic_health::server::health_reporter();
        let port = Port {
            address: listener.local_addr(),
            connections: TaskTracker::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            _reporter: reporter,
        };
        let settings = Settings::new(
            Routes::new(health),
            port.connections.clone(),
            port.closing.clone(),
            port.cut.clone(),
        );
        port.connections.spawn(accept::run(listener, settings));
        port
    }

    impl Port {
        async fn channel(&self) -> Channel {
            let endpoint = Channel::from_shared(format!("http://{}", self.address));
            endpoint.expect("an address").connect().await.expect("it is open")
        }

        async fn socket(&self) -> TcpStream {
            TcpStream::connect(self.address).await.expect("it is open")
        }

        /// Closes it, and waits until nothing of it is left.
        async fn close(self) {
            self.closing.cancel();
            self.connections.close();
            self.connections.wait().await;
        }
    }

    async fn is_closed(mut socket: TcpStream) -> bool {
        let mut rest = Vec::new();
        // Whatever it says before it hangs up; a reset is an end as well.
        let _ended = socket.read_to_end(&mut rest).await;
        true
    }

    #[tokio::test]
    async fn calls_pass_and_the_port_closes() {
        let port = open();
        let mut client = pb::health_client::HealthClient::new(port.channel().await);
        let answer = client.check(pb::HealthCheckRequest::default()).await;
        assert_eq!(answer.expect("is served").into_inner().status, 1);
        port.close().await;
    }

    #[tokio::test]
    async fn malformed_messages_over_the_wire() {
        let port = open();
        let mut client = tonic::client::Grpc::new(port.channel().await);
        client.ready().await.expect("connected");
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let request = Request::new(Frame::from_encoded(Bytes::from_static(&[0xff; 8])));
        let answer = client.unary(request, path, Codec::<Frame, Frame>::default()).await;
        assert_eq!(answer.expect_err("must be refused").code(), Code::InvalidArgument);
        port.close().await;
    }

    #[tokio::test]
    async fn messages_that_are_too_large_over_the_wire() {
        let port = open();
        let mut client = tonic::client::Grpc::new(port.channel().await);
        client.ready().await.expect("connected");
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let request = Request::new(Frame::from_encoded(vec![0; 5 << 20].into()));
        let answer = client.unary(request, path, Codec::<Frame, Frame>::default()).await;
        assert_eq!(answer.expect_err("must be refused").code(), Code::ResourceExhausted);
        port.close().await;
    }

    #[tokio::test]
    async fn an_open_stream_ends_when_the_port_closes() {
        let port = open();
        let mut client = pb::health_client::HealthClient::new(port.channel().await);
        let watch = client.watch(pb::HealthCheckRequest::default()).await;
        let mut watch = watch.expect("is served").into_inner();
        assert!(watch.message().await.expect("the present state").is_some());
        port.closing.cancel();
        assert_eq!(watch.message().await.expect_err("an end").code(), Code::Unavailable);
        port.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_not_waited_for() {
        let port = open();
        let silent = port.socket().await;
        let mut half = port.socket().await;
        half.write_all(b"PRI * HTTP/2").await.expect("it is open");
        let begun = tokio::time::Instant::now();
        assert!(is_closed(silent).await && is_closed(half).await);
        assert!(begun.elapsed() >= preface::WITHIN);
        port.close().await;
    }

    #[tokio::test]
    async fn who_has_said_nothing_does_not_hold_up_the_end() {
        let port = open();
        let silent = port.socket().await;
        let mut half = port.socket().await;
        half.write_all(b"PRI * HTTP/2").await.expect("it is open");
        // Accepted before the others were: the silent ones are in.
        let _channel = port.channel().await;
        port.close().await;
        assert!(is_closed(silent).await && is_closed(half).await);
    }

    #[tokio::test]
    async fn what_holds_on_is_cut() {
        let port = open();
        let mut frozen = port.socket().await;
        // The preface, empty settings, and nothing more: not even an answer to a ping.
        frozen.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it is open");
        frozen.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("it is open");
        let mut settings = [0; 9];
        frozen.read_exact(&mut settings).await.expect("the server's settings");
        port.cut.cancel();
        port.close().await;
        assert!(is_closed(frozen).await);
    }

    #[tokio::test]
    async fn http_1_is_not_spoken() {
        let port = open();
        for request in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "PUT / HTTP/1.0\r\n\r\n"] {
            let mut old = port.socket().await;
            old.write_all(request.as_bytes()).await.expect("it is open");
            let mut answer = String::new();
            old.read_to_string(&mut answer).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 505 ") && answer.contains("gRPC"), "{answer}");
        }
        let mut tls = port.socket().await;
        tls.write_all(&[22, 3, 1, 0, 200, 1]).await.expect("it is open");
        tls.shutdown().await.expect("it is open");
        assert!(is_closed(tls).await);
        port.close().await;
    }

    #[tokio::test]
    async fn who_gives_up_many_calls_at_once_may_go_on() {
        let port = open();
        let mut peer = port.socket().await;
        peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it is open");
        let mut sent = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
        for stream in (1..400_u32).step_by(2).map(u32::to_be_bytes) {
            // `POST http:` of `/`, open; then CANCEL.
            sent.extend([&[0, 0, 3, 1, 4][..], &stream, &[0x83, 0x86, 0x84]].concat());
            sent.extend([&[0, 0, 4, 3, 0][..], &stream, &[0, 0, 0, 8]].concat());
        }
        sent.extend([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        peer.write_all(&sent).await.expect("it is open");
        let (mut kind, mut flags) = (0, 0);
        while (kind, flags) != (6, 1) {
            let mut head = [0; 9];
            peer.read_exact(&mut head).await.expect("not before it has answered the ping");
            (kind, flags) = (head[3], head[4]);
            assert_ne!(kind, 7, "told to go away");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut rest = vec![0; length as usize];
            peer.read_exact(&mut rest).await.expect("whole frames");
        }
        drop(peer);
        port.close().await;
    }
}
