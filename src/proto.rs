//! The generated messages and services of `proto/`, and the one message that is
//! not generated. Only `rpc` and `client` may use them.

#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::nursery)]

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType},
};

tonic::include_proto!("taskwatch.v1");

/// The protos, compiled, for reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("taskwatch");

/// Stands in for `WatchTaskResponse` and `WatchTasksResponse`: a message that is
/// encoded already, so that one encoding serves every watcher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame(Bytes);

/// What a [`Frame`] holds, decoded. The same fields as `WatchTasksResponse`, of
/// which those of `WatchTaskResponse` are a part.
#[derive(Clone, PartialEq, Message)]
pub struct WatchEvent {
    /// The task's newest state.
    #[prost(message, optional, tag = "1")]
    pub task: Option<Task>,
    /// Name of a task that was deleted or no longer matches.
    #[prost(string, optional, tag = "2")]
    pub removed: Option<String>,
    /// All that matched when the watch began has been sent.
    #[prost(bool, optional, tag = "3")]
    pub synced: Option<bool>,
}

impl Frame {
    /// Encodes an event, once.
    pub fn new(event: &WatchEvent) -> Self {
        Self(event.encode_to_vec().into())
    }

    /// Decodes what it holds.
    pub fn event(&self) -> Result<WatchEvent, DecodeError> {
        WatchEvent::decode(self.0.clone())
    }
}

impl Message for Frame {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut event = self.event()?;
        event.merge_field(tag, wire_type, buf, ctx)?;
        *self = Self::new(&event);
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}
