//! The generated messages and services of `proto/`, and what about them is not
//! generated: frames that are encoded already, and a codec that takes no more
//! memory than a message needs. Only `rpc` and the command line's client may use
//! them.

#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::nursery)]

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType},
};
use tonic::{
    Status,
    codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

tonic::include_proto!("taskwatch.v1");

/// google.longrunning: the same tasks, as clients of Google's operations know them.
pub mod longrunning {
    tonic::include_proto!("google.longrunning");
}

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

    /// Takes what [`encoded`](Self::encoded) gave.
    pub const fn from_encoded(encoded: Bytes) -> Self {
        Self(encoded)
    }

    /// Its bytes, shared.
    pub fn encoded(&self) -> Bytes {
        self.0.clone()
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

    /// Takes the bytes as they are; [`Frame::event`] says whether they mean anything.
    fn merge(&mut self, mut buf: impl Buf) -> Result<(), DecodeError> {
        let more = buf.copy_to_bytes(buf.remaining());
        if self.0.is_empty() {
            self.0 = more;
        } else {
            // Two encodings in a row are those of the two messages merged.
            let mut both = BytesMut::from(&self.0[..]);
            both.extend_from_slice(&more);
            self.0 = both.freeze();
        }
        Ok(())
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

/// The codec of every method: Protobuf, in buffers that begin small and take at
/// once what a message needs. tonic's own takes 8 KiB for each stream, which ten
/// thousand watchers feel.
#[derive(Clone, Copy, Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

/// The half of a [`Codec`] that encodes.
#[derive(Clone, Copy, Debug)]
pub struct CodecEncoder<T>(PhantomData<T>);

/// The half of a [`Codec`] that decodes.
#[derive(Clone, Copy, Debug)]
pub struct CodecDecoder<U>(PhantomData<U>);

/// Most tasks fit into the first; the second is where a stream yields to others.
fn buffers() -> BufferSettings {
    BufferSettings::new(512, 32 * 1024)
}

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = CodecEncoder<T>;
    type Decoder = CodecDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        CodecEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        CodecDecoder(PhantomData)
    }
}

impl<T: Message> Encoder for CodecEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(item.encoded_len());
        item.encode_raw(buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

impl<U: Message + Default> Decoder for CodecDecoder<U> {
    type Item = U;
    type Error = Status;

    /// What cannot be decoded is INTERNAL here, as in tonic's own codec, since the
    /// client decodes with this one too; the server's layer makes it
    /// INVALID_ARGUMENT.
    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buf).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_what_it_holds() {
        let event = WatchEvent {
            task: Some(Task { name: "tasks/a".into(), ..Task::default() }),
            ..WatchEvent::default()
        };
        let frame = Frame::new(&event);
        assert_eq!(Frame::decode(&frame.encode_to_vec()[..]), Ok(frame.clone()));
        assert_eq!(frame.event(), Ok(event));
        let mut two = frame.clone();
        two.merge(
            Frame::new(&WatchEvent { synced: Some(true), ..WatchEvent::default() }).encoded(),
        )
        .expect("its own bytes");
        assert_eq!(two.event().expect("its own bytes").synced, Some(true));
        assert!(Frame::decode(&[0xff][..]).expect("its own bytes").event().is_err());
    }
}
