//! What callers and workers hand through: inputs, results, checkpoints and
//! details. Taskwatch keeps them as the bytes of their protobuf message and
//! never looks inside, so that passing one on costs nothing.

use bytes::Bytes;
use prost::Message;
use serde_json::{Map, Number};

/// The encoded bytes of a `google.protobuf.Struct`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Object(Bytes);

/// The encoded bytes of a `google.protobuf.Value`. No bytes mean null.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Value(Bytes);

impl Object {
    /// Takes bytes that are known to be an encoded Struct.
    pub const fn from_encoded(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The encoded Struct.
    pub const fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// From a JSON object.
    pub fn from_json(json: &Map<String, serde_json::Value>) -> Self {
        Self(struct_from_json(json).encode_to_vec().into())
    }

    /// As a JSON object. Bytes that are no Struct give an empty one.
    pub fn to_json(&self) -> Map<String, serde_json::Value> {
        prost_types::Struct::decode(self.0.clone()).map(struct_to_json).unwrap_or_default()
    }
}

impl Value {
    /// Takes bytes that are known to be an encoded Value.
    pub const fn from_encoded(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The encoded Value.
    pub const fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// From any JSON value.
    pub fn from_json(json: &serde_json::Value) -> Self {
        Self(value_from_json(json).encode_to_vec().into())
    }

    /// As JSON. Bytes that are no Value give null.
    pub fn to_json(&self) -> serde_json::Value {
        prost_types::Value::decode(self.0.clone()).map_or(serde_json::Value::Null, value_to_json)
    }
}

fn struct_from_json(json: &Map<String, serde_json::Value>) -> prost_types::Struct {
    prost_types::Struct {
        fields: json.iter().map(|(key, value)| (key.clone(), value_from_json(value))).collect(),
    }
}

fn value_from_json(json: &serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(b) => Kind::BoolValue(*b),
        serde_json::Value::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or_default()),
        serde_json::Value::String(s) => Kind::StringValue(s.clone()),
        serde_json::Value::Array(list) => Kind::ListValue(prost_types::ListValue {
            values: list.iter().map(value_from_json).collect(),
        }),
        serde_json::Value::Object(map) => Kind::StructValue(struct_from_json(map)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn struct_to_json(message: prost_types::Struct) -> Map<String, serde_json::Value> {
    message.fields.into_iter().map(|(key, value)| (key, value_to_json(value))).collect()
}

fn value_to_json(message: prost_types::Value) -> serde_json::Value {
    use prost_types::value::Kind;
    match message.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(b)) => b.into(),
        Some(Kind::NumberValue(n)) => number(n),
        Some(Kind::StringValue(s)) => s.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(value_to_json).collect(),
        Some(Kind::StructValue(map)) => struct_to_json(map).into(),
    }
}

/// A whole number stays one in text: 3 and not 3.0.
fn number(n: f64) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
    if n.fract() == 0.0 && n.abs() <= EXACT {
        (n as i64).into()
    } else {
        Number::from_f64(n).map_or(serde_json::Value::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_back() {
        let json = serde_json::json!({"a": [1, 2.5, "x", null, true], "b": {"c": -3}});
        let object = json.as_object().cloned().unwrap_or_default();
        assert_eq!(Object::from_json(&object).to_json(), object);
        assert_eq!(Value::from_json(&json).to_json(), json);
        assert_eq!(Value::default().to_json(), serde_json::Value::Null);
    }
}
