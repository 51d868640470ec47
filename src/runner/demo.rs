//! The kind `demo`: work that only takes time, to try things with. It does what
//! every handler should: reports, saves, pauses, stops.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use tokio::time::{Instant, timeout};

use super::{HandlerError, Job, Progress, Wanted};
use crate::domain::Code;

pub(super) const KIND: &str = "demo";

const MOST_STEPS: u64 = 1_000_000;
const LONGEST_STEP: f64 = 86_400.0;

struct Plan {
    steps: u64,
    step: Duration,
    fail_at: Option<u64>,
}

pub(super) async fn run(job: Job) -> Result<Json, HandlerError> {
    let Plan { steps, step, fail_at } = plan(&job.read_input())?;
    let done = job.read_checkpoint().and_then(|saved| whole(saved.get("step")?)).unwrap_or(0);
    if done >= steps {
        job.report(at(steps, steps));
    }
    for n in done + 1..=steps {
        work(&job, step).await?;
        if fail_at == Some(n) {
            let message = format!("failed at step {n}, as input.fail_at asks for");
            return Err(HandlerError::retryable(Code::UNKNOWN, message));
        }
        job.report(at(n, steps));
        job.save_checkpoint(&json!({ "step": n }))?;
    }
    Ok(json!({ "steps": steps }))
}

fn at(n: u64, steps: u64) -> Progress {
    Progress::units(n, steps, "steps").message(format!("step {n} of {steps}"))
}

/// One step: takes its time, but for that spent paused, and ends within it when the
/// job is to stop.
async fn work(job: &Job, step: Duration) -> Result<(), HandlerError> {
    let mut left = step;
    loop {
        job.proceed().await?;
        let begun = Instant::now();
        // One wait for whatever comes: thousands of these may sleep at once.
        match timeout(left, job.until(|wanted| wanted != Wanted::Run)).await {
            Ok(()) => left = left.saturating_sub(begun.elapsed()),
            Err(_over) => return Ok(()),
        }
    }
}

fn plan(input: &Map<String, Json>) -> Result<Plan, HandlerError> {
    let wrong = |what: String| HandlerError::permanent(Code::INVALID_ARGUMENT, what);
    let named = |key: &str| input.get(key).filter(|value| !value.is_null());
    let count = |key: &str, most: u64| match named(key) {
        None => Ok(None),
        Some(value) => whole(value).filter(|n| (1..=most).contains(n)).map(Some).ok_or_else(|| {
            wrong(format!("input.{key} must be a whole number from 1 to {most}, but is {value}"))
        }),
    };
    let steps = count("steps", MOST_STEPS)?.unwrap_or(10);
    let fail_at = count("fail_at", steps)?;
    let seconds = match named("step_seconds") {
        None => 0.5,
        Some(value) => value
            .as_f64()
            .filter(|seconds| (0.0..=LONGEST_STEP).contains(seconds))
            .ok_or_else(|| {
                wrong(format!(
                    "input.step_seconds must be a number from 0 to {LONGEST_STEP}, but is {value}"
                ))
            })?,
    };
    Ok(Plan { steps, step: Duration::from_secs_f64(seconds), fail_at })
}

/// A whole number that may be written as 3 or as 3.0.
fn whole(value: &Json) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        (number.fract() == 0.0 && (0.0..=1e15).contains(&number)).then_some(number as u64)
    })
}
