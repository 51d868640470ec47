//! Who changes tasks by updates: the owners of external tasks, and those who meddle with
//! any; and who only reads.

use prost_types::{Value, value::Kind};
use rand::RngExt;
use taskwatch::proto::{Progress, Task, task::State};
use tokio::time::sleep;
use tonic_types::Status;

use super::{
    super::history::{Miss, state},
    Caller, PAUSE,
};

/// Drives an external task to its end; whoever else does the same.
pub(super) async fn own(mut caller: Caller, name: String) {
    let mut steps = caller.random.random_range(1..6);
    let guarded = caller.chance(60);
    loop {
        let task = match caller.get(&name).await {
            Ok(task) if task.end_time.is_some() => return,
            Ok(task) => task,
            // Never refused: the checker sees it.
            Err(Miss::Refused(_)) => return,
            Err(Miss::Lost(_)) => {
                sleep(PAUSE).await;
                continue;
            }
        };
        let guard = if guarded { task.revision } else { 0 };
        match task.state() {
            State::Queued | State::Paused => {
                drop(caller.ask_for(&name, State::Running, guard).await);
            }
            State::Running if steps > 0 => {
                steps -= 1;
                // Unlike any other, so that it is a change.
                let message = format!("{} {steps} {}", caller.name, caller.load.history.now());
                let progress = Some(Progress { message, ..Default::default() });
                let task =
                    Task { name: name.clone(), revision: guard, progress, ..Default::default() };
                drop(caller.update("progress", task, &["progress"]).await);
            }
            _ => end(&mut caller, &name, guard).await,
        }
        caller.pause(20..400).await;
    }
}

async fn end(caller: &mut Caller, name: &str, guard: i64) {
    let mut task = Task { name: name.to_owned(), revision: guard, ..Default::default() };
    let (to, paths) = match caller.random.random_range(0..10) {
        0 => (State::Cancelled, ["state"].as_slice()),
        1 | 2 => {
            let message = caller.name.clone();
            task.error = Some(Status { code: 13, message, details: Vec::new() });
            (State::Failed, ["state", "error"].as_slice())
        }
        _ => {
            task.result = Some(Value { kind: Some(Kind::StringValue(caller.name.clone())) });
            (State::Succeeded, ["state", "result"].as_slice())
        }
    };
    task.state = to.into();
    drop(caller.update(state(to.into()), task, paths).await);
}

/// Cancels, pauses, resumes and retries what it knows nothing of.
pub(super) async fn meddle(mut caller: Caller) {
    while !caller.load.enough.is_cancelled() {
        caller.pause(200..1_000).await;
        let Some(name) = caller.load.any_name(&mut caller.random) else { continue };
        match caller.random.random_range(0..10) {
            0..3 => drop(caller.ask_for(&name, State::Cancelled, 0).await),
            3..8 => {
                let paused = caller.ask_for(&name, State::Paused, 0).await;
                if paused.is_ok() {
                    caller.pause(0..1_500).await;
                    drop(caller.ask_for(&name, State::Running, 0).await);
                }
            }
            // Of one that has failed or was cancelled; else it is refused.
            _ => drop(caller.ask_for(&name, State::Queued, 0).await),
        }
    }
}

/// Reads what others change.
pub(super) async fn read(mut caller: Caller) {
    while !caller.load.enough.is_cancelled() {
        caller.pause(20..200).await;
        if let Some(name) = caller.load.any_name(&mut caller.random) {
            drop(caller.get(&name).await);
        }
    }
}
