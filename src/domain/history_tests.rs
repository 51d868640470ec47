//! The rules that hold over thousands of generated histories of a task.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{
    transition_tests::{
        BEGIN, asks, at, ends, grant, lease_over, new_task, permanent, retryable, says,
    },
    *,
};

fn any_event() -> impl Strategy<Value = (Event, u64)> {
    let token = 1..4_u8;
    let event = prop_oneof![
        (0..State::ALL.len()).prop_map(|n| asks(State::ALL[n])),
        token.clone().prop_map(grant),
        token.clone().prop_map(|t| Event::Report(says(t))),
        (token.clone(), 0.0..100.0_f64).prop_map(|(t, percent)| {
            let mut report = says(t);
            let percent = Some(percent);
            report.progress = Some(ProgressReport { percent, ..ProgressReport::default() });
            report.checkpoint = Some(Object::from_encoded(vec![t].into()));
            Event::Report(report)
        }),
        token.clone().prop_map(|t| ends(t, Outcome::Succeeded(Value::default()))),
        token.clone().prop_map(|t| ends(t, permanent())),
        token.clone().prop_map(|t| ends(t, retryable())),
        token.clone().prop_map(|t| ends(t, Outcome::Cancelled)),
        token.clone().prop_map(|t| ends(t, Outcome::Released)),
        token.prop_map(lease_over),
        (-3..3_i32).prop_map(|priority| {
            let priority = Some(priority);
            Event::Update(Box::new(Patch { priority, ..Patch::default() }))
        }),
    ];
    (event, 0..40_u64)
}

/// What must be true of any task at any time.
fn makes_sense(task: &Task) {
    assert_eq!(task.state().is_terminal(), task.end_time().is_some());
    assert!(task.settled_revision <= task.revision);
    assert!(task.first_attempt <= task.attempt);
    if task.state() == State::Failed {
        assert!(task.error.is_some());
    }
    if task.is_external() {
        assert_eq!(task.lease(), None);
    } else if matches!(task.state(), State::Running | State::Cancelling) {
        assert!(task.lease().is_some());
    }
    if !matches!(task.state(), State::Running | State::Cancelling) {
        let estimate = task.progress.as_ref().and_then(|p| p.estimated_end_time);
        assert_eq!(estimate, None);
    }
}

fn token_of(event: &Event) -> Option<Token> {
    match event {
        Event::Report(report) => Some(report.token),
        Event::Finish(finish) => Some(finish.report.token),
        Event::Update(_) | Event::Lease(_) | Event::Expire { .. } => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn histories(external: bool, events in prop::collection::vec(any_event(), 1..60)) {
        let mut task = create(&new_task(if external { EXTERNAL } else { "work" }), BEGIN);
        let mut now = BEGIN;
        for (event, seconds) in events {
            now = now.plus(Duration::from_secs(seconds));
            let live = task.lease().map(|lease| lease.token);
            let result = at(now, &event, &task);
            if let Some(token) = token_of(&event) && live != Some(token) {
                // Fencing: nothing under an old token ever changes anything.
                prop_assert!(!matches!(result, Ok(Some(_))));
            }
            if task.state().is_terminal() && !matches!(event, Event::Update(_)) {
                prop_assert!(!matches!(result, Ok(Some(_))));
            }
            let Ok(Some(next)) = result else { continue };
            makes_sense(&next);
            let silent = Task {
                status: next.status.clone(),
                ..task.clone()
            } == next && task.state() == next.state();
            prop_assert!(silent || next.revision > task.revision);
            prop_assert!(next.revision >= task.revision);
            prop_assert!(next.attempt >= task.attempt);
            prop_assert!(task.progress.is_none() || next.progress.is_some());
            prop_assert!(task.checkpoint.is_none() || next.checkpoint.is_some());
            prop_assert!(Arc::ptr_eq(&next.labels, &task.labels));
            task = next;
        }
    }
}
