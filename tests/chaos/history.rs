//! What all clients saw and were told, as one list: the only thing that the checker
//! reads.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{Arc, Mutex},
};

use prost::Message;
use serde::Serialize;
use taskwatch::proto::{Task, task::State};
use tokio::time::Instant;
use tonic::{Code, Status};

/// A call, or a message of a stream, in microseconds since the beginning.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub client: String,
    /// Which replica was asked.
    pub server: usize,
    pub begin: u64,
    pub end: u64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, Serialize)]
pub enum What {
    Create {
        request: String,
        answer: Answer<Seen>,
    },
    Update {
        name: String,
        asks: &'static str,
        guard: i64,
        answer: Answer<Seen>,
    },
    Read {
        name: String,
        answer: Answer<Seen>,
    },
    /// One lease of a hand-out.
    Leased {
        token: String,
        expires: i64,
        seen: Seen,
    },
    Report {
        name: String,
        token: String,
        answer: Answer<Told>,
    },
    Finish {
        name: String,
        token: String,
        outcome: Outcome,
        answer: Answer<()>,
    },
    /// A watch begins, and will go on until it has seen the end.
    Watches {
        watch: u64,
        name: String,
    },
    /// A state on a stream; `first` where it is the first one of that stream.
    Saw {
        watch: u64,
        first: bool,
        seen: Seen,
    },
    /// The stream is over: with OK, or for another reason.
    Over {
        watch: u64,
        name: String,
        answer: Answer<()>,
    },
}

/// What came back, or why nothing did.
pub type Answer<T> = Result<T, Miss>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Miss {
    /// It was not done.
    Refused(String),
    /// Nobody knows whether it was done.
    Lost(String),
}

/// What an answer to a report says.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    pub wanted: &'static str,
    pub expires: i64,
}

/// How a worker ends a lease; each is told apart by its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Outcome {
    pub id: String,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum How {
    Result,
    Permanent,
    Error,
    Cancelled,
    Released,
}

/// One state of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    pub name: String,
    /// The id of the request that created it, from a label.
    pub request: String,
    pub revision: i64,
    pub state: &'static str,
    pub ended: bool,
    pub attempt: i32,
    /// When its lease began, by the database's clock.
    pub start: i64,
    /// Its result, where that is a text.
    pub result: String,
    /// Of all that a watcher sees.
    pub digest: String,
}

impl From<&Status> for Miss {
    fn from(status: &Status) -> Self {
        let what = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Self::Refused(what),
            _ => Self::Lost(what),
        }
    }
}

/// The label that says which request created a task.
pub const REQUEST: &str = "request";

pub fn micros(time: Option<prost_types::Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000)
}

impl From<&Task> for Seen {
    fn from(task: &Task) -> Self {
        // What differs from view to view, and what an estimate makes of the present time.
        let mut same = Task { input: None, checkpoint: None, ..task.clone() };
        if let Some(progress) = &mut same.progress {
            progress.estimated_end_time = None;
        }
        let result = match task.result.as_ref().and_then(|value| value.kind.as_ref()) {
            Some(prost_types::value::Kind::StringValue(text)) => text.clone(),
            _ => String::new(),
        };
        Self {
            name: task.name.clone(),
            request: task.labels.get(REQUEST).cloned().unwrap_or_default(),
            revision: task.revision,
            state: task.state().as_str_name(),
            ended: task.end_time.is_some(),
            attempt: task.attempt,
            start: micros(task.start_time),
            result,
            digest: digest(&same.encode_to_vec()),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn state(state: i32) -> &'static str {
    State::try_from(state).unwrap_or_default().as_str_name()
}

/// Cheap to clone; all clones are one list.
#[derive(Clone)]
pub struct History {
    begin: Instant,
    records: Arc<Mutex<Vec<Record>>>,
}

impl History {
    pub fn new() -> Self {
        Self { begin: Instant::now(), records: Arc::default() }
    }

    pub fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).expect("a short time")
    }

    /// Adds what ends now.
    pub fn add(&self, client: &str, server: usize, begin: u64, what: What) {
        let (client, end) = (client.to_owned(), self.now());
        let record = Record { client, server, begin, end, what };
        self.records.lock().expect("the list").push(record);
    }

    pub fn records(&self) -> Vec<Record> {
        self.records.lock().expect("the list").clone()
    }

    /// As lines of JSON.
    pub fn write(&self, path: &Path) {
        let mut file = BufWriter::new(File::create(path).expect("a file"));
        for record in self.records() {
            let line = serde_json::to_string(&record).expect("JSON");
            writeln!(file, "{line}").expect("written");
        }
        file.flush().expect("written");
    }
}
