//! What breaks, when, and for how long: drawn from a seed and from nothing else.
//!
//! A run is a row of phases. In each of them one replica is spared, so that there is
//! one that has been up for long enough to end leases; the others are tried in two
//! ways at the same time, their processes and their wires to the database; and what
//! all share, the database, breaks at some moment of it.

use std::{fmt, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// How many replicas there are.
pub const REPLICAS: usize = 3;
/// How long a phase is planned to last: longer than the ten seconds for which a server
/// ends no lease after an outage.
const PHASE: Duration = Duration::from_secs(13);
/// About how long a server takes to come back.
const START: Duration = Duration::from_millis(1_200);

/// What becomes of one replica, of its wire, or of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a start after a while.
    Kill,
    /// SIGSTOP, for longer than a lease, and SIGCONT.
    Stop,
    /// SIGTERM, the drain, and a start after a while.
    Drain,
    /// Every answer of the database is so late.
    Late { millis: u64 },
    /// Every connection is reset, new ones too.
    Reset,
    /// Every connection is closed, new ones are refused.
    Cut,
    /// Nothing passes in one direction, and nobody is told.
    Swallow { answers: bool },
    /// Every connection ends after so many bytes of answers, often within one.
    Tear { bytes: u64 },
    /// The replica's backends are terminated.
    Terminate,
    /// The database stops in order, and starts.
    Restart,
    /// The database crashes, and starts.
    Crash,
    /// All backends are terminated.
    TerminateAll,
}

/// One fault: after a pause, for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub pause: Duration,
    pub fault: Fault,
    pub lasts: Duration,
}

/// Faults one after the other; lines run side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// None: the database.
    pub replica: Option<usize>,
    pub steps: Vec<Step>,
}

/// All lines that run at the same time, without one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    pub spared: usize,
    pub lines: Vec<Line>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {:?}", self.fault, self.lasts)
    }
}

/// So many faults at least.
pub fn draw(seed: u64, faults: usize) -> Vec<Phase> {
    let mut random = StdRng::seed_from_u64(seed);
    let first = random.random_range(0..REPLICAS);
    let mut phases = Vec::new();
    while count(&phases) < faults {
        let spared = (first + phases.len()) % REPLICAS;
        let mut lines = vec![Line { replica: None, steps: vec![database(&mut random)] }];
        for replica in (0..REPLICAS).filter(|replica| *replica != spared) {
            for step in [process, wire] {
                lines.push(Line { replica: Some(replica), steps: line(&mut random, step) });
            }
        }
        phases.push(Phase { spared, lines });
    }
    phases
}

pub fn count(phases: &[Phase]) -> usize {
    phases.iter().flat_map(|phase| &phase.lines).map(|line| line.steps.len()).sum()
}

/// As many steps as are likely to pass within a phase.
fn line(random: &mut StdRng, step: fn(&mut StdRng) -> Step) -> Vec<Step> {
    let (mut steps, mut planned) = (Vec::new(), Duration::ZERO);
    loop {
        let step = step(random);
        let start = match step.fault {
            Fault::Kill => START,
            Fault::Drain => 2 * START,
            _ => Duration::ZERO,
        };
        planned += step.pause + step.lasts + start;
        if planned > PHASE {
            return steps;
        }
        steps.push(step);
    }
}

fn process(random: &mut StdRng) -> Step {
    let fault = *[Fault::Kill, Fault::Kill, Fault::Stop, Fault::Drain].choose(random).expect("one");
    let lasts = match fault {
        Fault::Stop => 3_000..4_000,
        _ => 0..800,
    };
    step(random, 300..1_500, fault, lasts)
}

fn wire(random: &mut StdRng) -> Step {
    let (fault, lasts) = match random.random_range(0..10) {
        0 | 1 => (Fault::Late { millis: random.random_range(50..400) }, 1_000..3_000),
        2 => (Fault::Reset, 200..1_500),
        3 | 4 => (Fault::Cut, 300..2_500),
        5 => (Fault::Swallow { answers: random.random() }, 2_000..5_000),
        6 | 7 => (Fault::Tear { bytes: random.random_range(1..4_000) }, 300..1_500),
        _ => (Fault::Terminate, 0..1),
    };
    step(random, 200..1_200, fault, lasts)
}

fn database(random: &mut StdRng) -> Step {
    let fault = *[Fault::Restart, Fault::Crash, Fault::TerminateAll].choose(random).expect("one");
    step(random, 0..2_000, fault, 0..1)
}

fn step(
    random: &mut StdRng,
    pause: std::ops::Range<u64>,
    fault: Fault,
    lasts: std::ops::Range<u64>,
) -> Step {
    let mut millis = |range| Duration::from_millis(random.random_range(range));
    Step { pause: millis(pause), fault, lasts: millis(lasts) }
}

#[test]
fn a_seed_repeats_its_schedule_and_another_one_does_not() {
    assert_eq!(draw(7, 50), draw(7, 50));
    assert_ne!(draw(7, 50), draw(8, 50));
    for seed in 0..100 {
        let phases = draw(seed, 50);
        assert!(count(&phases) >= 50);
        for Phase { spared, lines } in phases {
            assert!(lines.iter().all(|line| line.replica != Some(spared)));
            assert_eq!(lines.len(), 1 + 2 * (REPLICAS - 1));
        }
    }
}
