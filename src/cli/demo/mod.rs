//! `taskwatch demo`: the real service in this process, three tasks through a real
//! connection to it, live bars, results, and the calls to try next.

mod copy;
mod external;
mod logs;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::PathBuf,
};

use futures_util::future::try_join_all;
use indicatif::MultiProgress;
use prost::Message;
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(super) use copy::{CopyArgs, copy};

use super::{
    exit::{Exit, Fault},
    explain, follow, out,
    service::{self, Stop},
    show::{Show, bars},
    text::ending,
};
use crate::{
    client::{Client, DEFAULT_SERVER},
    config::{Config, KindConfig, LogFormat, ProgramConfig, parse_database, parse_listen},
    domain::{EXTERNAL, LaneLimits, Name, Object},
    proto::{CreateTaskRequest, Task},
    telemetry,
};

/// The kind that copies the tree.
const COPY: &str = "copy";

/// Shows the service at work: three tasks with live progress.
///
/// Starts the service in this process and creates a built-in task, a program and a
/// task that is run from outside; shows their progress, then their results and calls
/// to try, and goes on serving until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch demo\n  \
    taskwatch demo --exit --database sqlite:///tmp/demo.db")]
pub(super) struct Args {
    /// Stop when the tasks have ended; the exit status is 0 if all SUCCEEDED.
    #[arg(long)]
    exit: bool,
    /// Where to listen; a free port where that one is taken.
    #[arg(long, env = "TASKWATCH_LISTEN", hide_env_values = true, value_name = "ADDRESS",
        default_value = "127.0.0.1:50051", value_parser = parse_listen)]
    listen: SocketAddr,
    /// Where tasks are kept.
    #[arg(long, env = "TASKWATCH_DATABASE", value_name = "URL", hide_env_values = true,
        default_value = "sqlite://taskwatch.db", value_parser = parse_database)]
    database: String,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let (mut stop, bars) = (Stop::new()?, bars());
    telemetry::start(LogFormat::Text, "warn", logs::beside(&bars)).map_err(Fault::usage)?;
    let config = config(&args)?;
    if config.listen != args.listen {
        out::say(format!("{} is taken: listening on a free port", args.listen));
    }
    let database = config.database.clone();
    let server = service::bind(config).await?;
    let address = reachable(server.local_addr());
    let stopping = CancellationToken::new();
    let serving = server.run(stopping.clone().cancelled_owned());
    tokio::pin!(serving);
    let shown = tokio::select! {
        shown = scene(&args, address, &database, &bars, &mut stop) => shown,
        // It ends by itself only where it cannot go on.
        ended = &mut serving => {
            let why = ended.err().map(|error| error.to_string());
            return Err(Fault::failed(why.unwrap_or_else(|| "the server stopped".to_owned())));
        }
    };
    stopping.cancel();
    tokio::select! {
        ended = &mut serving => ended.map_err(Fault::failed)?,
        () = stop.asked() => {}
    }
    shown
}

/// What is served: the defaults, and one program, which is this very binary.
fn config(args: &Args) -> Result<Config, Fault> {
    let this = std::env::current_exe()
        .map_err(|e| Fault::failed(format!("cannot find the program of the demo: {e}")))?;
    // A brace in the path is no placeholder.
    let this = this.display().to_string().replace('{', "{{").replace('}', "}}");
    let command = [&this, "demo-copy", "{input.from}", "{input.to}"].map(str::to_owned).to_vec();
    let defaults = Config::default();
    let program = ProgramConfig {
        command,
        env: Default::default(),
        pass_env: Vec::new(),
        working_dir: None,
        progress_pattern: None,
        stop_grace: defaults.runner.stop_grace,
    };
    let kind = KindConfig {
        defaults: defaults.retry,
        limits: LaneLimits::default(),
        program: Some(program),
    };
    let name = Name::new(COPY).ok_or_else(|| Fault::failed("the kind of the demo has no name"))?;
    Ok(Config {
        listen: free(args.listen),
        database: args.database.clone(),
        kinds: [(name, kind)].into(),
        ..defaults
    })
}

/// The address itself, or the same one with any free port where it is taken.
fn free(address: SocketAddr) -> SocketAddr {
    match TcpListener::bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => SocketAddr::new(address.ip(), 0),
        // Whatever else is wrong, the server says better.
        Ok(_) | Err(_) => address,
    }
}

/// Where a client finds what listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// The three tasks from their creation to their ends, and what to try then.
async fn scene(
    args: &Args,
    address: SocketAddr,
    database: &str,
    bars: &MultiProgress,
    stop: &mut Stop,
) -> Result<Exit, Fault> {
    let server = format!("http://{address}");
    let client = Client::connect(&server).map_err(Fault::failed)?;
    let refused = |status| explain::fault(&status, &server);
    out::line(format!("Serving on {address}, tasks in {database}.\n"))?;

    let tree =
        Tree::make().map_err(|e| Fault::failed(format!("cannot make files to copy: {e}")))?;
    let copied = json!({"from": tree.from(), "to": tree.to()});
    let demo = client.create(request("demo", &json!({}))).await.map_err(refused)?;
    let copy = client.create(request(COPY, &copied)).await.map_err(refused)?;
    let ledger = client.create(request(EXTERNAL, &json!({}))).await.map_err(refused)?;

    let follow_all = try_join_all([&demo, &copy, &ledger].map(|task| {
        let (client, server) = (&client, &server);
        let mut show = show(bars, &task.kind);
        async move { follow::follow(client, server, &task.name, &mut show).await }
    }));
    let play = async {
        let drive = async { external::drive(&client, &ledger.name).await.map_err(refused) };
        tokio::try_join!(follow_all, drive)
    };
    let ended = tokio::select! {
        played = play => Some(played?.0),
        () = stop.asked() => None,
    };
    let Some(ended) = ended else {
        out::say("stopping; the next start takes up what was running");
        external::give_up(&client, &ledger.name).await.map_err(refused)?;
        // The next start goes on with the copy: it needs its files.
        return Ok(Exit::Interrupted);
    };
    tree.remove();

    out::line("")?;
    ended.iter().try_for_each(|task| out::line(ending(task)))?;
    // As it was called, be it installed or not.
    let program = std::env::args_os().next().unwrap_or_else(|| "taskwatch".into());
    let whither = if args.exit {
        "Try, while it serves (without --exit it goes on):"
    } else {
        "Try, from another terminal:"
    };
    out::line(format!("\n{whither}\n{}", calls(&program.to_string_lossy(), address, &demo.name)))?;
    if !args.exit {
        out::line("\nServing until Ctrl-C.")?;
        stop.asked().await;
        return Ok(Exit::Done);
    }
    let all = ended.iter().all(|task| follow::exit(task) == Exit::Done);
    Ok(if all { Exit::Done } else { Exit::Failed })
}

fn request(kind: &str, input: &serde_json::Value) -> CreateTaskRequest {
    let input = input.as_object().filter(|object| !object.is_empty()).and_then(|object| {
        prost_types::Struct::decode(Object::from_json(object).encoded().clone()).ok()
    });
    let labels = [("from".to_owned(), "taskwatch-demo".to_owned())].into();
    let task = Task { kind: kind.to_owned(), input, labels, ..Task::default() };
    CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() }
}

fn show(bars: &MultiProgress, kind: &str) -> Show {
    let label = format!("{kind:<8}");
    if out::is_terminal() { Show::bar(bars, &label) } else { Show::lines(&label) }
}

/// Calls as they can be pasted.
fn calls(program: &str, address: SocketAddr, ended: &str) -> String {
    let call = |method: &str, request: &str| {
        format!("  grpcurl -plaintext -d '{request}' {address} taskwatch.v1.TaskService/{method}")
    };
    let server = match format!("http://{address}") {
        server if server == DEFAULT_SERVER => String::new(),
        server => format!(" --server {server}"),
    };
    [
        format!("  {program} create demo --watch{server}"),
        call(
            "CreateTask",
            r#"{"task": {"kind": "demo", "input": {"steps": 100}}, "task_id": "mine"}"#,
        ),
        call("WatchTask", r#"{"name": "tasks/mine"}"#),
        call("UpdateTask", r#"{"task": {"name": "tasks/mine", "state": "CANCELLED"}}"#),
        call("GetTask", &format!(r#"{{"name": "{ended}"}}"#)),
        call("ListTasks", r#"{"filter": "state = SUCCEEDED", "page_size": 5}"#),
    ]
    .join("\n")
}

/// The files that are copied, in a directory of their own among the temporary ones.
struct Tree(PathBuf);

impl Tree {
    fn make() -> io::Result<Self> {
        let root = std::env::temp_dir().join(format!("taskwatch-demo-{}", uuid::Uuid::now_v7()));
        copy::make_tree(&root.join("from"), 8, 15, 32 << 10)?;
        Ok(Self(root))
    }

    fn from(&self) -> String {
        self.0.join("from").display().to_string()
    }

    fn to(&self) -> String {
        self.0.join("to").display().to_string()
    }

    fn remove(self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the demo's files");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_name_the_port_that_it_has() {
        let shown = calls("taskwatch", SocketAddr::from(([127, 0, 0, 1], 4321)), "tasks/a");
        assert!(shown.contains("create demo --watch --server http://127.0.0.1:4321\n"), "{shown}");
        assert!(shown.ends_with(
            r#"-d '{"filter": "state = SUCCEEDED", "page_size": 5}' 127.0.0.1:4321 taskwatch.v1.TaskService/ListTasks"#
        ));
        let shown = calls("taskwatch", SocketAddr::from(([127, 0, 0, 1], 50051)), "tasks/a");
        assert!(shown.contains("create demo --watch\n"), "{shown}");
    }

    #[test]
    fn a_port_that_is_taken_gives_way_to_a_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("its address");
        assert_eq!(free(address), SocketAddr::new(address.ip(), 0));
        drop(taken);
        assert_eq!(free(address), address);
        let any = SocketAddr::from(([0, 0, 0, 0], 1));
        assert_eq!(reachable(any), SocketAddr::from(([127, 0, 0, 1], 1)));
    }
}
