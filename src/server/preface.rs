//! How a connection begins: with the preface of HTTP/2, and soon. HTTP's own keepalive begins
//! only then. Who speaks HTTP/1 is told what is spoken here.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout_at},
};

use crate::rpc::NOT_GRPC;

/// Bytes of the preface.
const LENGTH: usize = 24;
/// Within this it must have come.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

/// A stream whose first bytes must come in time.
#[derive(Debug)]
pub(super) struct Preface {
    io: TcpStream,
    missing: usize,
    patience: Option<Pin<Box<Sleep>>>,
    spoken: Arc<AtomicBool>,
}

impl Preface {
    /// Waits for the first bytes; none where they are of HTTP/1, which is answered. Sets
    /// `spoken` when the whole preface is there.
    ///
    /// # Errors
    ///
    /// Where nothing comes in time, or the stream fails.
    pub(super) async fn of(io: TcpStream, spoken: Arc<AtomicBool>) -> io::Result<Option<Self>> {
        let end = Instant::now() + WITHIN;
        if timeout_at(end, speaks_http_1(&io)).await?? {
            refuse_http_1(io).await?;
            return Ok(None);
        }
        let patience = Some(Box::pin(sleep_until(end)));
        Ok(Some(Self { io, missing: LENGTH, patience, spoken }))
    }
}

/// Less than four bytes are no request.
async fn speaks_http_1(io: &TcpStream) -> io::Result<bool> {
    let mut first = [0; 4];
    let is_whole = io.peek(&mut first).await? == first.len();
    let is_method = first.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b' ');
    Ok(is_whole && is_method && first != *b"PRI ")
}

async fn refuse_http_1(mut io: TcpStream) -> io::Result<()> {
    // What is not read when it closes would take the answer along.
    let mut request = [0; 4 << 10];
    for _ in 0..16 {
        if !matches!(io.try_read(&mut request), Ok(1..)) {
            break;
        }
    }
    let answer = format!(
        "HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\n\
         content-type: text/plain; charset=utf-8\r\n\r\n{NOT_GRPC}"
    );
    io.write_all(answer.as_bytes()).await?;
    io.shutdown().await
}

impl AsyncRead for Preface {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        let Some(patience) = &mut this.patience else { return read };
        this.missing = this.missing.saturating_sub(buf.filled().len() - before);
        if this.missing == 0 {
            this.patience = None;
            this.spoken.store(true, Ordering::Relaxed);
        } else if patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
        }
        read
    }
}

impl AsyncWrite for Preface {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
