//! Takes connections from the port: with a bound on how many there may be, in all
//! and from one address, and without spinning when the system has no more to give.

use std::{io, net::SocketAddr, time::Duration};

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{
    connection,
    places::{Place, Places},
};
use crate::rpc::Served;

/// Connections that wait to be accepted. Ten thousand watchers that come back at once
/// need it: with the usual 128 they took thirty times as long.
const BACKLOG: u32 = 4_096;
/// Connections from one address.
const PER_ADDRESS: usize = 1_000;
/// File descriptors that are left to the database, to programs and to logs.
const RESERVED_FILES: u64 = 256;
/// How long to wait where there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the port, so that nobody else can; nobody can connect yet.
pub(super) fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Or a restart finds its port taken by connections that are long over.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// An open port.
#[derive(Debug)]
pub(super) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    places: Places,
}

impl Listener {
    /// Opens the port.
    pub(super) fn new(socket: TcpSocket) -> io::Result<Self> {
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, places: Places::new(PER_ADDRESS, overall()) })
    }

    pub(super) const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection that there is a place for. The others are closed at once.
    async fn accept(&self) -> (TcpStream, Place) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => match self.places.take(peer.ip()) {
                    Some(place) => return (stream, place),
                    None => tracing::warn!(%peer, "too many connections: this one is closed"),
                },
                Err(error) if is_exhaustion(&error) => {
                    tracing::warn!(%error, "cannot accept connections for now");
                    tokio::time::sleep(PAUSE).await;
                }
                // Of the connection, which was gone before it was accepted.
                Err(error) => tracing::debug!(%error, "a connection was not accepted"),
            }
        }
    }
}

/// Accepts and serves until the server closes.
pub(super) async fn run<S: Served>(listener: Listener, settings: connection::Settings<S>) {
    let closing = settings.closing();
    loop {
        let (stream, place) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => return,
        };
        settings.spawn(stream, place);
    }
}

/// Whether all connections would fail alike.
fn is_exhaustion(error: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

/// Connections that there are file descriptors for.
fn overall() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    let left = files.saturating_sub(RESERVED_FILES).max(files / 2);
    usize::try_from(left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_connection_would_fail_of() {
        assert!(is_exhaustion(&Errno::MFILE.into()));
        assert!(!is_exhaustion(&Errno::CONNABORTED.into()));
        assert!(!is_exhaustion(&io::Error::other("x")));
        assert!(overall() > 0);
    }

    #[tokio::test]
    async fn a_port_that_is_taken() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let first = Listener::new(reserve(address).expect("any port")).expect("opens");
        let again = reserve(first.local_addr()).and_then(Listener::new);
        assert_eq!(again.expect_err("must be refused").kind(), io::ErrorKind::AddrInUse);
    }
}
