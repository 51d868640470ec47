//! Fields of requests, read and checked: every limit on a single value is here.
//! What is wrong is noted with its path; the reader then goes on with a
//! stand-in, since the request is refused in any case.

use std::time::Duration;

use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};
use tonic_types::pb;

use super::{
    path::{At, shown},
    payload::{self, NUL},
};
use crate::{
    domain::{Code, Failure, Labels, NAME_RULE, Name, State, TaskId, Timestamp, Token, limits},
    proto::{TaskView, task},
};

const MICROS: Duration = Duration::from_micros(1);
/// The highest of the codes in google/rpc/code.proto.
const LAST_CODE: i32 = 16;

/// A name that must be there.
pub(super) fn name(at: &At<'_>, text: &str) -> Option<Name> {
    let name = Name::new(text);
    if name.is_none() {
        at.refuse(if text.is_empty() { "is required".to_owned() } else { NAME_RULE.to_owned() });
    }
    name
}

/// A name that may be empty.
pub(super) fn optional_name(at: &At<'_>, text: &str) -> Option<Name> {
    if text.is_empty() { None } else { name(at, text) }
}

/// `tasks/{task}`.
pub(super) fn task_name(at: &At<'_>, text: &str) -> Option<TaskId> {
    named_in(at, text, "tasks", "task")
}

/// `operations/{task}`.
pub(super) fn operation_name(at: &At<'_>, text: &str) -> Option<TaskId> {
    named_in(at, text, "operations", "task")
}

/// `queues/{queue}`.
pub(super) fn queue_name(at: &At<'_>, text: &str) -> Option<Name> {
    named_in(at, text, "queues", "queue")
}

fn named_in(at: &At<'_>, text: &str, collection: &str, what: &str) -> Option<Name> {
    let id = text.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/'));
    let id = id.and_then(Name::new);
    if id.is_none() {
        let form = format!("{collection}/{{{what}}}");
        at.refuse(if text.is_empty() {
            format!("is required, as {form}")
        } else {
            format!("is {}, must be {form}, of which {{{what}}} {NAME_RULE}", shown(text))
        });
    }
    id
}

/// A text of at most so many characters.
pub(super) fn text(at: &At<'_>, text: String, chars: usize) -> String {
    if text.contains('\0') {
        at.refuse(NUL);
    }
    // Bytes first: most texts are short, and counting characters takes longer.
    if text.len() > chars && text.chars().count() > chars {
        at.refuse(format!("must have at most {chars} characters"));
    }
    text
}

/// A request id; none where it is empty.
pub(super) fn request_id(at: &At<'_>, id: String) -> Option<String> {
    if id.contains('\0') {
        at.refuse(NUL);
    }
    if id.len() > limits::REQUEST_ID_BYTES {
        at.refuse(format!("must have at most {} bytes", limits::REQUEST_ID_BYTES));
    }
    (!id.is_empty()).then_some(id)
}

/// Labels, each at its own path.
pub(super) fn labels(at: &At<'_>, labels: Labels) -> Labels {
    if labels.len() > limits::LABELS {
        at.refuse(format!("has {} labels, more than {}", labels.len(), limits::LABELS));
        return labels;
    }
    for (key, value) in &labels {
        let at = at.key(key);
        if key.contains('\0') || value.contains('\0') {
            at.refuse(NUL);
        }
        if key.chars().count() > limits::LABEL_KEY_CHARS {
            at.refuse(format!("key must have at most {} characters", limits::LABEL_KEY_CHARS));
        }
        if value.chars().count() > limits::LABEL_VALUE_CHARS {
            at.refuse(format!("value must have at most {} characters", limits::LABEL_VALUE_CHARS));
        }
    }
    labels
}

/// A priority.
pub(super) fn priority(at: &At<'_>, priority: i32) -> i32 {
    if !limits::PRIORITY.contains(&priority) {
        let (low, high) = (limits::PRIORITY.start(), limits::PRIORITY.end());
        at.refuse(format!("is {priority}, must be between {low} and {high}"));
    }
    priority
}

/// Something that is counted.
pub(super) fn count(at: &At<'_>, count: i64) -> i64 {
    if count < 0 {
        at.refuse(format!("is {count}, must not be negative"));
    }
    count
}

/// How many attempts; 0 is none asked for.
pub(super) fn max_attempts(at: &At<'_>, attempts: i32) -> Option<u32> {
    if attempts < 0 {
        at.refuse(format!("is {attempts}, must be 1 or more, or 0 for the kind's own"));
    }
    u32::try_from(attempts).ok().filter(|attempts| *attempts > 0)
}

/// A factor of 1 or more; 0 is none asked for.
pub(super) fn multiplier(at: &At<'_>, factor: f64) -> Option<f64> {
    if factor == 0.0 {
        return None;
    }
    if !factor.is_finite() || factor < 1.0 {
        at.refuse(format!("is {factor:?}, must be 1 or more, or 0 for the kind's own"));
    }
    Some(factor)
}

/// A percentage.
pub(super) fn percent(at: &At<'_>, percent: f64) -> f64 {
    if !(0.0..=100.0).contains(&percent) {
        at.refuse(format!("is {percent:?}, must be between 0 and 100"));
    }
    // -0.0 is 0, and is shown as that.
    percent + 0.0
}

/// A time, cut to microseconds.
pub(super) fn time(at: &At<'_>, time: ProtoTimestamp) -> Option<Timestamp> {
    let ProtoTimestamp { seconds, nanos } = time;
    let micros = seconds
        .checked_mul(1_000_000)
        .filter(|_| (0..1_000_000_000).contains(&nanos))
        .and_then(|micros| micros.checked_add(i64::from(nanos / 1_000)))
        .filter(|micros| (Timestamp::MIN.micros()..=Timestamp::MAX.micros()).contains(micros));
    if micros.is_none() {
        at.refuse(
            "must be a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z, with \
             nanos from 0 to 999,999,999",
        );
    }
    micros.map(Timestamp::from_micros)
}

/// A duration of at most [`limits::DURATION_MAX`]; none where it is 0.
pub(super) fn duration(at: &At<'_>, duration: Option<ProtoDuration>) -> Option<Duration> {
    bounded_duration(at, duration, limits::DURATION_MAX)
}

/// A duration of at most `longest`, cut to microseconds; none where it is 0.
pub(super) fn bounded_duration(
    at: &At<'_>,
    duration: Option<ProtoDuration>,
    longest: Duration,
) -> Option<Duration> {
    let ProtoDuration { seconds, nanos } = duration?;
    let signs_agree = (seconds >= 0 && nanos >= 0) || (seconds <= 0 && nanos <= 0);
    if nanos.unsigned_abs() > 999_999_999 || !signs_agree {
        at.refuse(
            "must have nanos from -999,999,999 to 999,999,999, of the same sign as its seconds",
        );
        return None;
    }
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
        at.refuse("must not be negative");
        return None;
    };
    let duration = Duration::new(seconds, nanos);
    if duration > longest {
        at.refuse(format!("must be at most {}s", longest.as_secs()));
    }
    let cut = Duration::new(seconds, nanos / 1_000 * 1_000);
    // What is set stays set, however short it is.
    (!duration.is_zero()).then(|| cut.max(MICROS))
}

/// A state that is asked for.
pub(super) fn state(at: &At<'_>, number: i32) -> Option<State> {
    let state = State::from_number(number);
    if state.is_none() {
        at.refuse(if number == task::State::Unspecified as i32 {
            "must be set, since update_mask names it: set it, or take it out of the mask".to_owned()
        } else {
            let states = State::ALL.map(|state| format!("{} ({})", state.name(), state.number()));
            format!("is {number}, which is no state: there are {}", states.join(", "))
        });
    }
    state
}

/// Whether a view has the input.
pub(super) fn view(at: &At<'_>, number: i32, default: TaskView) -> bool {
    let view = TaskView::try_from(number).unwrap_or_else(|_| {
        at.refuse(format!(
            "is {number}, which is no view: there are TASK_VIEW_BASIC (1) and TASK_VIEW_FULL (2)"
        ));
        default
    });
    match view {
        TaskView::Unspecified => default == TaskView::Full,
        TaskView::Basic => false,
        TaskView::Full => true,
    }
}

/// A number of things of which there may be `limit`; `default` where it is 0.
pub(super) fn at_most(at: &At<'_>, number: i32, default: usize, limit: usize) -> usize {
    let wanted = page_size(at, number, default);
    if wanted > limit {
        at.refuse(format!("is {number}, must be at most {limit}"));
    }
    wanted
}

/// A number of things; `default` where it is 0.
pub(super) fn page_size(at: &At<'_>, number: i32, default: usize) -> usize {
    if number < 0 {
        at.refuse(format!("is {number}, must not be negative"));
    }
    usize::try_from(number).ok().filter(|number| *number > 0).unwrap_or(default)
}

/// Why something failed.
pub(super) fn failure(at: &At<'_>, status: pb::Status) -> Option<Failure> {
    let pb::Status { code, message, details } = status;
    if !(0..=LAST_CODE).contains(&code) {
        at.field("code").refuse(format!("is {code}, must be a code of google.rpc.Code"));
    }
    let message = text(&at.field("message"), message, limits::ERROR_MESSAGE_CHARS);
    let details = payload::details(&at.field("details"), details)?;
    Some(Failure { code: Code::new(code), message, details })
}

/// A lease token. `None` where it is none that was ever given: that is a matter of
/// the lease, not of the request's form.
pub(super) fn token(text: &str) -> Option<Token> {
    uuid::Uuid::try_parse(text).ok().map(|token| Token(token.into_bytes()))
}

/// A lease token as it goes over the wire.
pub(super) fn token_text(token: Token) -> String {
    uuid::Uuid::from_bytes(token.0).simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Error, rpc::path::Findings};

    fn judged<T>(read: impl FnOnce(&At<'_>) -> T) -> Result<T, Error> {
        let findings = Findings::default();
        let value = read(&findings.root().field("x"));
        findings.judge(Some(value))
    }

    #[test]
    fn times_are_cut_and_bounded() {
        let read = |seconds, nanos| judged(|at| time(at, ProtoTimestamp { seconds, nanos }));
        assert_eq!(read(1, 999), Ok(Some(Timestamp::from_micros(1_000_000))));
        assert_eq!(read(-1, 999_999_999), Ok(Some(Timestamp::from_micros(-1))));
        assert_eq!(read(-62_135_596_800, 0), Ok(Some(Timestamp::MIN)));
        assert_eq!(read(253_402_300_799, 999_999_999), Ok(Some(Timestamp::MAX)));
        let bad = [
            (-62_135_596_801, 999_999_999),
            (253_402_300_800, 0),
            (i64::MIN, 0),
            (i64::MAX, 0),
            (0, -1),
            (0, 1_000_000_000),
        ];
        for (seconds, nanos) in bad {
            assert!(read(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn durations_are_cut_and_bounded() {
        let read =
            |seconds, nanos| judged(|at| duration(at, Some(ProtoDuration { seconds, nanos })));
        assert_eq!(read(0, 0), Ok(None));
        assert_eq!(read(1, 1_999), Ok(Some(Duration::new(1, 1_000))));
        assert_eq!(read(0, 1), Ok(Some(MICROS)));
        let longest = i64::try_from(limits::DURATION_MAX.as_secs()).expect("fits");
        assert_eq!(read(longest, 0), Ok(Some(limits::DURATION_MAX)));
        let bad = [
            (longest, 1),
            (i64::MAX, 999_999_999),
            (-1, 0),
            (0, -1),
            (i64::MIN, i32::MIN),
            (1, -1),
            (-1, 1),
            (0, 1_000_000_000),
        ];
        for (seconds, nanos) in bad {
            assert!(read(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn percentages_are_numbers_from_0_to_100() {
        for good in [0.0, 0.1, 100.0] {
            assert_eq!(judged(|at| percent(at, good)), Ok(good));
        }
        assert!(judged(|at| percent(at, -0.0)).is_ok_and(f64::is_sign_positive));
        for bad in [f64::NAN, f64::INFINITY, -0.1, 100.1] {
            assert!(judged(|at| percent(at, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn multipliers_are_1_or_more() {
        assert_eq!(judged(|at| multiplier(at, 0.0)), Ok(None));
        assert_eq!(judged(|at| multiplier(at, 1.0)), Ok(Some(1.0)));
        for bad in [0.9, -1.0, f64::NAN, f64::INFINITY] {
            assert!(judged(|at| multiplier(at, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn characters_are_counted_and_not_bytes() {
        let read = |text: &str| judged(|at| self::text(at, text.to_owned(), 3));
        assert_eq!(read("äöü").as_deref(), Ok("äöü"));
        assert!(read("äöüß").is_err());
        assert!(read("a\0").is_err());
    }

    #[test]
    fn views() {
        let read = |number, default| judged(|at| view(at, number, default));
        assert_eq!(read(0, TaskView::Full), Ok(true));
        assert_eq!(read(0, TaskView::Basic), Ok(false));
        assert_eq!(read(1, TaskView::Full), Ok(false));
        assert_eq!(read(2, TaskView::Basic), Ok(true));
        let refused = read(3, TaskView::Basic).expect_err("no view").to_string();
        assert!(refused.ends_with("TASK_VIEW_BASIC (1) and TASK_VIEW_FULL (2)"), "{refused}");
    }

    #[test]
    fn request_ids_are_counted_in_bytes() {
        let read = |id: &str| judged(|at| request_id(at, id.to_owned()));
        assert_eq!(read(""), Ok(None));
        assert!(read(&"ä".repeat(64)).is_ok());
        assert!(read(&"ä".repeat(65)).is_err());
        assert!(read("\0").is_err());
    }

    #[test]
    fn tokens_go_there_and_back() {
        let given = Token([0xa5; 16]);
        assert_eq!(token(&token_text(given)), Some(given));
        for bad in ["x", "", &"0".repeat(33), &"ä".repeat(16)] {
            assert_eq!(token(bad), None);
        }
    }
}
