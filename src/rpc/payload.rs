//! Payloads at the door: checked once, then handed through as bytes.
//!
//! Equal payloads have equal bytes (keys in order, a value without a kind is null), so
//! that a digest or a comparison of them means something.

use bytes::Bytes;
use prost::Message;
use prost_types::{Any, ListValue, Struct, Value as ProtoValue, value::Kind};

use super::path::At;
use crate::domain::{Detail, Object, Value, limits};

/// What NUL in a text is answered with.
pub(super) const NUL: &str = "must not hold the NUL character";

/// Reads a Struct of at most `limit` bytes.
pub(super) fn object(at: &At<'_>, mut message: Struct, limit: usize) -> Option<Object> {
    checked(&mut message, limit, at, tidy_struct)
        .map(|()| Object::from_encoded(message.encode_to_vec().into()))
}

/// Reads a Value of at most `limit` bytes. Null is the empty one.
pub(super) fn value(at: &At<'_>, mut message: ProtoValue, limit: usize) -> Option<Value> {
    checked(&mut message, limit, at, tidy_value)?;
    Some(match message.kind {
        None | Some(Kind::NullValue(_)) => Value::default(),
        Some(_) => Value::from_encoded(message.encode_to_vec().into()),
    })
}

/// Reads the details of an error: 64 KiB in all.
pub(super) fn details(at: &At<'_>, messages: Vec<Any>) -> Option<Vec<Detail>> {
    let size: usize = messages.iter().map(Message::encoded_len).sum();
    if !fits(at, size, limits::SMALL_PAYLOAD_BYTES) {
        return None;
    }
    let mut sound = true;
    let mut details = Vec::with_capacity(messages.len());
    for (index, Any { type_url, value }) in messages.into_iter().enumerate() {
        if type_url.contains('\0') {
            at.index(index).field("type_url").refuse(NUL);
            sound = false;
        }
        details.push(Detail { type_url, value: Bytes::from(value) });
    }
    sound.then_some(details)
}

/// What is wrong inside a payload; said once, not for each place in it.
enum Flaw {
    Depth,
    Nul,
    Number,
}

fn checked<M: Message>(
    message: &mut M,
    limit: usize,
    at: &At<'_>,
    tidy: fn(&mut M, usize) -> Result<(), Flaw>,
) -> Option<()> {
    match tidy(message, limits::PAYLOAD_DEPTH) {
        Ok(()) => fits(at, message.encoded_len(), limit).then_some(()),
        Err(flaw) => {
            at.refuse(match flaw {
                Flaw::Depth => format!(
                    "must not nest objects and lists more than {} deep",
                    limits::PAYLOAD_DEPTH
                ),
                Flaw::Nul => NUL.to_owned(),
                Flaw::Number => "must not hold NaN or an infinite number".to_owned(),
            });
            None
        }
    }
}

fn fits(at: &At<'_>, size: usize, limit: usize) -> bool {
    if size > limit {
        at.refuse(format!("has {size} bytes encoded, more than {limit}"));
    }
    size <= limit
}

/// `room`: how many more objects and lists may stand within one another.
fn tidy_struct(message: &mut Struct, room: usize) -> Result<(), Flaw> {
    let room = room.checked_sub(1).ok_or(Flaw::Depth)?;
    for (key, value) in &mut message.fields {
        if key.contains('\0') {
            return Err(Flaw::Nul);
        }
        tidy_value(value, room)?;
    }
    Ok(())
}

fn tidy_list(message: &mut ListValue, room: usize) -> Result<(), Flaw> {
    let room = room.checked_sub(1).ok_or(Flaw::Depth)?;
    message.values.iter_mut().try_for_each(|value| tidy_value(value, room))
}

fn tidy_value(message: &mut ProtoValue, room: usize) -> Result<(), Flaw> {
    match &mut message.kind {
        Some(Kind::StructValue(fields)) => tidy_struct(fields, room),
        Some(Kind::ListValue(list)) => tidy_list(list, room),
        Some(Kind::NumberValue(number)) if !number.is_finite() => Err(Flaw::Number),
        Some(Kind::StringValue(text)) if text.contains('\0') => Err(Flaw::Nul),
        Some(Kind::NumberValue(_) | Kind::StringValue(_) | Kind::BoolValue(_)) => Ok(()),
        // JSON has no value without a kind, and clients refuse to print one.
        null @ (Some(Kind::NullValue(_)) | None) => {
            *null = Some(Kind::NullValue(0));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Error, rpc::path::Findings};

    fn string(text: &str) -> ProtoValue {
        ProtoValue { kind: Some(Kind::StringValue(text.into())) }
    }

    fn number(number: f64) -> ProtoValue {
        ProtoValue { kind: Some(Kind::NumberValue(number)) }
    }

    fn list(values: Vec<ProtoValue>) -> ProtoValue {
        ProtoValue { kind: Some(Kind::ListValue(ListValue { values })) }
    }

    fn one(key: &str, value: ProtoValue) -> Struct {
        Struct { fields: [(key.to_owned(), value)].into() }
    }

    fn read(message: Struct, limit: usize) -> Result<Object, Error> {
        let findings = Findings::default();
        let object = object(&findings.root().field("input"), message, limit);
        findings.judge(object)
    }

    fn why(result: Result<Object, Error>) -> String {
        result.expect_err("must be refused").to_string()
    }

    #[test]
    fn sixteen_deep_and_no_deeper() {
        let nested =
            |depth: usize| one("a", (2..=depth).fold(number(1.0), |value, _| list(vec![value])));
        assert!(read(nested(16), 1 << 20).is_ok());
        assert!(why(read(nested(17), 1 << 20)).contains("more than 16 deep"));
    }

    #[test]
    fn bytes_are_counted_as_encoded() {
        let message = one("a", string(&"x".repeat(100)));
        let size = message.encoded_len();
        assert!(read(message.clone(), size).is_ok());
        assert!(why(read(message, size - 1)).contains("bytes encoded"));
    }

    #[test]
    fn what_no_database_and_no_json_can_hold() {
        assert!(why(read(one("a\0", number(1.0)), 99)).contains("NUL"));
        assert!(why(read(one("a", list(vec![string("\0")])), 99)).contains("NUL"));
        assert!(why(read(one("a", number(f64::NAN)), 99)).contains("NaN"));
        assert!(why(read(one("a", list(vec![number(f64::INFINITY)])), 99)).contains("infinite"));
    }

    #[test]
    fn a_value_without_a_kind_is_null() {
        let null = |kind| one("a", ProtoValue { kind });
        assert_eq!(read(null(None), 99), read(null(Some(Kind::NullValue(7))), 99));
        let findings = Findings::default();
        let root = findings.root();
        assert_eq!(value(&root, ProtoValue { kind: None }, 99), Some(Value::default()));
        let kind = Some(Kind::NullValue(0));
        assert_eq!(value(&root, ProtoValue { kind }, 99), Some(Value::default()));
    }

    #[test]
    fn details_of_an_error_have_a_bound() {
        let findings = Findings::default();
        let root = findings.root();
        let any = |size| Any { type_url: "type.example/x".into(), value: vec![0; size] };
        assert!(details(&root, vec![any(60 << 10), any(10)]).is_some());
        assert!(details(&root, vec![any(60 << 10), any(5 << 10)]).is_none());
        assert!(details(&root, vec![Any { type_url: "\0".into(), value: vec![] }]).is_none());
    }
}
