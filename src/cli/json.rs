//! Messages as the protobuf JSON mapping has them, which is what grpcurl prints too:
//! lowerCamelCase, enums by name, times in RFC 3339, 64-bit numbers as text.

use std::{io, sync::LazyLock};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use prost_types::FileDescriptorSet;
use serde::Serialize;
use serde_json::{
    Serializer, Value as Json,
    ser::{CompactFormatter, Formatter, PrettyFormatter},
};
use serde_transcode::Transcoder;

use super::{clean::clean, exit::Fault};
use crate::proto::{self, DESCRIPTORS};

/// The schema, and that of the error details which a task may hold.
static SCHEMA: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(DESCRIPTORS).ok()?;
    let details = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).ok()?;
    // What ours import (Status, Any) stays ours: theirs stands under other file names.
    let ours = |name: &str| pool.get_file_by_name(name).is_some();
    let new = |name: &str| name != "status.proto" && !ours(name);
    let file = details.file.into_iter().filter(|file| new(file.name())).collect();
    pool.add_file_descriptor_set(FileDescriptorSet { file }).ok()?;
    Some(pool)
});

/// A message that has a mapping here.
pub(super) trait Mapped: Message + Clone {
    /// Its full name.
    const TYPE: &'static str;

    /// Its error, which may hold details of types that nobody here knows.
    fn error(&mut self) -> Option<&mut tonic_types::Status> {
        None
    }
}

impl Mapped for proto::Task {
    const TYPE: &'static str = "taskwatch.v1.Task";
    fn error(&mut self) -> Option<&mut tonic_types::Status> {
        self.error.as_mut()
    }
}

impl Mapped for proto::Attempt {
    const TYPE: &'static str = "taskwatch.v1.Attempt";
    fn error(&mut self) -> Option<&mut tonic_types::Status> {
        self.error.as_mut()
    }
}

impl Mapped for proto::Kind {
    const TYPE: &'static str = "taskwatch.v1.Kind";
}

impl Mapped for proto::Queue {
    const TYPE: &'static str = "taskwatch.v1.Queue";
}

/// On one line.
pub(super) fn compact<M: Mapped>(message: &M) -> Result<String, Fault> {
    write(message, Whole(CompactFormatter))
}

/// Over several lines, for people too.
pub(super) fn pretty<M: Mapped>(message: &M) -> Result<String, Fault> {
    write(message, Whole(PrettyFormatter::new()))
}

/// The same mapping, as a document of YAML.
pub(super) fn yaml<M: Mapped>(message: &M) -> Result<String, Fault> {
    let json = compact(message)?;
    let mut json = serde_json::Deserializer::from_str(&json);
    let document = serde_saphyr::to_string(&Transcoder::new(&mut json));
    let document = document.map_err(|why| Fault::failed(format!("cannot show YAML: {why}")))?;
    Ok(format!("---\n{}", document.trim_end()))
}

fn write<M: Mapped>(message: &M, form: impl Formatter) -> Result<String, Fault> {
    let unshowable = |why: &dyn std::fmt::Display| {
        Fault::failed(format!("cannot show a {} as JSON: {}", M::TYPE, clean(&why.to_string())))
    };
    let schema = SCHEMA.as_ref().and_then(|pool| pool.get_message_by_name(M::TYPE));
    let schema = schema.ok_or_else(|| unshowable(&"the compiled protos are damaged"))?;
    let mut message = message.clone();
    let unknown = take_unknown_details(&mut message, &schema);
    let bytes = message.encode_to_vec();
    let message = DynamicMessage::decode(schema, &bytes[..]).map_err(|e| unshowable(&e))?;
    let (mut text, options) = (Vec::new(), SerializeOptions::new());
    let mut writer = Serializer::with_formatter(&mut text, form);
    if unknown.is_empty() {
        // Straight from the message: its fields in the contract's order.
        message.serialize_with_options(&mut writer, &options).map_err(|e| unshowable(&e))?;
    } else {
        let json = message.serialize_with_options(serde_json::value::Serializer, &options);
        let mut json = json.map_err(|e| unshowable(&e))?;
        if let Some(error) = json.get_mut("error").and_then(Json::as_object_mut) {
            let details = error.entry("details").or_insert_with(|| Json::Array(Vec::new()));
            details.as_array_mut().into_iter().for_each(|list| list.extend(unknown.clone()));
        }
        json.serialize(&mut writer).map_err(|e| unshowable(&e))?;
    }
    String::from_utf8(text).map_err(|e| unshowable(&e))
}

/// Numbers of a Struct are doubles; a whole one is written as one: 3, not 3.0.
struct Whole<F>(F);

impl<F: Formatter> Formatter for Whole<F> {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        /// Beyond it, not every whole number is a double.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() <= EXACT {
            return write!(writer, "{value:.0}");
        }
        self.0.write_f64(writer, value)
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

/// An Any of a type that nobody here knows has no JSON of its own: its bytes are
/// shown as they are, after those that have.
fn take_unknown_details(message: &mut impl Mapped, schema: &MessageDescriptor) -> Vec<Json> {
    let Some(error) = message.error() else { return Vec::new() };
    let pool = schema.parent_pool();
    let (known, unknown): (Vec<_>, Vec<_>) =
        std::mem::take(&mut error.details).into_iter().partition(|any| {
            let name = any.type_url.rsplit('/').next().unwrap_or_default();
            pool.get_message_by_name(name)
                .is_some_and(|found| DynamicMessage::decode(found, &any.value[..]).is_ok())
        });
    error.details = known;
    let shown = |any: prost_types::Any| {
        use base64::{Engine, prelude::BASE64_STANDARD};
        serde_json::json!({"@type": any.type_url, "@value": BASE64_STANDARD.encode(any.value)})
    };
    unknown.into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_schema_is_whole() {
        let pool = super::SCHEMA.as_ref().expect("a schema");
        for name in ["google.rpc.BadRequest", "taskwatch.v1.Attempt"] {
            assert!(pool.get_message_by_name(name).is_some());
        }
    }
}
