//! A throw-away PostgreSQL: one server for each test process, one database for
//! each test. It needs PostgreSQL's programs, which `make test` installs; where
//! TASKWATCH_TEST_POSTGRES names a folder, it takes those in its `bin`.

use std::{
    env,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use sea_orm::{ConnectionTrait, Database, DbBackend, Statement, TryGetable};
use tempfile::TempDir;
use tokio::runtime;

/// A server of PostgreSQL and all its databases, gone with this process.
pub struct Cluster {
    port: u16,
    programs: PathBuf,
    data: PathBuf,
    databases: AtomicUsize,
    // The write end of the watchdog's pipe: it closes when this process ends,
    // however it does, since statics are never dropped.
    _lifeline: std::process::ChildStdin,
}

/// The URL of a fresh, empty database.
pub async fn database() -> String {
    tokio::task::spawn_blocking(|| {
        static SERVER: OnceLock<Cluster> = OnceLock::new();
        SERVER.get_or_init(Cluster::start).database()
    })
    .await
    .expect("a database")
}

impl Cluster {
    /// One of the test's own, which it may stop and restart.
    pub fn start() -> Self {
        Self::with("-c fsync=off")
    }

    /// With these options.
    pub fn with(options: &str) -> Self {
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
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} \
             -c max_connections=200 {options}",
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
        let databases = AtomicUsize::new(0);
        Self { port, programs, data, databases, _lifeline: lifeline }
    }

    /// The URL of a fresh, empty database.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let server = format!("postgres://postgres@127.0.0.1:{}", self.port);
        let (maintenance, sql) = (format!("{server}/postgres"), format!("CREATE DATABASE {name}"));
        let create = async move {
            let connection = Database::connect(maintenance).await.expect("connected");
            connection.execute_unprepared(&sql).await.expect("a database");
            connection.close().await.expect("closed");
        };
        // On a thread of its own, since the caller's may be one that must not wait.
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        thread::spawn(move || runtime.block_on(create)).join().expect("a database");
        format!("{server}/{name}")
    }

    /// Stops it, as a crash would, for good.
    pub fn stop(&self) {
        run(as_owner(&self.programs.join("pg_ctl"))
            .args(["stop", "-m", "immediate", "-D"])
            .arg(&self.data));
    }

    /// Stops it, as a crash would where `mode` is "immediate", and starts it again.
    pub fn restart(&self, mode: &str) {
        run(as_owner(&self.programs.join("pg_ctl"))
            .args(["restart", "-w", "-t", "60", "-m", mode, "-D"])
            .arg(&self.data)
            // In its own file: what is passed on to the server stays open with it.
            .args(["-l", "/dev/null"]));
    }
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

/// The programs of the version that is asked for, else of the newest one installed.
fn programs() -> PathBuf {
    if let Some(folder) = env::var_os("TASKWATCH_TEST_POSTGRES") {
        let bin = PathBuf::from(folder).join("bin");
        assert!(
            bin.join("initdb").exists(),
            "{}: no PostgreSQL: run `make versions`",
            bin.display()
        );
        return bin;
    }
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

/// What a query gives first.
pub async fn value<T: TryGetable>(database: &impl ConnectionTrait, sql: &str) -> T {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let row = database.query_one_raw(statement).await.expect(sql).expect("a row");
    row.try_get_by_index(0).expect(sql)
}
