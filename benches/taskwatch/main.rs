//! What `make bench` measures. The real binary and each baseline are processes of their
//! own, and so is the load generator, which is this program. Each figure stands beside its
//! baseline from the same run, in alternating rounds, since machines are shared and noisy:
//! the ratios count. `cargo bench -- NAME…` runs some of them; `-- list` names them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_precision_loss, missing_docs)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod baseline;
mod calls;
mod instructions;
mod load;
mod memory;
mod pgbench;
mod replicas;
mod report;
mod rows;
mod watches;

use std::{
    future::Future,
    io::Write,
    panic,
    pin::Pin,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use report::{Figure, Report};
use tokio::signal::unix::{SignalKind, signal};

/// Nothing runs in the servers themselves.
const CONFIG: &str = "[runner]\nconcurrency = 0\n[kinds]\naccept_unknown = true\n";

/// The same for the baselines and the load as for the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Run = Pin<Box<dyn Future<Output = Vec<Figure>>>>;

/// Every benchmark, by the name that asks for it. Nothing happens until one is awaited.
fn all() -> Vec<(&'static str, Run)> {
    vec![
        ("create", Box::pin(calls::measure_create())),
        ("create-postgres", Box::pin(calls::measure_create_postgres())),
        ("latency", Box::pin(calls::measure_latency())),
        ("handoff", Box::pin(calls::measure_handoff())),
        ("batch", Box::pin(calls::measure_batch())),
        ("get", Box::pin(calls::measure_get())),
        ("life", Box::pin(calls::measure_life())),
        ("fanout", Box::pin(watches::fanout())),
        ("age", Box::pin(watches::age())),
        ("overload", Box::pin(watches::overload())),
        ("reports", Box::pin(watches::reports())),
        ("memory", Box::pin(memory::run())),
        ("rows", Box::pin(rows::kept())),
        ("start", Box::pin(rows::start())),
        ("replicas-news", Box::pin(replicas::news::run())),
        ("replicas-create", Box::pin(replicas::throughput::run())),
        ("replicas-rows", Box::pin(replicas::age::run())),
        ("instructions", Box::pin(instructions::run())),
    ]
}

fn main() {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = words.filter(|word| word != "--bench").collect();
    // What it starts itself.
    if let [mode, rounds] = &words[..]
        && mode.starts_with("count-")
        && let Ok(rounds) = rounds.parse()
    {
        return instructions::count(mode, rounds);
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if words.len() == 1 && baseline::MODES.contains(&&*words[0]) {
            return baseline::serve(&words[0]).await;
        }
        let known: Vec<&str> = all().iter().map(|(name, _)| *name).collect();
        if words.iter().any(|word| word == "list") {
            return report::say(&known.join("\n"));
        }
        if let Some(word) = words.iter().find(|word| !known.contains(&word.as_str())) {
            eprintln!("{word}: no such benchmark; there are {}", known.join(", "));
            std::process::exit(2);
        }
        keep_quiet_when_stopped();
        let mut terminated = signal(SignalKind::terminate()).expect("it can be heard");
        tokio::select! {
            () = measure(&words) => {}
            // What was started has ended by now, with what held it.
            _ = tokio::signal::ctrl_c() => std::process::exit(130),
            _ = terminated.recv() => std::process::exit(143),
        }
    });
}

/// Ctrl-C is told to the servers too, so that calls fail before this program has ended.
fn keep_quiet_when_stopped() {
    let (stopped, tell) = (Arc::new(AtomicBool::new(false)), panic::take_hook());
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stopped))
        .expect("it can be heard");
    panic::set_hook(Box::new(move |panicked| {
        if !stopped.load(Ordering::Relaxed) {
            tell(panicked);
        }
    }));
}

/// Uses memory for a file and gives it back, so that files that grow find pages that were used
/// before, as on a machine that has run for a while: a virtual one is given its memory page by
/// page as it is touched first, which takes ten times as long as all that a service does with
/// the page, and would count against whoever stores something. Then lets what is still to be
/// written, by a build or a benchmark before, come to the disk.
fn settle() {
    static CHUNK: [u8; 1 << 20] = [1; 1 << 20];
    let mut file = tempfile::tempfile().expect("a file");
    for _ in 0..2 << 10 {
        file.write_all(&CHUNK).expect("room for 2 GiB in the folder for temporary files");
    }
    drop(file);
    let synced = Command::new("sync").status().expect("sync is there");
    assert!(synced.success(), "sync: {synced}");
}

async fn measure(words: &[String]) {
    let mut report = Report::new();
    for (name, run) in all() {
        if words.is_empty() || words.iter().any(|word| word == name) {
            eprintln!("measuring {name}");
            settle();
            report.add(run.await);
        }
    }
    report::say(&format!("\nThe figures and a plot of each are in {}", report::folder().display()));
    if report.has_grown {
        eprintln!("a hot path takes more instructions than it did: see above");
        std::process::exit(1);
    }
}
