//! Creates a second of one, two and three replicas, beside what the database alone takes of
//! the same rows by the same statements.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use crate::{
    CONFIG, median,
    pgbench::{BATCH, Script},
    support::{Client, Server, create, postgres::Cluster},
};

const IN_FLIGHT: usize = 256;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

/// Creates a second by callers that take these clients in turn.
async fn creates(clients: &[Client]) -> f64 {
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..IN_FLIGHT {
        let mut client = clients[caller % clients.len()].clone();
        callers.spawn(async move {
            let mut done = 0_u32;
            while start.elapsed() < ROUND {
                let request = create("external", serde_json::Value::Null);
                client.create_task(request).await.expect("created");
                done += 1;
            }
            done
        });
    }
    let done: u32 = callers.join_all().await.iter().sum();
    f64::from(done) / start.elapsed().as_secs_f64()
}

pub(crate) async fn run() {
    let cluster = Cluster::with("-c shared_buffers=1GB");
    let script = Script::captured(&cluster).await;
    let database = cluster.database();
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::with(Some(database.clone()), Some(CONFIG)).await);
    }
    // Four connections each.
    let clients: Vec<Vec<Client>> =
        servers.iter().map(|server| (0..4).map(|_| server.client()).collect()).collect();
    let mut rates: [Vec<f64>; 6] = Default::default();
    for round in 0..=ROUNDS {
        for replicas in 1..=3 {
            let rate = creates(&clients[..replicas].concat()).await;
            if round > 0 {
                rates[replicas - 1].push(rate);
            }
        }
        for connections in 1..=3 {
            let run = || script.run(&database, connections, ROUND.as_secs());
            let rate = tokio::task::block_in_place(run) * BATCH as f64;
            if round > 0 {
                rates[2 + connections].push(rate);
            }
        }
    }
    println!("\nCreateTask, {IN_FLIGHT} in flight, PostgreSQL, durable, {ROUNDS} rounds\n");
    println!("{:<44} {:>10} {:>10} {:>10}", "tasks/s", "median", "lowest", "highest");
    for (what, rates) in [
        "one replica",
        "two replicas",
        "three replicas",
        "the database alone, one connection",
        "the database alone, two connections",
        "the database alone, three connections",
    ]
    .iter()
    .zip(&rates)
    {
        let low = rates.iter().copied().fold(f64::MAX, f64::min);
        let high = rates.iter().copied().fold(0.0, f64::max);
        println!("{what:<44} {:>10.0} {low:>10.0} {high:>10.0}", median(rates.clone()));
    }
    let best = rates[3..].iter().map(|rates| median(rates.clone())).fold(0.0, f64::max);
    for replicas in 1..=3 {
        let rate = median(rates[replicas - 1].clone());
        println!("ratio of {replicas} to the database alone at its best: {:.2}", rate / best);
    }
}
