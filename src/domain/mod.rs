//! What a task is and what may happen to it. Pure: no I/O, no clock, no async, so
//! that it can be tested with thousands of generated histories.

mod attempt;
mod context;
mod error;
mod event;
mod failure;
#[cfg(test)]
mod fencing_tests;
pub mod filter;
#[cfg(test)]
mod history_tests;
mod lease;
pub mod limits;
mod name;
mod order;
mod payload;
mod progress;
mod rate;
mod retry;
mod task;
mod time;
mod transition;
#[cfg(test)]
mod transition_tests;
mod update;

pub use attempt::{ATTEMPTS_KEPT, Attempt, AttemptEnd};
pub use context::Context;
pub use error::{Error, Violation};
pub use event::{
    Event, Expiry, Finish, Grant, NewTask, Outcome, Patch, ProgressPatch, Report, RetryPolicyPatch,
};
pub use failure::{Code, Detail, Failure};
pub use filter::Filter;
#[cfg(test)]
pub(crate) use filter::tests as filter_strategies;
pub use lease::{Lease, TimeLimit, Token};
pub use name::{NAME_RULE, Name, TaskId};
pub use order::{Cursor, Direction, Order, OrderKey};
pub use payload::{Object, Value};
pub use progress::{Pace, Progress, ProgressReport};
pub use rate::{LaneLimits, RATE_MAX, RATE_MIN, Rate};
pub use retry::{KindDefaults, RetryPolicy};
pub use task::{DEFAULT_QUEUE, EXTERNAL, Labels, LastOutcome, State, Status, Task};
pub use time::Timestamp;
pub use transition::{apply, create};
