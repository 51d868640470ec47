//! Which fields of a task an update means, after AIP-134: an empty mask those that are
//! set, `*` all that can be set, and paths just those that they name, also inside
//! `retry_policy` and `progress`.

use std::collections::BTreeSet;

use prost_types::FieldMask;

use super::path::{At, shown};

/// Paths that an update may carry, groups written out.
pub(super) const CARRIED: &[&str] = &[
    "state",
    "priority",
    "labels",
    "schedule_time",
    "retry_policy.max_attempts",
    "retry_policy.initial_backoff",
    "retry_policy.max_backoff",
    "retry_policy.backoff_multiplier",
    "attempt_timeout",
    "retention",
    "progress.percent",
    "progress.message",
    "progress.completed_units",
    "progress.total_units",
    "progress.unit",
    "progress.details",
    "result",
    "error",
    // Immutable: must be what they are.
    "kind",
    "input",
    "queue",
];

/// Paths that are known and never carried.
pub(super) const OUTPUT_ONLY: &[&str] = &[
    "name",
    "create_time",
    "start_time",
    "end_time",
    "update_time",
    "revision",
    "attempt",
    "worker",
    "checkpoint",
    "progress.update_time",
    "progress.estimated_end_time",
];

/// Which fields are meant.
pub(super) enum Mask {
    /// Those that are set.
    Set,
    /// All that can be.
    All,
    /// Those that are named.
    Named(BTreeSet<&'static str>),
}

impl Mask {
    /// Reads a mask; `at` is where it stands.
    pub(super) fn read(at: &At<'_>, mask: Option<FieldMask>) -> Self {
        let paths = mask.unwrap_or_default().paths;
        if paths.is_empty() {
            return Self::Set;
        }
        if paths.iter().all(|path| path == "*") {
            return Self::All;
        }
        let mut named = BTreeSet::new();
        let mut has_remedy = false;
        for path in &paths {
            let meant: Vec<_> = CARRIED.iter().filter(|carried| covers(path, carried)).collect();
            if path == "*" {
                at.refuse("names \"*\" beside other paths: let it stand alone");
            } else if meant.is_empty() && !OUTPUT_ONLY.contains(&path.as_str()) {
                let mut what = format!("names {}, which is no field that a task has", shown(path));
                // Once, however many paths are wrong.
                if !std::mem::replace(&mut has_remedy, true) {
                    what = format!("{what}: name some of {}", CARRIED.join(", "));
                }
                at.refuse(what);
            }
            named.extend(meant);
        }
        Self::Named(named)
    }

    /// Whether this path of [`CARRIED`] is meant, where it is `set` or not.
    pub(super) fn means(&self, path: &'static str, set: bool) -> bool {
        debug_assert!(CARRIED.contains(&path), "{path} is missing in the list");
        match self {
            Self::Set => set,
            Self::All => true,
            Self::Named(named) => named.contains(path),
        }
    }

    /// As [`means`](Self::means), for what is compared and never set.
    pub(super) fn means_fixed(&self, path: &'static str, set: bool) -> bool {
        match self {
            Self::All => set,
            Self::Set | Self::Named(_) => self.means(path, set),
        }
    }

    /// Whether no field was named.
    pub(super) const fn is_lenient(&self) -> bool {
        matches!(self, Self::Set | Self::All)
    }
}

/// Whether `path` is `carried`, or the message that it is in.
fn covers(path: &str, carried: &str) -> bool {
    carried
        .strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || (rest.starts_with('.') && !path.is_empty()))
}
