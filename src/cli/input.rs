//! JSON that people give: as it is, from a file (`@FILE`), or from standard input
//! (`-`).

use std::{fmt::Display, fs, io};

use prost::Message;
use serde_json::Value as Json;

use super::exit::Fault;
use crate::domain::{Object, Value};

/// Doubles, which numbers travel as, hold whole numbers up to here.
const EXACT: u64 = 1 << 53;

/// Reads what a flag says: a JSON object.
pub(super) fn object(flag: &str, text: &str) -> Result<prost_types::Struct, Fault> {
    let Json::Object(object) = read(flag, text)? else {
        return Err(wrong(flag, &"must be a JSON object, as in '{\"steps\": 20}'"));
    };
    let encoded = Object::from_json(&object);
    prost_types::Struct::decode(encoded.encoded().clone()).map_err(|e| wrong(flag, &e))
}

/// Reads what a flag says: any JSON.
pub(super) fn value(flag: &str, text: &str) -> Result<prost_types::Value, Fault> {
    let encoded = Value::from_json(&read(flag, text)?);
    prost_types::Value::decode(encoded.encoded().clone()).map_err(|e| wrong(flag, &e))
}

fn read(flag: &str, text: &str) -> Result<Json, Fault> {
    let text = match text.strip_prefix('@') {
        Some(file) => fs::read_to_string(file).map_err(|e| wrong(flag, &format!("{file}: {e}")))?,
        None if text == "-" => {
            let stdin = io::read_to_string(io::stdin());
            stdin.map_err(|e| wrong(flag, &format!("standard input: {e}")))?
        }
        None => text.to_owned(),
    };
    let json: Json = serde_json::from_str(&text).map_err(|e| {
        wrong(flag, &format!("not JSON: {e}; write it as in {flag} '{{\"steps\": 20}}'"))
    })?;
    if let Some(number) = inexact(&json) {
        let why = format!("{number} is too large to travel as a number: write it as text");
        return Err(wrong(flag, &why));
    }
    Ok(json)
}

fn wrong(flag: &str, why: &dyn Display) -> Fault {
    Fault::usage(format!("{flag}: {why}"))
}

/// A whole number that would silently become another one.
fn inexact(json: &Json) -> Option<&serde_json::Number> {
    match json {
        Json::Number(number) => {
            let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            size.is_some_and(|size| size > EXACT).then_some(number)
        }
        Json::Array(list) => list.iter().find_map(inexact),
        Json::Object(map) => map.values().find_map(inexact),
        Json::Null | Json::Bool(_) | Json::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs() {
        let input = |text| object("--input", text);
        assert_eq!(input("{}"), Ok(prost_types::Struct::default()));
        assert!(input("{\"a\": 9007199254740992}").is_ok());
        assert!(value("--result", "7").is_ok());
        for (text, why) in [
            ("[1]", "must be a JSON object"),
            ("{", "not JSON"),
            ("@/does/not/exist", "/does/not/exist"),
            ("{\"a\": [9007199254740993]}", "9007199254740993 is too large"),
        ] {
            let fault = format!("{:?}", input(text).expect_err("wrong"));
            assert!(fault.contains(why), "{text}: {fault}");
        }
    }
}
