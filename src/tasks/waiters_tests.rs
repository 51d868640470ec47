//! Who is woken for what, and in whose place.

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn lane(kind: &str, queue: &str) -> Lane {
    Lane { kind: name(kind), queue: name(queue) }
}

fn asks(kinds: &[Name], queues: &[Name]) -> LeaseRequest {
    LeaseRequest {
        worker: name("w"),
        kinds: kinds.to_vec(),
        queues: queues.to_vec(),
        max_tasks: 1,
        duration: std::time::Duration::from_secs(30),
        wait: std::time::Duration::ZERO,
        by_runner: false,
    }
}

/// Once: it looks then.
fn is_woken(waiter: &Waiter) -> bool {
    let mut waiting = waiter.all.lock();
    let entry = waiting.all.get_mut(&waiter.number).expect("it waits");
    let woken = matches!(entry.woken, Some(Wake::Lane(_) | Wake::Anything));
    if woken {
        entry.woken = Some(Wake::Nothing);
    }
    woken
}

#[test]
fn as_many_are_woken_as_there_are_tasks_and_in_turn() {
    let waiters = Waiters::default();
    let all: Vec<Waiter> = (0..3).map(|_| waiters.register(&asks(&[name("k")], &[]))).collect();
    waiters.wake(&lane("k", "q"), 2);
    assert_eq!(all.iter().map(is_woken).collect::<Vec<_>>(), [true, true, false]);
    all[0].look();
    waiters.wake(&lane("k", "q"), 1);
    assert_eq!(all.iter().map(is_woken).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn a_waiter_is_woken_for_its_queues_only() {
    let waiters = Waiters::default();
    let one = waiters.register(&asks(&[name("k")], &[name("a")]));
    let other = waiters.register(&asks(&[name("k"), name("l")], &[]));
    waiters.wake(&lane("k", "b"), 1);
    assert!(!is_woken(&one) && is_woken(&other));
    waiters.wake(&lane("k", "a"), 1);
    assert!(is_woken(&one));
}

#[test]
fn who_is_woken_and_leaves_passes_it_on() {
    let waiters = Waiters::default();
    let first = waiters.register(&asks(&[name("k")], &[]));
    let second = waiters.register(&asks(&[name("k")], &[]));
    waiters.wake(&lane("k", "q"), 1);
    assert!(!is_woken(&second));
    drop(first);
    assert!(is_woken(&second));
}

#[test]
fn those_who_left_leave_nothing_behind() {
    let waiters = Waiters::default();
    let stays = waiters.register(&asks(&[name("k")], &[]));
    for _ in 0..1_000 {
        drop(waiters.register(&asks(&[name("k"), name("l")], &[])));
    }
    assert!(waiters.lock().by_kind.values().map(VecDeque::len).sum::<usize>() < 300);
    drop(stays);
    assert!(waiters.lock().all.is_empty());
}
