//! The names that callers choose: of tasks, kinds, queues and workers.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use super::limits::NAME_CHARS;

/// 1 to 128 letters, digits, `-`, `_` and `.`, the first a letter or digit.
/// Cheap to clone; compares as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// What a name must look like, for messages.
pub const NAME_RULE: &str =
    "must be 1 to 128 letters, digits, '-', '_' and '.', the first a letter or digit";

impl Name {
    /// Checks `text` against the rule; `None` where it breaks it.
    pub fn new(text: &str) -> Option<Self> {
        let first = text.bytes().next()?;
        let well_formed = first.is_ascii_alphanumeric()
            && text.len() <= NAME_CHARS
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        well_formed.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A task's id: what follows `tasks/` in its name.
pub type TaskId = Name;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule() {
        for good in ["a", "0", "a-b_c.d", &"x".repeat(128)] {
            assert!(Name::new(good).is_some(), "{good}");
        }
        for bad in ["", "-a", ".", "a b", "ä", "a/b", "a\0", &"x".repeat(129)] {
            assert!(Name::new(bad).is_none(), "{bad}");
        }
    }
}
