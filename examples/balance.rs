//! Creates tasks at all replicas and follows each to its end, whichever replica dies or
//! drains meanwhile; prints their names and states.
//!
//! ```text
//! cargo run --example balance -- --address 127.0.0.1:50051,127.0.0.1:50052 demo
//! ```
//!
//! tonic balances, but neither leaves a replica that is gone nor asks again: here a watch of
//! each one's health does the first, and `follow` the second.

use std::{collections::HashSet, error::Error, net::SocketAddr, time::Duration};

use clap::Parser;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::Struct;
use taskwatch::proto::{
    CreateTaskRequest, DESCRIPTORS, Task, WatchTaskRequest, task_service_client::TaskServiceClient,
};
use tokio::{
    net::lookup_host,
    sync::mpsc::Sender,
    task::{JoinError, JoinSet},
    time::sleep,
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint, channel::Change},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

type Changes = Sender<Change<SocketAddr, Endpoint>>;
type Client = TaskServiceClient<Channel>;

/// Looks the names up every second, since replicas come and go, and keeps each address that
/// they have.
async fn replicas(names: Vec<String>, changes: Changes) {
    let (mut known, mut kept) = (HashSet::new(), JoinSet::new());
    loop {
        for name in &names {
            for address in lookup_host(name).await.into_iter().flatten() {
                if known.insert(address) {
                    kept.spawn(keep(address, changes.clone()));
                }
            }
        }
        sleep(Duration::from_secs(1)).await;
        while let Some(gone) = kept.try_join_next() {
            known.remove(&gone.expect("nothing in it panics"));
        }
    }
}

/// Balances over this address while its health says that it serves.
async fn keep(address: SocketAddr, changes: Changes) -> SocketAddr {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_while_idle(true);
    let watch = async |endpoint: &Endpoint| -> Result<(), Box<dyn Error>> {
        let mut health = HealthClient::new(endpoint.connect().await?);
        let mut states = health.watch(HealthCheckRequest::default()).await?.into_inner();
        while let Some(state) = states.message().await? {
            let serves = state.status() == ServingStatus::Serving;
            let insert = || Change::Insert(address, endpoint.clone());
            changes.send(if serves { insert() } else { Change::Remove(address) }).await?;
        }
        Ok(())
    };
    if let Err(error) = watch(&endpoint).await {
        eprintln!("{address}: {error}");
    }
    changes.send(Change::Remove(address)).await.expect("the channel lives as long");
    address
}

/// Asking again helps where it was the connection or the replica that failed.
fn can_heal(status: &Status) -> bool {
    // A connection that breaks under a call is tonic's UNKNOWN.
    [Code::Unavailable, Code::Unknown, Code::DeadlineExceeded, Code::Cancelled]
        .contains(&status.code())
}

/// Creates a task and watches it to its end. The same request goes out again, which creates
/// once since it has an id; a watch that is cut goes on from the last revision seen.
async fn follow(mut client: Client, task: Task) -> Result<Task, Status> {
    let request_id = uuid::Uuid::now_v7().to_string();
    let create = CreateTaskRequest { task: Some(task), request_id, ..Default::default() };
    let mut task = loop {
        let mut request = Request::new(create.clone());
        request.set_timeout(Duration::from_secs(10));
        match client.create_task(request).await {
            Ok(task) => break task.into_inner(),
            Err(status) if can_heal(&status) => sleep(Duration::from_millis(100)).await,
            Err(status) => return Err(status),
        }
    };
    while task.end_time.is_none() {
        match watch(&mut client, &mut task).await {
            Ok(()) => {}
            Err(status) if can_heal(&status) => {
                eprintln!("{}: cut at revision {}: {status}", task.name, task.revision);
                sleep(Duration::from_millis(100)).await;
            }
            Err(status) => return Err(status),
        }
    }
    Ok(task)
}

async fn watch(client: &mut Client, task: &mut Task) -> Result<(), Status> {
    let (name, after_revision) = (task.name.clone(), task.revision);
    let request = WatchTaskRequest { name, after_revision, ..Default::default() };
    let mut frames = client.watch_task(request).await?.into_inner();
    while let Some(frame) = frames.message().await? {
        let event = frame.event().map_err(|error| Status::internal(error.to_string()))?;
        *task = event.task.unwrap_or_default();
    }
    Ok(())
}

#[derive(Parser)]
struct Args {
    /// HOST:PORT,HOST:PORT; a host that has several addresses stands for all of them.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:50051")]
    address: Vec<String>,
    #[arg(long, default_value_t = 30)]
    tasks: usize,
    #[arg(long, default_value_t = 10)]
    at_once: usize,
    kind: String,
    /// A JSON object.
    #[arg(default_value = "{}")]
    input: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let pool = DescriptorPool::decode(DESCRIPTORS)?;
    let object = pool.get_message_by_name("google.protobuf.Struct").ok_or("no such message")?;
    let mut json = serde_json::Deserializer::from_str(&args.input);
    let input: Struct = DynamicMessage::deserialize(object, &mut json)?.transcode_to()?;
    let task = Task { kind: args.kind, input: Some(input), ..Default::default() };

    let (channel, changes) = Channel::balance_channel(64);
    let keeps = tokio::spawn(replicas(args.address, changes));
    let (client, mut running) = (TaskServiceClient::new(channel), JoinSet::new());
    for _ in 0..args.tasks {
        if running.len() == args.at_once {
            show(running.join_next().await)?;
        }
        running.spawn(follow(client.clone(), task.clone()));
    }
    while !running.is_empty() {
        show(running.join_next().await)?;
    }
    keeps.abort();
    Ok(())
}

fn show(ended: Option<Result<Result<Task, Status>, JoinError>>) -> Result<(), Box<dyn Error>> {
    if let Some(task) = ended.transpose()?.transpose()? {
        println!("{} {}", task.name, task.state().as_str_name());
    }
    Ok(())
}
