//! Creates a second of one, two and three replicas, beside what the database alone takes of
//! the same rows by the same statements.

use crate::{
    CONFIG,
    load::{ROUND, alternate, connections, creates},
    pgbench::{BATCH, Script},
    report::{Figure, Goal},
    support::{Client, Server, postgres::Cluster},
};

pub(crate) async fn run() -> Vec<Figure> {
    let cluster = Cluster::with("-c shared_buffers=1GB -c max_wal_size=4GB");
    let script = Script::captured(&cluster).await;
    let database = cluster.database();
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::with(Some(database.clone()), Some(CONFIG)).await);
    }
    let clients: Vec<Vec<Client>> =
        servers.iter().map(|server| connections(&server.address)).collect();
    let rates: [Vec<f64>; 6] = alternate(async |which| {
        if which < 3 {
            return creates(&clients[..=which].concat()).await;
        }
        let run = || script.run(&database, which - 2, ROUND.as_secs());
        tokio::task::block_in_place(run) * BATCH as f64
    })
    .await;
    let [one, two, three, alone, pair, triple] = rates;
    [(1, one, alone), (2, two, pair), (3, three, triple)]
        .into_iter()
        .map(|(replicas, ours, baseline)| Figure {
            key: format!("replicas-create-{replicas}"),
            what: format!("CreateTask, 256 in flight, PostgreSQL, replicas: {replicas}"),
            unit: "tasks/s",
            ours,
            against: "the same statements from pgbench, as many connections",
            baseline,
            goal: Goal::None,
        })
        .collect()
}
