//! The binary: see [`taskwatch::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    taskwatch::cli::main()
}
