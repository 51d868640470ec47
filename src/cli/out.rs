//! Standard output, for data: a reader that leaves early ends the command quietly.
//! Colours are left out where no terminal shows them, or NO_COLOR is set.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use rustix::termios::tcgetwinsize;

use super::exit::Fault;

/// Writes a line of data.
pub(super) fn line(text: impl AsRef<str>) -> Result<(), Fault> {
    let mut out = AutoStream::auto(io::stdout().lock());
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

/// Whether standard output shows colours.
pub(super) fn has_colours() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Columns and rows of the terminal, where there is one.
pub(super) fn size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}
