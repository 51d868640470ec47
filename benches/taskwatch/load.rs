//! The load: calls in flight over some connections, in rounds that alternate.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use crate::support::{Client, client, create};

pub(crate) const IN_FLIGHT: usize = 256;
const CONNECTIONS: usize = 4;
const ROUNDS: usize = 7;
pub(crate) const ROUND: Duration = Duration::from_secs(2);

/// Measures each of `N` in turn, round by round. The first round warms up.
pub(crate) async fn alternate<const N: usize>(
    mut measure: impl AsyncFnMut(usize) -> f64,
) -> [Vec<f64>; N] {
    let mut samples = [const { Vec::new() }; N];
    for round in 0..=ROUNDS {
        for (which, samples) in samples.iter_mut().enumerate() {
            let sample = measure(which).await;
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    samples
}

/// The same for times of single calls, of which there are many.
pub(crate) async fn alternate_calls<const N: usize>(
    calls: usize,
    mut measure: impl AsyncFnMut(usize) -> Duration,
) -> [Vec<f64>; N] {
    let mut samples = [const { Vec::new() }; N];
    for call in 0..calls + calls / 20 {
        for (which, samples) in samples.iter_mut().enumerate() {
            let sample = measure(which).await;
            if call >= calls / 20 {
                samples.push(sample.as_secs_f64() * 1e3);
            }
        }
    }
    samples
}

/// So many callers, each with one call at a time, for one round: what is done a second.
/// A call says how much it did.
pub(crate) async fn rate<F>(
    callers: usize,
    call: impl Fn(usize) -> F + Clone + Send + Sync + 'static,
) -> f64
where
    F: Future<Output = usize> + Send + 'static,
{
    let start = Instant::now();
    let mut set = JoinSet::new();
    for caller in 0..callers {
        let call = call.clone();
        set.spawn(async move {
            let mut done = 0;
            while start.elapsed() < ROUND {
                done += call(caller).await;
            }
            done
        });
    }
    let done: usize = set.join_all().await.iter().sum();
    done as f64 / start.elapsed().as_secs_f64()
}

/// Connections to one server.
pub(crate) fn connections(address: &str) -> Vec<Client> {
    (0..CONNECTIONS).map(|_| client(address)).collect()
}

/// Creates a second, 256 in flight.
pub(crate) async fn creates(clients: &[Client]) -> f64 {
    let clients = clients.to_vec();
    rate(IN_FLIGHT, move |caller| {
        let mut client = clients[caller % clients.len()].clone();
        async move {
            let request = create("external", serde_json::Value::Null);
            client.create_task(request).await.expect("created");
            1
        }
    })
    .await
}
