//! Remote workers: most do their work, some hold a task for too long, some vanish, some
//! say two outcomes of one lease at once.

use std::time::Duration;

use prost_types::{Value, value::Kind};
use rand::RngExt;
use taskwatch::proto::{
    FinishTasksRequest, Lease, LeaseTasksRequest, Progress, ReportTasksRequest,
    finish_tasks_request::{self, outcome},
    report_tasks_request::Report,
    task::State,
};
use tokio::{join, time::sleep};

use super::{
    super::history::{Answer, How, Miss, Outcome, Seen, Told, What, micros, state},
    Caller, PAUSE, ask, ask_within, timed, within,
};

pub(super) const WORKERS: usize = 4;

const LEASE: prost_types::Duration = prost_types::Duration { seconds: 2, nanos: 0 };

/// Until all is done.
pub(super) async fn work(mut caller: Caller) {
    let done = caller.load.done.clone();
    while !done.is_cancelled() {
        for lease in lease(&mut caller).await {
            let doing = run(caller.load.caller("worker"), lease);
            caller.load.following.spawn(doing);
        }
    }
}

async fn lease(caller: &mut Caller) -> Vec<Lease> {
    let (server, begin) = (caller.any(), caller.load.history.now());
    let wait = Duration::from_secs(2);
    let request = LeaseTasksRequest {
        worker: caller.name.clone(),
        kinds: vec!["work".to_owned()],
        max_tasks: caller.random.random_range(1..4),
        lease_duration: Some(LEASE),
        wait: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
        ..Default::default()
    };
    let call = wait + Duration::from_secs(4);
    let mut workers = caller.workers(server);
    let answer = ask_within(workers.lease_tasks(within(request, call)), call).await;
    let Ok(answer) = answer else {
        sleep(PAUSE).await;
        return Vec::new();
    };
    for lease in &answer.leases {
        let seen = Seen::from(lease.task.as_ref().expect("a task"));
        let (token, expires) = (lease.lease_token.clone(), micros(lease.expire_time));
        caller.add(server, begin, What::Leased { token, expires, seen });
    }
    answer.leases
}

/// One task under its lease.
async fn run(mut caller: Caller, lease: Lease) {
    let task = lease.task.expect("a task");
    let (name, token) = (task.name, lease.lease_token);
    let how = caller.random.random_range(0..100);
    for step in 0..caller.random.random_range(0..8) {
        caller.pause(50..400).await;
        match report(&mut caller, &name, &token, step).await {
            Ok(State::Cancelling) => {
                finish(&mut caller, &name, &token, How::Cancelled).await;
                return;
            }
            Ok(_) | Err(Miss::Lost(_)) => {}
            // It has been taken over, and says what it has done all the same.
            Err(Miss::Refused(_)) => break,
        }
    }
    match how {
        // Vanishes.
        0..8 => {}
        // Comes late.
        8..20 => {
            caller.pause(2_500..14_000).await;
            finish(&mut caller, &name, &token, How::Result).await;
        }
        // Says two things at once.
        20..30 => {
            let mut other = caller.load.caller("worker");
            join!(
                finish(&mut caller, &name, &token, How::Result),
                finish(&mut other, &name, &token, How::Permanent)
            );
        }
        30..45 => finish(&mut caller, &name, &token, How::Error).await,
        45..50 => finish(&mut caller, &name, &token, How::Permanent).await,
        50..60 => finish(&mut caller, &name, &token, How::Released).await,
        _ => finish(&mut caller, &name, &token, How::Result).await,
    }
}

async fn report(caller: &mut Caller, name: &str, token: &str, step: i64) -> Answer<State> {
    let (server, begin) = (caller.any(), caller.load.history.now());
    let progress = (!caller.chance(20)).then(|| Progress {
        completed_units: step,
        total_units: 8,
        message: caller.name.clone(),
        ..Default::default()
    });
    let report = Report {
        name: name.to_owned(),
        lease_token: token.to_owned(),
        progress,
        ..Default::default()
    };
    let request = timed(ReportTasksRequest { reports: vec![report] });
    let answer = ask(caller.workers(server).report_tasks(request)).await;
    let answer = answer.and_then(|mut answer| {
        let answer = answer.answers.pop().expect("an answer");
        match answer.error {
            Some(error) => Err(missed(&error)),
            None => Ok(answer),
        }
    });
    let told = answer.as_ref().map_err(Clone::clone).map(|answer| Told {
        wanted: state(answer.wanted_state),
        expires: micros(answer.lease_expire_time),
    });
    let (name, token) = (name.to_owned(), token.to_owned());
    caller.add(server, begin, What::Report { name, token, answer: told });
    answer.map(|answer| answer.wanted_state())
}

/// Says the same until it is answered.
async fn finish(caller: &mut Caller, name: &str, token: &str, how: How) {
    let id = format!("{} {:016x}", caller.name, caller.random.random::<u64>());
    let said = match how {
        How::Result => {
            outcome::Outcome::Result(Value { kind: Some(Kind::StringValue(id.clone())) })
        }
        How::Permanent | How::Error => outcome::Outcome::Error(tonic_types::Status {
            code: 13,
            message: id.clone(),
            details: Vec::new(),
        }),
        How::Cancelled => outcome::Outcome::Cancelled(true),
        How::Released => outcome::Outcome::Released(true),
    };
    let said = finish_tasks_request::Outcome {
        name: name.to_owned(),
        lease_token: token.to_owned(),
        outcome: Some(said),
        permanent: how == How::Permanent,
        ..Default::default()
    };
    loop {
        let (server, begin) = (caller.any(), caller.load.history.now());
        let request = timed(FinishTasksRequest { outcomes: vec![said.clone()] });
        let answer = ask(caller.workers(server).finish_tasks(request)).await;
        let answer = answer.and_then(|mut answer| {
            let status = answer.statuses.pop().expect("a status");
            if status.code == 0 { Ok(()) } else { Err(missed(&status)) }
        });
        let again = matches!(answer, Err(Miss::Lost(_)));
        let (name, token) = (name.to_owned(), token.to_owned());
        let outcome = Outcome { id: id.clone(), how };
        caller.add(server, begin, What::Finish { name, token, outcome, answer });
        if !again {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// A refusal within an answer.
fn missed(status: &tonic_types::Status) -> Miss {
    Miss::from(&tonic::Status::new(status.code.into(), status.message.clone()))
}
