//! What is wrong with a configuration, and where, for the person who wrote it.

use std::{fmt, io, ops::Range, path::PathBuf};

/// Why there is no configuration. Its text is for people and may have several
/// lines, one for each thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why it cannot.
        source: io::Error,
    },
    /// What stands in the file is wrong; at least one fault, in the file's order.
    #[error("{}", lines(.0))]
    Faults(Vec<Fault>),
}

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was named.
    pub file: String,
    /// Where in it: from 1 on.
    pub line: usize,
    /// Where in the line, in characters: from 1 on.
    pub column: usize,
    /// The key with its tables, as `runner.concurrency`; empty where none can be told.
    pub key: String,
    /// What is wrong and what would be right.
    pub description: String,
}

impl Fault {
    pub(super) fn new(
        (file, text): (&str, &str),
        span: Range<usize>,
        key: &str,
        description: impl Into<String>,
    ) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: key.to_owned(),
            description: description.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, key, description } = self;
        write!(f, "{file}:{line}:{column}: ")?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        f.write_str(description)
    }
}

fn lines(faults: &[Fault]) -> String {
    let each: Vec<String> = faults.iter().map(ToString::to_string).collect();
    each.join("\n")
}

/// `; did you mean NAME?` where one of `known` is near enough to what was written.
pub(super) fn did_you_mean(written: &str, known: &[&str]) -> Option<String> {
    let near = |name: &&&str| strsim::jaro_winkler(written, name);
    let best = known.iter().max_by(|a, b| near(a).total_cmp(&near(b)))?;
    (near(&best) > 0.8).then(|| format!("; did you mean {best}?"))
}
