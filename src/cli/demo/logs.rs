//! Logs beside live bars: the bars step aside for each line.

use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

struct Beside(MultiProgress);

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One event is one write.
        self.0.suspend(|| io::stderr().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Writes to standard error without garbling the bars.
pub(super) fn beside(bars: &MultiProgress) -> BoxMakeWriter {
    let bars = bars.clone();
    BoxMakeWriter::new(move || Beside(bars.clone()))
}
