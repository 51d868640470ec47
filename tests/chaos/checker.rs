//! Reads the history of all clients and what stands at the end, and says what should not
//! be. Each rule is one function; none of them knows of the faults.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::history::{Answer, How, Miss, Outcome, Record, Seen, What};

/// What stands at the end.
#[derive(Clone, Debug, Default)]
pub struct Finals {
    /// All tasks, as each replica lists them.
    pub replicas: Vec<Vec<Seen>>,
    /// The leases of each task.
    pub attempts: BTreeMap<String, Vec<Attempt>>,
}

/// One lease that is over, as the server remembers it.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub attempt: i32,
    pub start: i64,
    /// 0 while it runs.
    pub end: i64,
    pub state: &'static str,
}

/// All that is known of one task.
#[derive(Default)]
struct Case<'a> {
    name: &'a str,
    records: Vec<&'a Record>,
    finals: Vec<&'a Seen>,
    attempts: &'a [Attempt],
    /// It may have been queued again by hand after an end.
    retried: bool,
}

/// All violations of all rules.
pub fn check(history: &[Record], finals: &Finals) -> Vec<String> {
    let mut wrong = requests_create_once(history, finals);
    wrong.extend(good_requests_are_taken(history));
    wrong.extend(no_internal_errors(history));
    let cases = cases(history, finals);
    for case in cases.values() {
        for rule in RULES {
            wrong.extend(rule(case).into_iter().map(|what| format!("{}: {what}", case.name)));
        }
    }
    wrong
}

type Rule = fn(&Case<'_>) -> Vec<String>;

const RULES: [Rule; 11] = [
    acknowledged_tasks_stay,
    replicas_agree,
    ends_are_ends,
    ends_have_a_cause,
    one_outcome_a_lease,
    accepted_outcomes_stand,
    one_live_lease,
    attempts_follow_one_another,
    revisions_grow,
    watches_reach_the_end,
    guards_admit_one,
];

impl Record {
    fn name(&self) -> Option<&str> {
        match &self.what {
            What::Create { answer, .. } => answer.as_ref().ok().map(|seen| seen.name.as_str()),
            What::Update { name, .. }
            | What::Read { name, .. }
            | What::Report { name, .. }
            | What::Finish { name, .. }
            | What::Watches { name, .. }
            | What::Over { name, .. } => Some(name),
            What::Leased { seen, .. } | What::Saw { seen, .. } => Some(&seen.name),
        }
    }

    /// The state that it shows.
    fn seen(&self) -> Option<&Seen> {
        match &self.what {
            What::Create { answer, .. }
            | What::Update { answer, .. }
            | What::Read { answer, .. } => answer.as_ref().ok(),
            What::Leased { seen, .. } | What::Saw { seen, .. } => Some(seen),
            What::Report { .. }
            | What::Finish { .. }
            | What::Watches { .. }
            | What::Over { .. } => None,
        }
    }

    fn missed(&self) -> Option<&Miss> {
        match &self.what {
            What::Create { answer, .. }
            | What::Update { answer, .. }
            | What::Read { answer, .. } => answer.as_ref().err(),
            What::Report { answer, .. } => answer.as_ref().err(),
            What::Finish { answer, .. } | What::Over { answer, .. } => answer.as_ref().err(),
            What::Leased { .. } | What::Saw { .. } | What::Watches { .. } => None,
        }
    }
}

fn cases<'a>(history: &'a [Record], finals: &'a Finals) -> BTreeMap<&'a str, Case<'a>> {
    let mut cases: BTreeMap<&str, Case<'_>> = BTreeMap::new();
    for record in history {
        if let Some(name) = record.name() {
            let case = cases.entry(name).or_default();
            case.records.push(record);
            if let What::Update { asks: "QUEUED", answer, .. } = &record.what {
                case.retried |= !matches!(answer, Err(Miss::Refused(_)));
            }
        }
    }
    for seen in finals.replicas.iter().flatten() {
        cases.entry(&seen.name).or_default().finals.push(seen);
    }
    for (name, case) in &mut cases {
        case.name = name;
        case.attempts = finals.attempts.get(*name).map_or(&[], Vec::as_slice);
    }
    cases
}

impl Case<'_> {
    fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.records.iter().filter_map(|record| record.seen()).chain(self.finals.iter().copied())
    }

    /// The request id that created it, which says what is to become of it.
    fn sort(&self) -> &str {
        let request = self.seen().map(|seen| seen.request.as_str()).next().unwrap_or_default();
        request.split('-').next().unwrap_or_default()
    }

    /// Whether somebody asked for this state and was not refused.
    fn asked_for(&self, state: &str) -> bool {
        self.records.iter().any(|record| {
            matches!(&record.what, What::Update { asks, answer, .. }
                if *asks == state && !matches!(answer, Err(Miss::Refused(_))))
        })
    }

    fn finishes(&self) -> impl Iterator<Item = (&Record, &str, &Outcome, &Answer<()>)> {
        self.records.iter().filter_map(|record| match &record.what {
            What::Finish { token, outcome, answer, .. } => {
                Some((*record, token.as_str(), outcome, answer))
            }
            _ => None,
        })
    }

    /// Outcomes that were said to be taken, each once, and under which token.
    fn accepted(&self) -> BTreeSet<(&str, &Outcome)> {
        let taken = self.finishes().filter(|(_, _, _, answer)| answer.is_ok());
        taken.map(|(_, token, outcome, _)| (token, outcome)).collect()
    }

    /// Tokens in the order in which they were given out, each with its record.
    fn leases(&self) -> Vec<(&Record, &str, i64, &Seen)> {
        let mut leases: Vec<_> = self
            .records
            .iter()
            .filter_map(|record| match &record.what {
                What::Leased { token, expires, seen } => {
                    Some((*record, token.as_str(), *expires, seen))
                }
                _ => None,
            })
            .collect();
        leases.sort_by_key(|(_, _, _, seen)| seen.revision);
        leases
    }
}

/// However often it is made, and wherever: one request id, one task.
fn requests_create_once(history: &[Record], finals: &Finals) -> Vec<String> {
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for record in history {
        if let What::Create { request, answer: Ok(seen) } = &record.what {
            names.entry(request).or_default().insert(&seen.name);
        }
    }
    for seen in finals.replicas.iter().flatten() {
        names.entry(&seen.request).or_default().insert(&seen.name);
    }
    let twice = names.into_iter().filter(|(_, names)| names.len() > 1);
    twice.map(|(request, names)| format!("request id {request} created {names:?}")).collect()
}

/// No fault makes a good request a bad one.
fn good_requests_are_taken(history: &[Record]) -> Vec<String> {
    let refused = history.iter().filter_map(|record| match &record.what {
        What::Create { request, answer: Err(Miss::Refused(why)) } => {
            Some(format!("request id {request} was refused: {why}"))
        }
        What::Read { name, answer: Err(Miss::Refused(why)) } => {
            Some(format!("{name} could not be read: {why}"))
        }
        _ => None,
    });
    refused.collect()
}

/// A database that is away is UNAVAILABLE, and nothing that a client should not see.
fn no_internal_errors(history: &[Record]) -> Vec<String> {
    let internal = history.iter().filter_map(|record| match record.missed()? {
        Miss::Lost(why) | Miss::Refused(why) if why.contains("the server's log") => {
            Some(format!("{} at {}: {why}", record.client, record.end))
        }
        _ => None,
    });
    internal.collect()
}

/// What was acknowledged, or seen by anybody, is there at the end.
fn acknowledged_tasks_stay(case: &Case<'_>) -> Vec<String> {
    let Some(seen) = case.records.iter().find_map(|record| record.seen()) else {
        return Vec::new();
    };
    if case.finals.is_empty() {
        return vec!["was acknowledged and is lost".to_owned()];
    }
    let other = case.finals.iter().find(|last| last.request != seen.request);
    other
        .map(|last| format!("was of {}, is of {}", seen.request, last.request))
        .into_iter()
        .collect()
}

/// Whichever replica is asked in the end.
fn replicas_agree(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some((first, others)) = case.finals.split_first() {
        for other in others.iter().filter(|other| other != &first) {
            wrong.push(format!("one replica has {first:?}, another {other:?}"));
        }
        if !first.ended {
            wrong.push(format!("has not ended: {first:?}"));
        }
    }
    wrong
}

/// A task ends once: nothing follows an end, and there are no two of them, unless it was
/// queued again by hand.
fn ends_are_ends(case: &Case<'_>) -> Vec<String> {
    if case.retried {
        return Vec::new();
    }
    let ends: BTreeSet<(i64, &str, &str)> = case
        .seen()
        .filter(|seen| seen.ended)
        .map(|seen| (seen.revision, seen.state, seen.digest.as_str()))
        .collect();
    let Some((revision, ..)) = ends.first() else { return Vec::new() };
    let mut wrong = Vec::new();
    if ends.len() > 1 {
        wrong.push(format!("has ended more than once: {ends:?}"));
    }
    let later = case.seen().filter(|seen| !seen.ended && seen.revision > *revision);
    wrong.extend(later.map(|seen| format!("goes on after its end at {revision}: {seen:?}")));
    wrong
}

/// How a task ended is what somebody wanted.
fn ends_have_a_cause(case: &Case<'_>) -> Vec<String> {
    let Some(last) = case.finals.first() else { return Vec::new() };
    let said = |how: How| {
        case.finishes().any(|(_, _, outcome, answer)| {
            outcome.how == how
                && !matches!(answer, Err(Miss::Refused(_)))
                && (how != How::Result || outcome.id == last.result)
        })
    };
    let good = match (case.sort(), last.state) {
        (_, "CANCELLED") => case.asked_for("CANCELLED"),
        ("external", state) => case.asked_for(state),
        ("demo", state) => state == "SUCCEEDED",
        // A lease that ended in each of its attempts fails it as well.
        ("fails", state) => state == "FAILED",
        ("work", "SUCCEEDED") => said(How::Result),
        ("work", "FAILED") => said(How::Permanent),
        _ => false,
    };
    if good { Vec::new() } else { vec![format!("nobody wanted this end: {last:?}")] }
}

/// Of all that was said under one token, one thing was taken.
fn one_outcome_a_lease(case: &Case<'_>) -> Vec<String> {
    let mut taken: HashMap<&str, Vec<&Outcome>> = HashMap::new();
    for (token, outcome) in case.accepted() {
        taken.entry(token).or_default().push(outcome);
    }
    let many = taken.into_iter().filter(|(_, outcomes)| outcomes.len() > 1);
    many.map(|(token, outcomes)| format!("lease {token} ended with each of {outcomes:?}")).collect()
}

/// An outcome that was taken is what stands.
fn accepted_outcomes_stand(case: &Case<'_>) -> Vec<String> {
    let Some(last) = case.finals.first() else { return Vec::new() };
    let mut wrong = Vec::new();
    let accepted = case.accepted();
    let ends = accepted.iter().filter(|(_, outcome)| match outcome.how {
        How::Result | How::Permanent | How::Cancelled => true,
        How::Error | How::Released => false,
    });
    if ends.clone().count() > 1 && !case.retried {
        wrong.push(format!("was ended more than once: {:?}", ends.clone().collect::<Vec<_>>()));
    }
    for (_, outcome) in ends {
        let stands = match outcome.how {
            How::Result => last.state == "SUCCEEDED" && last.result == outcome.id,
            How::Permanent => last.state == "FAILED" || case.retried,
            How::Cancelled => last.state == "CANCELLED" || case.retried,
            How::Error | How::Released => true,
        };
        if !stands {
            wrong.push(format!("{outcome:?} was taken, but {last:?} stands"));
        }
    }
    wrong
}

/// Under an old token nothing passes, and no lease ends before its time.
fn one_live_lease(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let leases = case.leases();
    for (at, (_, token, expires, _)) in leases.iter().enumerate() {
        // Granted later, and known to be: what begins after that is too late.
        let Some((next, next_token, ..)) =
            leases[at + 1..].iter().min_by_key(|(record, ..)| record.end)
        else {
            continue;
        };
        if token == next_token {
            wrong.push(format!("token {token} was given out twice"));
            continue;
        }
        let mut alive_until = *expires;
        for record in &case.records {
            if let What::Report { token: of, answer: Ok(told), .. } = &record.what
                && of == token
            {
                alive_until = alive_until.max(told.expires);
                if record.begin > next.end {
                    wrong.push(format!(
                        "{} reported under {token} when {next_token} was given out already",
                        record.client
                    ));
                }
            }
        }
        // The same outcome may be said again later.
        for (token, outcome) in case.accepted().iter().filter(|(of, _)| of == token) {
            let said = case.finishes().filter(|(_, of, what, _)| of == token && what == outcome);
            let first = said.map(|(record, ..)| record.begin).min();
            if first.is_some_and(|first| first > next.end) {
                wrong
                    .push(format!("{outcome:?} was taken when {next_token} was given out already"));
            }
        }
        let said = case.finishes().any(|(_, of, ..)| of == *token);
        let soonest = leases[at + 1..].iter().map(|(_, _, _, seen)| seen.start).min();
        if let Some(start) = soonest.filter(|start| !said && *start < alive_until) {
            wrong.push(format!(
                "lease {token} was to live until {alive_until}, and another began at {start}"
            ));
        }
    }
    let grow = leases.is_sorted_by(|(_, _, _, one), (_, _, _, next)| one.attempt <= next.attempt);
    if !grow {
        wrong.push("an attempt was counted back".to_owned());
    }
    wrong
}

/// As the server remembers its leases: one after the other, and one that ended it.
fn attempts_follow_one_another(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let attempts = case.attempts;
    for pair in attempts.windows(2) {
        if pair[0].end > pair[1].start || pair[0].attempt > pair[1].attempt {
            wrong.push(format!("{:?} is followed by {:?}", pair[0], pair[1]));
        }
    }
    let succeeded = attempts.iter().filter(|attempt| attempt.state == "SUCCEEDED").count();
    if succeeded > 1 {
        wrong.push(format!("succeeded in {succeeded} of its attempts"));
    }
    if let Some(open) = attempts.iter().find(|attempt| attempt.end == 0) {
        wrong.push(format!("has an attempt without an end: {open:?}"));
    }
    if let (Some(attempt), Some(task)) = (attempts.last(), case.finals.first())
        && task.state == "SUCCEEDED"
        && attempt.state != "SUCCEEDED"
    {
        wrong.push(format!("succeeded, and its last attempt is {attempt:?}"));
    }
    wrong
}

/// Revisions grow for each watcher, one revision is one state for all, and what was seen
/// once is not unseen by anybody who asks later.
fn revisions_grow(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut digests: HashMap<i64, &Seen> = HashMap::new();
    for seen in case.seen() {
        let other = digests.entry(seen.revision).or_insert(seen);
        if other.digest != seen.digest {
            wrong.push(format!("two states of one revision: {other:?} and {seen:?}"));
        }
    }
    let mut watches: HashMap<u64, i64> = HashMap::new();
    for record in &case.records {
        if let What::Saw { watch, seen, .. } = &record.what {
            let before = watches.insert(*watch, seen.revision).unwrap_or_default();
            if before > seen.revision {
                wrong.push(format!("watch {watch} went from {before} back to {}", seen.revision));
            }
        }
    }
    let mut known: Vec<(u64, i64)> = case
        .records
        .iter()
        .filter_map(|record| Some((record.end, record.seen()?.revision)))
        .collect();
    known.sort_unstable();
    for pair in 1..known.len() {
        known[pair].1 = known[pair].1.max(known[pair - 1].1);
    }
    for record in &case.records {
        let fresh = !matches!(record.what, What::Saw { first: false, .. });
        let Some(seen) = record.seen().filter(|_| fresh) else { continue };
        let before = known.partition_point(|(end, _)| *end < record.begin);
        let newest = before.checked_sub(1).map_or(0, |at| known[at].1);
        if seen.revision < newest {
            wrong.push(format!(
                "{} asked replica {} at {} and saw {}, when {newest} had been seen",
                record.client, record.server, record.begin, seen.revision
            ));
        }
    }
    let last = case.finals.first().map(|seen| seen.revision);
    let newest = known.last().map(|(_, revision)| *revision);
    if let (Some(last), Some(newest)) = (last, newest)
        && last < newest
    {
        wrong.push(format!("ends at revision {last}, when {newest} had been seen"));
    }
    wrong
}

/// Every watch ends with OK, after a terminal state, and that is the one that stands.
fn watches_reach_the_end(case: &Case<'_>) -> Vec<String> {
    let mut watches: BTreeMap<u64, (Option<&Seen>, Option<&Answer<()>>)> = BTreeMap::new();
    for record in &case.records {
        match &record.what {
            What::Watches { watch, .. } => drop(watches.entry(*watch).or_default()),
            What::Saw { watch, seen, .. } => watches.entry(*watch).or_default().0 = Some(seen),
            What::Over { watch, answer, .. } => watches.entry(*watch).or_default().1 = Some(answer),
            _ => {}
        }
    }
    let mut wrong = Vec::new();
    for (watch, (seen, over)) in watches {
        let stands =
            |seen: &Seen| case.retried || case.finals.iter().all(|last| last.digest == seen.digest);
        match (over, seen) {
            (Some(Ok(())), Some(seen)) if seen.ended && stands(seen) => {}
            _ => wrong.push(format!("watch {watch} is over with {over:?} after {seen:?}")),
        }
    }
    wrong
}

/// Of the updates that are guarded by one revision, one is taken.
fn guards_admit_one(case: &Case<'_>) -> Vec<String> {
    let mut taken: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for record in &case.records {
        if let What::Update { guard, answer: Ok(_), .. } = &record.what
            && *guard > 0
        {
            taken.entry(*guard).or_default().push(&record.client);
        }
    }
    let many = taken.into_iter().filter(|(_, clients)| clients.len() > 1);
    many.map(|(guard, clients)| format!("revision {guard} admitted each of {clients:?}")).collect()
}
