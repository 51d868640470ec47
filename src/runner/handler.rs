//! What runs tasks of one kind: yours, when you embed the crate, and those that are
//! built in.

use std::{error::Error as StdError, time::Duration};

use futures_util::future::BoxFuture;
use serde_json::Value as Json;

use super::{Job, Wanted, bounds};
use crate::domain::{Code, Failure, Outcome, limits};

/// Runs the tasks of one kind. Every `Fn(Job) -> impl Future` that gives a
/// `Result<serde_json::Value, HandlerError>` is one.
///
/// The same task may be run more than once: an attempt whose server dies is made
/// again, from the last checkpoint. A panic is a failed attempt. Where the lease is
/// lost, the future is dropped at its next await.
///
/// ```
/// use taskwatch::runner::{HandlerError, Job, Progress};
///
/// async fn resize(job: Job) -> Result<serde_json::Value, HandlerError> {
///     for n in 1..=10 {
///         job.proceed().await?;
///         job.report(Progress::units(n, 10, "images"));
///     }
///     Ok(serde_json::json!({ "images": 10 }))
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Makes one attempt. The result is any JSON: 1 MiB as a protobuf Value and 16
    /// levels at most, else the task fails for good.
    fn run(&self, job: Job) -> BoxFuture<'_, Result<Json, HandlerError>>;

    /// How long it needs at most to stop at its timeout, before its future is
    /// dropped; none means `runner.stop_grace`.
    fn stop_grace(&self) -> Option<Duration> {
        None
    }
}

impl<F, Fut> Handler for F
where
    F: Fn(Job) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Json, HandlerError>> + Send + 'static,
{
    fn run(&self, job: Job) -> BoxFuture<'_, Result<Json, HandlerError>> {
        Box::pin(self(job))
    }
}

/// How an attempt ended without a result. Any [`std::error::Error`] becomes a
/// retryable UNKNOWN by `?`; for that to be, it is none itself.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerError(Ending);

#[derive(Clone, Debug, PartialEq)]
enum Ending {
    Failed { failure: Failure, permanent: bool },
    Cancelled,
}

impl HandlerError {
    /// Another attempt may do better.
    pub fn retryable(code: Code, message: impl AsRef<str>) -> Self {
        Self::failed(code, message.as_ref(), false)
    }

    /// Another attempt makes no sense.
    pub fn permanent(code: Code, message: impl AsRef<str>) -> Self {
        Self::failed(code, message.as_ref(), true)
    }

    /// The job was told to stop, and did.
    pub const fn cancelled() -> Self {
        Self(Ending::Cancelled)
    }

    fn failed(code: Code, message: &str, permanent: bool) -> Self {
        let failure = Failure::new(code, bounds::text(message, limits::ERROR_MESSAGE_CHARS));
        Self(Ending::Failed { failure, permanent })
    }
}

impl<E: StdError> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::retryable(Code::UNKNOWN, message)
    }
}

/// What an attempt's outcome is, after what was wanted of it by then.
pub(super) fn outcome(ended: Result<Json, HandlerError>, wanted: Wanted) -> Outcome {
    match ended.map_err(|error| error.0) {
        Ok(result) => match bounds::result(&result) {
            Ok(result) => Outcome::Succeeded(result),
            Err(why) => Outcome::Failed {
                error: Failure::new(Code::INTERNAL, format!("the result {why}")),
                permanent: true,
            },
        },
        Err(Ending::Failed { failure, permanent: true }) => {
            Outcome::Failed { error: failure, permanent: true }
        }
        // What work says that is being stopped at its timeout is not why it ended.
        Err(Ending::Failed { failure, permanent: false }) if wanted != Wanted::TimeOut => {
            Outcome::Failed { error: failure, permanent: false }
        }
        Err(Ending::Failed { .. } | Ending::Cancelled) => stopped(wanted),
    }
}

/// The outcome of work that ended because it was told to.
pub(super) fn stopped(wanted: Wanted) -> Outcome {
    match wanted {
        Wanted::Run | Wanted::Pause | Wanted::Cancel => Outcome::Cancelled,
        Wanted::Release => Outcome::Released,
        Wanted::TimeOut => Outcome::Failed {
            error: Failure::new(
                Code::DEADLINE_EXCEEDED,
                "the attempt took longer than its timeout",
            ),
            permanent: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(outcome: &Outcome) -> Option<(Code, bool)> {
        match outcome {
            Outcome::Failed { error, permanent } => Some((error.code, *permanent)),
            Outcome::Succeeded(_) | Outcome::Cancelled | Outcome::Released => None,
        }
    }

    #[test]
    fn what_was_wanted_decides_what_stopping_means() {
        let stop = || Err(HandlerError::cancelled());
        assert_eq!(outcome(stop(), Wanted::Cancel), Outcome::Cancelled);
        assert_eq!(outcome(stop(), Wanted::Release), Outcome::Released);
        let late = outcome(stop(), Wanted::TimeOut);
        assert_eq!(code(&late), Some((Code::DEADLINE_EXCEEDED, false)));
        let failed = Err(HandlerError::retryable(Code::UNKNOWN, "torn"));
        assert_eq!(code(&outcome(failed.clone(), Wanted::Run)), Some((Code::UNKNOWN, false)));
        assert_eq!(outcome(failed, Wanted::TimeOut), late);
    }

    #[test]
    fn an_outcome_is_taken_whatever_is_wanted() {
        for wanted in [Wanted::Run, Wanted::Cancel, Wanted::TimeOut, Wanted::Release] {
            assert!(matches!(outcome(Ok(Json::Null), wanted), Outcome::Succeeded(_)));
        }
    }

    #[test]
    fn a_result_out_of_limits_fails_for_good() {
        let large = outcome(Ok(Json::String("x".repeat(2 << 20))), Wanted::Run);
        assert_eq!(code(&large), Some((Code::INTERNAL, true)));
    }

    #[test]
    fn any_error_is_retryable() {
        let Err(error): Result<(), HandlerError> = (|| {
            "x".parse::<i32>()?;
            Ok(())
        })() else {
            panic!("x is no number")
        };
        let outcome = outcome(Err(error), Wanted::Run);
        assert_eq!(code(&outcome), Some((Code::UNKNOWN, false)));
    }
}
