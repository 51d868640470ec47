//! A task as the protobuf JSON mapping has it, which is what grpcurl prints too:
//! lowerCamelCase, enums by name, times in RFC 3339, 64-bit numbers as text.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use prost_types::FileDescriptorSet;
use serde_json::Value as Json;

use super::exit::Fault;
use crate::proto::{DESCRIPTORS, Task};

/// The schema of a task, and of the error details that it may hold.
static TASK: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(DESCRIPTORS).ok()?;
    let details = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).ok()?;
    // What both have (google/rpc/status.proto) stays ours: theirs may be spelt otherwise.
    let new = details.file.into_iter().filter(|file| pool.get_file_by_name(file.name()).is_none());
    let new: Vec<_> = new.collect();
    pool.add_file_descriptor_set(FileDescriptorSet { file: new }).ok()?;
    pool.get_message_by_name("taskwatch.v1.Task")
});

/// The task as a JSON object.
pub(super) fn task(task: &Task) -> Result<Json, Fault> {
    let unshowable = |why: &dyn std::fmt::Display| {
        Fault::failed(format!("cannot show {} as JSON: {why}", task.name))
    };
    let descriptor = TASK.clone().ok_or_else(|| unshowable(&"the compiled protos are damaged"))?;
    let mut task = task.clone();
    let unknown = take_unknown_details(&mut task, &descriptor);
    let bytes = task.encode_to_vec();
    let message = DynamicMessage::decode(descriptor, &bytes[..]).map_err(|e| unshowable(&e))?;
    let options = SerializeOptions::new();
    let mut json = message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|e| unshowable(&e))?;
    if !unknown.is_empty()
        && let Some(error) = json.get_mut("error").and_then(Json::as_object_mut)
        && let Some(details) =
            error.entry("details").or_insert_with(|| Json::Array(Vec::new())).as_array_mut()
    {
        details.extend(unknown);
    }
    Ok(json)
}

/// An Any of a type that nobody here knows has no JSON of its own: its bytes are
/// shown as they are, after those that have.
fn take_unknown_details(task: &mut Task, descriptor: &MessageDescriptor) -> Vec<Json> {
    let Some(error) = &mut task.error else { return Vec::new() };
    let pool = descriptor.parent_pool();
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

/// On one line.
pub(super) fn compact(one: &Task) -> Result<String, Fault> {
    Ok(task(one)?.to_string())
}

/// Over several lines, for people too.
pub(super) fn pretty(one: &Task) -> Result<String, Fault> {
    Ok(format!("{:#}", task(one)?))
}
