//! Why an attempt failed, in the terms of google.rpc.Status.

use bytes::Bytes;

/// A canonical code, as in google/rpc/code.proto; never OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(i32);

impl Code {
    /// Nobody knows.
    pub const UNKNOWN: Self = Self(2);
    /// What was asked for makes no sense.
    pub const INVALID_ARGUMENT: Self = Self(3);
    /// It took too long.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// Something that it needs is not as it must be.
    pub const FAILED_PRECONDITION: Self = Self(9);
    /// A fault of the handler.
    pub const INTERNAL: Self = Self(13);
    /// Who did it is gone.
    pub const UNAVAILABLE: Self = Self(14);

    /// The code of this number; OK (0), which no failure has, becomes UNKNOWN.
    pub const fn new(number: i32) -> Self {
        if number == 0 { Self::UNKNOWN } else { Self(number) }
    }

    /// Its number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// A google.rpc.Status that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What sort of failure it is.
    pub code: Code,
    /// What happened, for a person to read.
    pub message: String,
    /// More, for programs to read.
    pub details: Vec<Detail>,
}

/// A google.protobuf.Any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Which message it is.
    pub type_url: String,
    /// The message, encoded.
    pub value: Bytes,
}

impl Failure {
    /// A failure without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }
}
