//! Brings what handlers and programs say within the limits of the contract. The
//! runner is a mouth like any other: what it passes on must have been checked, and
//! the handler's author is the one to hear of it.

use serde_json::{Map, Value as Json};

use crate::domain::{Object, ProgressReport, Value, limits};

/// A checkpoint or details, if they may be passed on; else why not.
pub(super) fn object(json: &Map<String, Json>) -> Result<Object, String> {
    entries(json, limits::PAYLOAD_DEPTH)?;
    let object = Object::from_json(json);
    sized(object.encoded().len(), limits::SMALL_PAYLOAD_BYTES)?;
    Ok(object)
}

/// A result, if it may be passed on; else why not.
pub(super) fn result(json: &Json) -> Result<Value, String> {
    payload(json, limits::PAYLOAD_DEPTH)?;
    let value = Value::from_json(json);
    sized(value.encoded().len(), limits::PAYLOAD_BYTES)?;
    Ok(value)
}

fn sized(bytes: usize, most: usize) -> Result<(), String> {
    if bytes > most {
        return Err(format!("is {bytes} bytes long, but may have {most} at most"));
    }
    Ok(())
}

fn payload(json: &Json, depth: usize) -> Result<(), String> {
    match json {
        Json::Null | Json::Bool(_) | Json::Number(_) => Ok(()),
        Json::String(text) => no_nul(text),
        Json::Array(list) => {
            let depth = deeper(depth)?;
            list.iter().try_for_each(|item| payload(item, depth))
        }
        Json::Object(map) => entries(map, depth),
    }
}

fn entries(map: &Map<String, Json>, depth: usize) -> Result<(), String> {
    let depth = deeper(depth)?;
    map.iter().try_for_each(|(key, value)| no_nul(key).and_then(|()| payload(value, depth)))
}

fn deeper(depth: usize) -> Result<usize, String> {
    depth.checked_sub(1).ok_or_else(|| {
        format!("has more than {} objects and lists within one another", limits::PAYLOAD_DEPTH)
    })
}

fn no_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("has text with a NUL in it".into()) } else { Ok(()) }
}

/// The first `most` characters, without NUL.
pub(super) fn text(text: &str, most: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(most).collect()
}

/// The last `most` characters, without NUL; "…" stands for what was cut.
pub(super) fn end_of_text(text: &str, most: usize) -> String {
    let text: String = text.chars().filter(|c| *c != '\0').collect();
    let length = text.chars().count();
    if length <= most {
        return text;
    }
    std::iter::once('…').chain(text.chars().skip(length - most + 1)).collect()
}

/// What is outside the limits is cut, or left out where a part would mislead.
pub(super) fn progress(report: ProgressReport) -> ProgressReport {
    let ProgressReport { percent, message, completed_units, total_units, unit, details } = report;
    ProgressReport {
        percent: percent.filter(|percent| percent.is_finite()).map(|p| p.clamp(0.0, 100.0)),
        message: text(&message, limits::PROGRESS_MESSAGE_CHARS),
        completed_units: completed_units.max(0),
        total_units: total_units.max(0),
        unit: text(&unit, limits::PROGRESS_UNIT_CHARS),
        details,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Json {
        (1..depth).fold(Json::Array(Vec::new()), |inner, _| Json::Array(vec![inner]))
    }

    #[test]
    fn results_are_bounded() {
        assert!(result(&nested(16)).is_ok());
        assert!(result(&nested(17)).is_err_and(|why| why.contains("more than 16")));
        assert!(result(&nested(5_000)).is_err());
        assert!(result(&Json::String("x".repeat(1 << 20))).is_err_and(|why| why.contains("bytes")));
        assert!(result(&Json::String("a\0".into())).is_err_and(|why| why.contains("NUL")));
        assert!(result(&serde_json::json!({"a\0": 1})).is_err());
        assert!(result(&Json::Null).is_ok());
    }

    #[test]
    fn text_is_cut_at_either_end() {
        assert_eq!(text("a\0bcd", 3), "abc");
        assert_eq!(end_of_text("abcd", 3), "…cd");
        assert_eq!(end_of_text("äöü\0", 3), "äöü");
    }

    #[test]
    fn progress_is_brought_within_its_limits() {
        let wild = ProgressReport {
            percent: Some(f64::NAN),
            message: "m\0".repeat(2_000),
            completed_units: -3,
            total_units: -1,
            unit: "u".repeat(200),
            details: None,
        };
        let tame = progress(wild);
        assert_eq!((tame.percent, tame.completed_units, tame.total_units), (None, 0, 0));
        assert_eq!((tame.message.len(), tame.unit.len()), (1_000, 128));
        let high = ProgressReport { percent: Some(300.0), ..ProgressReport::default() };
        assert_eq!(progress(high).percent, Some(100.0));
    }
}
