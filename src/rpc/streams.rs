//! What one connection may hold open: calls that last would otherwise leave no room
//! for those that do not.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Extensions;

use crate::domain::Error;

/// Watches and long polls of one connection, counted. The listener puts one into
/// every request of a connection; a request without one is not counted.
#[derive(Clone, Debug, Default)]
pub struct OpenStreams(Arc<AtomicUsize>);

impl OpenStreams {
    /// Streams on one connection.
    pub const PER_CONNECTION: u32 = 2_000;
    /// How many of them may be watches and long polls.
    pub const LASTING: usize = 1_800;
}

/// One watch or long poll; counted until it is dropped.
#[derive(Debug)]
pub(super) struct Lasting(Option<Arc<AtomicUsize>>);

impl Lasting {
    /// Counts one more on the connection of this request.
    pub(super) fn begin(extensions: &Extensions) -> Result<Self, Error> {
        let Some(OpenStreams(open)) = extensions.get() else { return Ok(Self(None)) };
        let counted = Self(Some(open.clone()));
        if open.fetch_add(1, Ordering::Relaxed) >= OpenStreams::LASTING {
            return Err(Error::ResourceExhausted {
                message: format!(
                    "{} watches and long polls are open on this connection, which is all that \
                     it may hold: open another connection",
                    OpenStreams::LASTING
                ),
                retry_after: None,
            });
        }
        Ok(counted)
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        if let Some(open) = &self.0 {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_and_what_becomes_free() {
        let mut extensions = Extensions::new();
        extensions.insert(OpenStreams::default());
        let mut open: Vec<Lasting> = (0..OpenStreams::LASTING)
            .map(|_| Lasting::begin(&extensions).expect("there is room"))
            .collect();
        for _ in 0..3 {
            let refused = Lasting::begin(&extensions);
            assert!(matches!(refused, Err(Error::ResourceExhausted { .. })));
        }
        open.pop();
        open.push(Lasting::begin(&extensions).expect("one has ended"));
        assert!(Lasting::begin(&extensions).is_err());
        assert!(Lasting::begin(&Extensions::new()).is_ok());
    }
}
