//! Standard output, for data: a reader that leaves early ends the command quietly.

use std::io::{self, IsTerminal, Write};

use super::exit::Fault;

/// Writes a line of data.
pub(super) fn line(text: impl AsRef<str>) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")?;
    // A line is news to whoever reads it: it must not wait in a buffer.
    Ok(out.flush()?)
}

/// Says something to whoever sits there. That nobody listens is no fault.
pub(super) fn say(text: impl AsRef<str>) {
    drop(writeln!(io::stderr(), "{}", text.as_ref()));
}

/// Whether a person looks at standard output.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
