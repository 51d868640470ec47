//! A throw-away PostgreSQL: one server for each test process, one database for
//! each test. It needs PostgreSQL's programs, which `make test` installs.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;

struct Postgres {
    port: u16,
    programs: PathBuf,
    // The write end of the watchdog's pipe: it closes when this process ends,
    // however it does, since statics are never dropped.
    _lifeline: std::process::ChildStdin,
}

/// The URL of a fresh, empty database.
pub async fn database() -> String {
    tokio::task::spawn_blocking(|| {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let server = SERVER.get_or_init(start);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let port = server.port.to_string();
        run(as_owner(&server.programs.join("createdb")).args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            &name,
        ]));
        format!("postgres://postgres@127.0.0.1:{port}/{name}")
    })
    .await
    .expect("a database")
}

fn start() -> Postgres {
    let programs = programs();
    let folder = TempDir::new().expect("a directory").keep();
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").arg("postgres").arg(&folder));
    }
    let data = folder.join("data");
    run(as_owner(&programs.join("initdb"))
        .args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "-D"])
        .arg(&data));
    // Nobody else gets this port in the moment before the server binds it, since
    // the system hands out its free ports in turn.
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let options = format!(
        "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off \
         -c max_connections=200",
        folder.display()
    );
    run(as_owner(&programs.join("pg_ctl"))
        .args(["start", "-w", "-t", "60", "-D"])
        .arg(&data)
        .arg("-l")
        .arg(folder.join("log"))
        .arg("-o")
        .arg(options));
    let mut watchdog = as_owner(Path::new("/bin/sh"))
        .args([
            "-c",
            // Ctrl-C is for the tests; the watchdog acts when their pipe closes.
            r#"trap "" INT TERM; cat >/dev/null; "$0" stop -m immediate -D "$1" >/dev/null 2>&1; rm -rf "$2""#,
        ])
        .arg(programs.join("pg_ctl"))
        .args([&data, &folder])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a watchdog");
    let lifeline = watchdog.stdin.take().expect("a pipe");
    Postgres { port, programs, _lifeline: lifeline }
}

/// PostgreSQL refuses to run as root.
fn as_owner(program: &Path) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// The newest installed version's programs.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is not installed: run `make postgres`, or `make test`")
}

fn run(command: &mut Command) {
    // No pipe for its output: the server that pg_ctl starts would hold it open.
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it starts");
    assert!(status.success(), "{command:?}: {status}");
}
