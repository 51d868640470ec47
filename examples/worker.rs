//! A worker in a process of its own: leases tasks of one kind, reports, saves, pauses,
//! stops, and gives back what it has not done when it is told to end.
//!
//! ```text
//! cargo run --example worker -- http://127.0.0.1:50051 count
//! taskwatch create count --input '{"steps": 100, "step_ms": 100}' --watch
//! ```

use std::{env, error::Error, time::Duration};

use prost_types::{Struct, Value, value::Kind};
use taskwatch::proto::{
    FinishTasksRequest, Lease, LeaseTasksRequest, Progress, ReportTasksRequest,
    finish_tasks_request::{self, outcome::Outcome},
    report_tasks_request::Report,
    task::State,
    worker_service_client::WorkerServiceClient,
};
use tokio::{
    signal,
    time::{sleep, timeout},
};
use tonic::{Status, transport::Channel};

type Client = WorkerServiceClient<Channel>;
/// It has to report within this time, or the task is another worker's.
const LEASE: prost_types::Duration = prost_types::Duration { seconds: 2, nanos: 0 };

fn number(of: Option<&Struct>, key: &str) -> Option<f64> {
    match of?.fields.get(key)?.kind {
        Some(Kind::NumberValue(number)) => Some(number),
        _ => None,
    }
}

fn object(key: &str, number: f64) -> Struct {
    Struct { fields: [(key.to_owned(), Value { kind: Some(Kind::NumberValue(number)) })].into() }
}

/// Counts from the checkpoint on; `None` where the lease was lost.
async fn count(client: &mut Client, lease: &Lease) -> Result<Option<Outcome>, Status> {
    let task = lease.task.clone().unwrap_or_default();
    let steps = number(task.input.as_ref(), "steps").unwrap_or(10.0);
    let pause = Duration::from_millis(number(task.input.as_ref(), "step_ms").unwrap_or(0.0) as u64);
    let mut step = number(task.checkpoint.as_ref(), "step").unwrap_or(0.0);
    while step < steps {
        sleep(pause).await;
        step += 1.0;
        loop {
            let report = Report {
                name: task.name.clone(),
                lease_token: lease.lease_token.clone(),
                progress: Some(Progress {
                    percent: Some(step / steps * 100.0),
                    ..Default::default()
                }),
                checkpoint: Some(object("step", step)),
            };
            let request = ReportTasksRequest { reports: vec![report] };
            let answer = client.report_tasks(request).await?.into_inner().answers.remove(0);
            let wanted = answer.wanted_state();
            if answer.error.is_some() {
                return Ok(None);
            } else if wanted == State::Cancelling {
                return Ok(Some(Outcome::Cancelled(true)));
            } else if wanted != State::Paused {
                break;
            }
            // Held back, it only keeps its lease.
            sleep(Duration::from_millis(500)).await;
        }
    }
    let result = Kind::StructValue(object("steps", steps));
    Ok(Some(Outcome::Result(Value { kind: Some(result) })))
}

async fn work(client: &mut Client, kind: &str) -> Result<(), Status> {
    let request = LeaseTasksRequest {
        worker: format!("count-{}", std::process::id()),
        kinds: vec![kind.to_owned()],
        lease_duration: Some(LEASE),
        wait: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        ..Default::default()
    };
    for lease in client.lease_tasks(request).await?.into_inner().leases {
        let outcome = tokio::select! {
            outcome = count(client, &lease) => outcome?,
            _ = signal::ctrl_c() => Some(Outcome::Released(true)),
        };
        let released = matches!(outcome, Some(Outcome::Released(_)));
        if let Some(outcome) = outcome {
            let outcome = finish_tasks_request::Outcome {
                name: lease.task.unwrap_or_default().name,
                lease_token: lease.lease_token,
                outcome: Some(outcome),
                ..Default::default()
            };
            client.finish_tasks(FinishTasksRequest { outcomes: vec![outcome] }).await?;
        }
        if released {
            std::process::exit(0);
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let server = arguments.next().unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let kind = arguments.next().unwrap_or_else(|| "count".to_owned());
    let mut client = WorkerServiceClient::new(Channel::from_shared(server)?.connect_lazy());
    loop {
        // The server may be away for a while; what it acknowledged stands.
        let asked = timeout(Duration::from_secs(60), work(&mut client, &kind)).await;
        if let Ok(Err(status)) = asked {
            eprintln!("{}: {}", status.code(), status.message());
            sleep(Duration::from_secs(1)).await;
        }
    }
}
