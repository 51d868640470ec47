//! Points in time as people say them.

use chrono::{DateTime, Local, Utc};

use super::line::span;
use crate::{clock, domain::Timestamp};

/// How times are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    utc: bool,
    now: Timestamp,
}

impl Times {
    pub(super) fn new(utc: bool) -> Self {
        Self { utc, now: clock::now() }
    }

    /// In few words: `3 min ago`, `in 2 h`; a date where that is long ago; RFC 3339 to
    /// the second where UTC is asked for.
    pub(super) fn short(&self, at: Timestamp) -> String {
        const MONTH: u64 = 30 * 86_400;
        if self.utc {
            return utc(at).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        }
        let (past, away) =
            if at <= self.now { (true, self.now.since(at)) } else { (false, at.since(self.now)) };
        let text = match away.as_secs() {
            0 => return if past { "just now" } else { "now" }.to_owned(),
            s @ 1..60 => format!("{s} s"),
            s @ 60..3_600 => format!("{} min", s / 60),
            s @ 3_600..172_800 => format!("{} h", s / 3_600),
            s @ 172_800..MONTH => format!("{} days", s / 86_400),
            _ => return utc(at).with_timezone(&Local).format("%Y-%m-%d").to_string(),
        };
        if past { format!("{text} ago") } else { format!("in {text}") }
    }

    /// In full: `3 min ago (2026-01-31 12:00:00)` by the clock of this machine; RFC
    /// 3339 where UTC is asked for.
    pub(super) fn full(&self, at: Timestamp) -> String {
        if self.utc {
            return at.to_string();
        }
        let local = utc(at).with_timezone(&Local);
        format!("{} ({})", self.short(at), local.format("%Y-%m-%d %H:%M:%S"))
    }

    /// How long it took from one to the other, or has taken so far.
    pub(super) fn between(&self, start: Timestamp, end: Option<Timestamp>) -> String {
        span(end.unwrap_or(self.now).since(start))
    }
}

fn utc(at: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.micros()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_say_them() {
        let at = |seconds: i64| Timestamp::from_micros(1_700_000_000_000_000 + seconds * 1_000_000);
        let times = Times { utc: false, now: at(0) };
        for (seconds, expected) in [
            (0, "just now"),
            (-59, "59 s ago"),
            (-200, "3 min ago"),
            (-7_300, "2 h ago"),
            (-200_000, "2 days ago"),
            (90, "in 1 min"),
            (200_000, "in 2 days"),
        ] {
            assert_eq!(times.short(at(seconds)), expected);
        }
        assert!(times.short(at(-90 * 86_400)).starts_with("2023-08-"));
        let exact = Times { utc: true, now: at(0) };
        assert_eq!(exact.short(at(0)), "2023-11-14T22:13:20Z");
        assert_eq!(exact.full(at(0)), "2023-11-14T22:13:20Z");
    }
}
