#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;
use crate::domain::{Name, NewTask, RetryPolicy, Status, create};

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn task() -> Task {
    let new = NewTask {
        id: Name::new("a").unwrap(),
        kind: Name::new("demo").unwrap(),
        input: None,
        queue: None,
        priority: 5,
        labels: [("env".to_owned(), "prod".to_owned()), ("a b".to_owned(), "ä\"\\".to_owned())]
            .into(),
        schedule_time: None,
        retry_policy: RetryPolicy::default(),
        attempt_timeout: None,
        retention: None,
    };
    Task { status: Status::Running(None), ..create(&new, time(1_000)) }
}

fn matches(text: &str) -> bool {
    Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&task())
}

#[test]
fn what_a_filter_says() {
    for yes in [
        "",
        "  ",
        "state = RUNNING",
        "state=\"RUNNING\"",
        "state != QUEUED",
        "-state = QUEUED",
        "NOT state = QUEUED",
        "kind = \"demo\" AND queue = \"default\" AND queue = \"\"",
        "kind > \"dem\" AND kind < \"demp\"",
        "priority >= 5 AND priority > -5 AND attempt = 1",
        "name = \"tasks/a\"",
        "name >= \"tasks/a\"",
        "labels.env = \"prod\" AND labels:env AND labels:\"a b\"",
        "labels.env:\"prod\"",
        "labels.\"a b\" = \"ä\\\"\\\\\"",
        "create_time = \"1970-01-01T00:16:40Z\"",
        "create_time > \"1970-01-01T00:16:39.5+00:00\"",
        // Not set: nothing but "different" holds.
        "worker != \"w\"",
        "NOT worker < \"w\" AND NOT worker >= \"w\"",
        "end_time != \"1970-01-01T00:00:00Z\"",
        "labels.none != \"x\"",
        // OR binds tighter than AND.
        "state = RUNNING OR state = QUEUED AND kind = \"demo\"",
        "(state = QUEUED AND kind = \"x\") OR priority = 5",
    ] {
        assert!(matches(yes), "{yes}");
    }
    for no in [
        "state = QUEUED",
        "state = RUNNING OR state = QUEUED AND kind = \"x\"",
        "worker = \"\"",
        "worker < \"zzz\"",
        "end_time > \"1970-01-01T00:00:00Z\"",
        "labels:none",
        "labels.none < \"zzz\"",
        "name = \"tasks/b\"",
        "NOT (state = RUNNING OR kind = \"x\")",
    ] {
        assert!(!matches(no), "{no}");
    }
}

#[test]
fn what_is_refused_and_how() {
    for (text, part) in [
        ("state = DONE", "DONE is no state: use one of QUEUED"),
        ("state < RUNNING", "state has no order"),
        ("state : RUNNING", "is for labels"),
        ("end_time:*", "end_time > \"1970-01-01T00:00:00Z\""),
        ("state IN (RUNNING, PAUSED)", "at character 18: there are no lists"),
        ("stat = RUNNING", "did you mean state?"),
        ("stauts = RUNNING", "did you mean state"),
        ("progress = 3", "use one of state"),
        ("foo.bar = 3", "no field foo"),
        ("kind.x = \"3\"", "kind has no fields"),
        ("RUNNING", "at character 1: RUNNING stands alone"),
        ("kind = demo", "double quotes"),
        ("kind = 'demo'", "double quotes"),
        ("kind = \"demo", "at character 8: this text has no closing"),
        ("kind = \"a\\n\"", "a backslash is written"),
        ("priority = \"5\"", "whole number"),
        ("priority = 5.5", "whole number"),
        ("priority = 99999999999999999999", "too large"),
        ("priority = high", "whole number"),
        ("create_time > \"yesterday\"", "RFC 3339"),
        ("create_time > 5", "double quotes"),
        ("name = \"a\"", "tasks/{task}"),
        ("name = \"tasks/a b\"", "tasks/{task}"),
        ("labels = \"x\"", "labels are asked for as"),
        ("labels", "is missing"),
        ("labels.a.b = \"x\"", "quote a key with dots"),
        ("labels:*", "no wildcards"),
        ("state = RUNNING kind = \"x\"", "at character 17: kind follows without AND or OR"),
        ("state = RUNNING and kind = \"x\"", "and is written AND"),
        ("state = RUNNING AND", "at character 20: a comparison"),
        ("AND state = RUNNING", "joins two"),
        ("(state = RUNNING", "a closing parenthesis is missing"),
        ("state = RUNNING)", "closes nothing"),
        ("()", "not )"),
        ("now() > 3", "no functions"),
        ("state == RUNNING", "\"==\" is written"),
        ("state = RUNNING && attempt = 1", "is written AND"),
        ("kind = \"a\0\"", "NUL"),
        ("state = RUNNING; DROP TABLE tasks", "means nothing here"),
        ("state =", "a state is missing"),
        ("attempt", "must be compared"),
    ] {
        let error = Filter::parse(text).expect_err(text).to_string();
        assert!(error.starts_with("filter: "), "{text}: {error}");
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn no_text_is_too_nasty() {
    for nasty in ["(", "-", "NOT ", "((-", "\"", "labels.", "\\"] {
        let count = 4_096 / nasty.chars().count();
        assert!(Filter::parse(&nasty.repeat(count)).is_err(), "{nasty}");
    }
    assert!(Filter::parse(&" ".repeat(4_096)).is_ok());
    assert!(Filter::parse(&" ".repeat(4_097)).is_err());
    let nested = |depth| format!("{}state = RUNNING{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&nested(32)).is_ok());
    assert!(Filter::parse(&nested(33)).is_err());
}

#[test]
fn the_same_meaning_is_the_same_filter() {
    for (one, other) in [
        ("state = RUNNING", "(((state = \"RUNNING\")))"),
        ("NOT state = RUNNING", "state != RUNNING"),
        ("NOT NOT priority < 3", "priority < 3"),
        ("attempt = 1 AND priority = 2", "priority = 2 AND (attempt = 1 AND priority = 2)"),
        ("queue = \"\"", "queue = \"default\""),
        ("labels.a:\"b\"", "labels.\"a\" = \"b\""),
        ("create_time < \"2026-01-01T01:00:00+01:00\"", "create_time < \"2026-01-01T00:00:00Z\""),
    ] {
        assert_eq!(Filter::parse(one).unwrap(), Filter::parse(other).unwrap(), "{one}");
    }
}

#[test]
fn a_label_that_all_must_have() {
    let label = |text: &str| {
        let filter = Filter::parse(text).unwrap();
        filter.required_label().map(|(key, value)| (key.to_owned(), value.to_owned()))
    };
    let prod = Some(("env".to_owned(), "prod".to_owned()));
    assert_eq!(label("labels.env = \"prod\""), prod);
    assert_eq!(label("state = RUNNING AND labels.env = \"prod\""), prod);
    assert_eq!(label("state = RUNNING AND labels.a != \"b\" AND labels.env = \"prod\""), prod);
    assert_eq!(label("labels.env != \"prod\""), None);
    assert_eq!(label("state = RUNNING OR labels.env = \"prod\""), None);
    assert_eq!(label(""), None);
}

#[test]
fn what_is_asked_of_all() {
    let of = |text: &str| {
        let filter = Filter::parse(text).unwrap();
        let text = |asked: Option<&str>| asked.map(ToOwned::to_owned);
        let (kind, queue) = (text(filter.required_kind()), text(filter.required_queue()));
        (kind, queue, filter.requires_recent_change())
    };
    let a = || Some("a".to_owned());
    assert_eq!(of(""), (None, None, false));
    assert_eq!(of("state = FAILED AND kind = \"a\""), (a(), None, false));
    assert_eq!(of("state != QUEUED AND NOT queue = \"a\""), (None, None, false));
    assert_eq!(of("state = QUEUED OR kind = \"a\""), (None, None, false));
    assert_eq!(of("kind > \"a\""), (None, None, false));
    let time = "\"2026-01-01T00:00:00Z\"";
    assert_eq!(of(&format!("queue = \"a\" AND update_time > {time}")), (None, a(), true));
    assert_eq!(of(&format!("update_time < {time}")), (None, None, false));
}

#[test]
fn states_that_can_match() {
    use State::{Cancelled, Cancelling, Failed, Paused, Queued, Running, Succeeded};
    let of = |text: &str| {
        let filter = Filter::parse(text).unwrap();
        State::ALL.into_iter().filter(|state| filter.can_match(*state)).collect::<Vec<_>>()
    };
    assert_eq!(of(""), State::ALL);
    assert_eq!(of("priority > 3 OR state = QUEUED"), State::ALL);
    assert_eq!(of("state = QUEUED AND NOT priority > 3"), [Queued]);
    assert_eq!(of("state != QUEUED"), [Running, Paused, Cancelling, Succeeded, Failed, Cancelled]);
    let ended = "state = SUCCEEDED OR state = FAILED OR state = CANCELLED";
    assert_eq!(of(ended), [Succeeded, Failed, Cancelled]);
    assert_eq!(
        of(&format!("NOT ({ended} OR kind = \"a\")")),
        [Queued, Running, Paused, Cancelling]
    );
    assert_eq!(of("state = QUEUED AND state = RUNNING"), []);
}

/// Values that meet, and odd ones.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["", "a", "b", "B", "ab", "a\"b\\", "default", "ä", "%", "AND"])
            .prop_map(str::to_owned),
        "[a-cA-C \"\\\\'%_ä€-]{0,3}",
    ]
}

pub(crate) fn any_time() -> impl Strategy<Value = Timestamp> {
    (0..6_i64).prop_map(|n| Timestamp::from_micros(n * 500_001))
}

fn any_comparison() -> impl Strategy<Value = Comparison> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    prop::sample::select(vec![Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual])
}

fn any_test() -> impl Strategy<Value = Test> {
    use TimeField::{Create, End, Schedule, Start, Update};
    let name = prop::sample::select(vec!["a", "b", "B"]);
    prop_oneof![
        (any::<bool>(), prop::sample::select(State::ALL.to_vec()))
            .prop_map(|(equal, state)| Test::State { equal, state }),
        (any_comparison(), name).prop_map(|(by, id)| Test::Name(by, Name::new(id).unwrap())),
        (
            prop::sample::select(vec![TextField::Kind, TextField::Queue, TextField::Worker]),
            any_comparison(),
            any_text().prop_map(|text| if text.is_empty() { "default".into() } else { text }),
        )
            .prop_map(|(field, by, text)| Test::Text(field, by, text)),
        (
            prop::sample::select(vec![NumberField::Priority, NumberField::Attempt]),
            any_comparison(),
            prop_oneof![-3..4_i64, any::<i64>()],
        )
            .prop_map(|(field, by, number)| Test::Number(field, by, number)),
        (
            prop::sample::select(vec![Create, Update, Start, End, Schedule]),
            any_comparison(),
            any_time(),
        )
            .prop_map(|(field, by, time)| Test::Time(field, by, time)),
        (any_text(), any_comparison(), any_text())
            .prop_map(|(key, by, value)| Test::Label(key, by, value)),
        any_text().prop_map(Test::HasLabel),
    ]
}

pub(crate) fn any_filter() -> impl Strategy<Value = Filter> {
    let leaf = any_test().prop_map(Condition::Test);
    let condition = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Condition::All),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Condition::Any),
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
        ]
    });
    prop_oneof![1 => Just(Filter::default()), 20 => condition.prop_map(Filter::new)]
}

proptest! {
    #[test]
    fn the_canonical_text_parses_to_the_same_filter(filter in any_filter()) {
        let text = filter.to_string();
        prop_assume!(text.chars().count() <= 4_096);
        let again = Filter::parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(again, filter);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(state|labels|kind|[ .:()\"=<>!*-]|AND|OR|NOT|a|5|\\PC){0,40}") {
        let _ = Filter::parse(&text);
    }
}
