//! The bounds on what callers may send. Whatever is outside them is refused at
//! the door, before it becomes a command.

use std::time::Duration;

/// Bytes in one message, either way.
pub const MESSAGE_BYTES: usize = 4 << 20;
/// Bytes of an input or a result, as encoded.
pub const PAYLOAD_BYTES: usize = 1 << 20;
/// Objects and lists within one another, the outermost counted.
pub const PAYLOAD_DEPTH: usize = 16;
/// Bytes of a checkpoint, of progress details and of error details, each.
pub const SMALL_PAYLOAD_BYTES: usize = 64 << 10;
/// Characters of a progress message.
pub const PROGRESS_MESSAGE_CHARS: usize = 1_000;
/// Characters of the unit of progress.
pub const PROGRESS_UNIT_CHARS: usize = 128;
/// Characters of an error message.
pub const ERROR_MESSAGE_CHARS: usize = 4_000;
/// Labels on one task.
pub const LABELS: usize = 64;
/// Characters of a label's key.
pub const LABEL_KEY_CHARS: usize = 63;
/// Characters of a label's value.
pub const LABEL_VALUE_CHARS: usize = 256;
/// Characters of a task id, kind, queue or worker.
pub const NAME_CHARS: usize = 128;
/// Bytes of a request id.
pub const REQUEST_ID_BYTES: usize = 128;
/// Characters of a filter.
pub const FILTER_CHARS: usize = 4_096;
/// Lowest and highest priority.
pub const PRIORITY: std::ops::RangeInclusive<i32> = -100..=100;
/// Tasks in a batch, a hand-out, a set of reports or of outcomes.
pub const BATCH: usize = 1_000;
/// Kinds or queues that one LeaseTasks call names.
pub const LEASE_NAMES: usize = 100;
/// Largest page of a list.
pub const PAGE_SIZE: usize = 1_000;
/// Page of a list where none is asked for.
pub const DEFAULT_PAGE_SIZE: usize = 50;
/// Attempts on one page at most.
pub const ATTEMPTS_PAGE: usize = 100;
/// A page of a list ends at about this many bytes.
pub const PAGE_BYTES: usize = 2 << 20;
/// Shortest lease.
pub const LEASE_MIN: Duration = Duration::from_secs(1);
/// Longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(3_600);
/// Lease where none is asked for.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);
/// Longest wait of a LeaseTasks call.
pub const LEASE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Longest interval of a watch.
pub const WATCH_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// Shortest heartbeat of a watch; less counts as this.
pub const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// Longest duration that a task can be given (its retention, timeout, backoff):
/// 100 years of 365 days.
pub const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
/// How long a request id is remembered at least, unless its task is deleted.
pub const REQUEST_ID_KEPT: Duration = Duration::from_secs(3_600);
/// Ids that one filtered watch may match at a time.
pub const WATCHED_IDS: usize = 100_000;
