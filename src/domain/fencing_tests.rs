//! Workers whose calls are doubled, delayed and overtaken: whatever arrives when, one
//! lease is live at a time, and of its outcomes one stands.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::*;

const LEASE: Duration = Duration::from_secs(30);

/// What is done next: by the service, by the network, by somebody who watches over it.
#[derive(Clone, Debug)]
enum Step {
    /// A worker asks for the task.
    Lease,
    /// The holder of the nth lease, if there was one, sends this; it is on its way.
    Send(usize, Call),
    /// One of the calls that are on their way arrives; it may arrive again.
    Arrive { which: usize, again: bool },
    /// A timer that saw the nth lease fires.
    Timer(usize),
    /// Time goes by.
    Wait(u64),
    /// Somebody asks for a state.
    Ask(State),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Call {
    Report,
    Succeed(u8),
    Fail { permanent: bool },
    Cancelled,
    Release,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        3 => Just(Call::Report),
        2 => (0..2_u8).prop_map(Call::Succeed),
        1 => any::<bool>().prop_map(|permanent| Call::Fail { permanent }),
        1 => Just(Call::Cancelled),
        1 => Just(Call::Release),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Lease),
        6 => (0..8_usize, call()).prop_map(|(nth, call)| Step::Send(nth, call)),
        6 => (any::<usize>(), any::<bool>())
            .prop_map(|(which, again)| Step::Arrive { which, again }),
        1 => (0..8_usize).prop_map(Step::Timer),
        2 => (0..40_u64).prop_map(Step::Wait),
        1 => prop_oneof![
            Just(State::Paused), Just(State::Running), Just(State::Cancelled), Just(State::Queued)
        ].prop_map(Step::Ask),
    ]
}

fn event(token: Token, call: Call) -> Event {
    let report = Report { token, progress: None, checkpoint: None };
    let outcome = match call {
        Call::Report => {
            let percent = Some(1.0);
            let progress = Some(ProgressReport { percent, ..ProgressReport::default() });
            return Event::Report(Report { progress, ..report });
        }
        Call::Succeed(n) => Outcome::Succeeded(Value::from_encoded(vec![n].into())),
        Call::Fail { permanent } => {
            Outcome::Failed { error: Failure::new(Code::UNKNOWN, "no luck"), permanent }
        }
        Call::Cancelled => Outcome::Cancelled,
        Call::Release => Outcome::Released,
    };
    Event::Finish(Box::new(Finish { report, outcome }))
}

fn new_task() -> Task {
    let name = |text: &str| Name::new(text).expect("a good name");
    let new = NewTask {
        id: name("t"),
        kind: name("work"),
        input: None,
        queue: None,
        priority: 0,
        labels: Labels::new(),
        schedule_time: None,
        retry_policy: RetryPolicy { max_attempts: Some(1_000), ..RetryPolicy::default() },
        attempt_timeout: None,
        retention: None,
    };
    create(&new, Timestamp::from_micros(1_000_000_000_000_000))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn one_lease_lives_and_one_outcome_stands(steps in prop::collection::vec(step(), 1..120)) {
        let mut task = new_task();
        let mut now = task.create_time;
        let mut tokens: Vec<Token> = Vec::new();
        let mut on_their_way: Vec<(Token, Call)> = Vec::new();
        // What ended each lease, as its worker was told.
        let mut ends: HashMap<Token, Call> = HashMap::new();
        let mut last_end = None;
        let worker = Name::new("w").expect("a good name");
        let kind = KindDefaults::default();
        for step in steps {
            let live = task.lease().map(|lease| lease.token);
            let (event, said) = match step {
                Step::Wait(seconds) => {
                    now = now.plus(Duration::from_secs(seconds));
                    continue;
                }
                Step::Send(nth, call) => {
                    on_their_way.extend(tokens.get(nth).map(|token| (*token, call)));
                    continue;
                }
                Step::Arrive { which, again } => {
                    if on_their_way.is_empty() {
                        continue;
                    }
                    let which = which % on_their_way.len();
                    let (token, call) = on_their_way[which];
                    if !again {
                        on_their_way.swap_remove(which);
                    }
                    (event(token, call), Some((token, call)))
                }
                Step::Lease => {
                    let number = u8::try_from(tokens.len()).expect("few enough");
                    let (worker, duration) = (worker.clone(), LEASE);
                    let token = Token([number; 16]);
                    (Event::Lease(Grant { worker, token, duration, by_runner: false }), None)
                }
                Step::Timer(nth) => {
                    let Some(token) = tokens.get(nth).copied() else { continue };
                    (Event::Expire { token, cause: Expiry::Lease }, None)
                }
                Step::Ask(state) => {
                    let patch = Patch { state: Some(state), ..Patch::default() };
                    (Event::Update(Box::new(patch)), None)
                }
            };
            let context = Context { now, kind: &kind, jitter: 0.0, input: None };
            let result = apply(&task, &event, &context);
            if let Event::Lease(grant) = &event && result.is_ok() {
                prop_assert_eq!(live, None, "a second live lease");
                tokens.push(grant.token);
            }
            if let Some((token, call)) = said {
                let lost = matches!(&result, Err(Error::Aborted { reason: "LEASE_LOST", .. }));
                if live == Some(token) {
                    prop_assert!(result.is_ok(), "the live token is always heard: {result:?}");
                    if call != Call::Report {
                        prop_assert!(ends.insert(token, call).is_none(), "ended twice");
                        last_end = Some((token, call));
                    }
                } else if last_end == Some((token, call)) {
                    // Said again before another lease ended: answered, and nothing changes.
                    prop_assert_eq!(&result, &Ok(None));
                } else {
                    prop_assert!(lost, "{call:?} under an old token: {result:?}");
                }
            }
            let Ok(Some(next)) = result else { continue };
            if let (Event::Expire { .. }, Some(lease)) = (&event, task.lease()) {
                prop_assert!(lease.expire_time <= now, "a lease ended before its time");
                last_end = None;
            }
            if task.state().is_terminal() {
                prop_assert!(
                    matches!(event, Event::Update(_)) && next.state() == State::Queued,
                    "an end was overwritten"
                );
            }
            prop_assert!(next.revision >= task.revision);
            task = next;
        }
    }
}
