//! Durations as people write them: `500ms`, `2s`, `1.5h`, `7d`, or seconds as a bare
//! number. For the configuration and for flags alike.

use std::time::Duration;

/// What a duration must look like, for messages.
pub const DURATION_RULE: &str =
    "must be a number and ms, s, m, h or d, as in \"10m\"; a bare number is seconds";

/// Reads a duration.
///
/// # Errors
///
/// The rule that it breaks.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number = number.trim_end();
    // Digits alone: f64 would also take signs, exponents, "inf" and "nan".
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds_a_unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(DURATION_RULE.to_owned()),
    };
    let count: f64 =
        number.parse().ok().filter(|_| plain).ok_or_else(|| DURATION_RULE.to_owned())?;
    seconds(count * seconds_a_unit)
}

/// A number of seconds, in whole microseconds.
pub(super) fn seconds(count: f64) -> Result<Duration, String> {
    let wrong = || if count > 0.0 { "is too long" } else { DURATION_RULE }.to_owned();
    let whole = Duration::try_from_secs_f64(count).map_err(|_| wrong())?;
    // Stored times have microseconds; what a fraction left below them is noise.
    let micros = whole.saturating_add(Duration::from_nanos(500)).as_micros();
    Ok(Duration::from_micros(u64::try_from(micros).map_err(|_| wrong())?))
}

/// Writes a duration as [`parse_duration`] reads it, in the largest unit that is whole.
pub fn show_duration(span: Duration) -> String {
    let ms = span.as_millis();
    if ms == 0 || !ms.is_multiple_of(1_000) {
        return if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") };
    }
    let s = ms / 1_000;
    match s {
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, ms) in [
            ("500ms", 500),
            ("2s", 2_000),
            ("2", 2_000),
            ("0", 0),
            ("1.5", 1_500),
            ("10m", 600_000),
            ("1.5h", 5_400_000),
            ("7d", 604_800_000),
            (" 3 s ", 3_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "1e3", "inf", "nan", "1 week", "1M", "5 minutes", "1.2.3s"] {
            assert_eq!(parse_duration(text), Err(DURATION_RULE.to_owned()), "{text}");
        }
    }

    #[test]
    fn and_back() {
        for text in ["0s", "500ms", "1s", "90s", "10m", "36h", "7d"] {
            let span = parse_duration(text).expect("well formed");
            assert_eq!(show_duration(span), text);
        }
    }
}
