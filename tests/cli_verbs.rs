//! Every verb of the command line on a real server, as a script uses it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    fs,
    io::Write,
    process::{Output, Stdio},
};

use serde_json::Value;
use support::{Server, taskwatch};

/// One command line after another, on one server.
struct Shell {
    server: Server,
}

/// What a command did.
struct Ran {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Shell {
    async fn start() -> Self {
        Self { server: Server::start().await }
    }

    /// Runs a line; words are separated by spaces, but inside `'…'`.
    async fn run(&self, line: &str) -> Ran {
        self.fed(line, "").await
    }

    async fn fed(&self, line: &str, stdin: &str) -> Ran {
        let mut command = taskwatch();
        command.args(words(line)).env("TASKWATCH_SERVER", self.server.url());
        command.env("TASKWATCH_CONTEXTS", self.server.folder().join("contexts.toml"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let stdin = stdin.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("it starts");
            child.stdin.take().expect("piped").write_all(stdin.as_bytes()).expect("written");
            child.wait_with_output().expect("it ends")
        });
        let Output { status, stdout, stderr } = output.await.expect("it ran");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ran { status: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// Runs a line that must succeed; gives what it printed.
    async fn out(&self, line: &str) -> String {
        let ran = self.run(line).await;
        assert_eq!(ran.status, Some(0), "{line}: {}{}", ran.out, ran.err);
        ran.out
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.out(&format!("{line} --json")).await).expect("JSON")
    }
}

fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    parts
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

const LONG: &str = r#"'{"steps": 1000, "step_seconds": 0.05}'"#;
const SHORT: &str = r#"'{"steps": 2, "step_seconds": 0.02}'"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_beginning_of_a_name_is_enough_where_it_is_unique() {
    let shell = Shell::start().await;
    for id in ["report-7", "report-8", "nightly", "night"] {
        shell.out(&format!("create external --id {id}")).await;
    }
    assert_eq!(shell.json("get nightl").await["name"], "tasks/nightly");
    assert_eq!(shell.json("get tasks/nightl").await["name"], "tasks/nightly");
    assert_eq!(shell.json("get night").await["name"], "tasks/night", "a whole name is itself");
    let ran = shell.run("get report").await;
    assert_eq!((ran.status, &*ran.out), (Some(2), ""));
    assert!(
        ran.err.contains("tasks/report-7") && ran.err.contains("tasks/report-8"),
        "{}",
        ran.err
    );
    let ran = shell.run("get none").await;
    assert_eq!(ran.status, Some(1));
    assert!(ran.err.contains("tasks/none not found"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_changed_by_verbs() {
    let shell = Shell::start().await;
    shell.out(&format!("create demo --id a --input {LONG}")).await;
    shell.out(&format!("create demo --id b --schedule +1h --input {SHORT}")).await;
    assert_eq!(shell.out("pause a b").await, "tasks/a PAUSED\ntasks/b PAUSED\n");
    assert_eq!(shell.out("resume b").await, "tasks/b QUEUED\n");
    assert!(shell.out("resume --filter 'kind = \"demo\"' -o name").await == "tasks/a\n");
    assert_eq!(shell.out("cancel b -o name").await, "tasks/b\n");
    let ran = shell.run("cancel a missing b").await;
    assert_eq!(ran.status, Some(1), "the names are looked up first: {}", ran.err);
    assert!(ran.err.contains("tasks/missing not found"), "{}", ran.err);
    // What is refused for one spoils none of the others.
    let ran = shell.run("retry a b").await;
    assert_eq!((ran.status, &*ran.out), (Some(1), "tasks/b QUEUED\n"));
    assert!(ran.err.contains("tasks/a is RUNNING"), "{}", ran.err);
    shell.out("cancel a b").await;
    assert_eq!(shell.run("wait a b").await.status, Some(3));
    let attempts = shell.json("attempts a").await;
    assert_eq!((&attempts["attempt"], &attempts["endState"]), (&1.into(), &"CANCELLED".into()));
    // Nobody is there to be asked.
    let ran = shell.run("delete --filter 'kind = \"demo\"'").await;
    assert_eq!((ran.status, &*ran.out), (Some(2), ""));
    assert!(ran.err.contains("2 tasks") && ran.err.contains("--yes"), "{}", ran.err);
    let mut gone: Vec<String> = shell
        .out("delete --yes --filter 'kind = \"demo\"'")
        .await
        .lines()
        .map(Into::into)
        .collect();
    gone.sort();
    assert_eq!(gone, ["tasks/a deleted", "tasks/b deleted"]);
    assert_eq!(shell.run("delete a").await.status, Some(1));
    assert_eq!(shell.run("delete a --allow-missing").await.status, Some(0));
    assert_eq!(shell.run("list").await.err, "no tasks\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_runs_an_external_task() {
    let shell = Shell::start().await;
    shell.out("create external --id backup --label env=test --label hot=1").await;
    shell.out("update backup --state running --completed 3 --total 12 --unit files").await;
    shell.out("update backup --message 'copying /var' --completed 6").await;
    let task = shell.json("get backup").await;
    assert_eq!(task["state"], "RUNNING");
    assert_eq!(task["progress"]["percent"], 50);
    assert_eq!(task["progress"]["message"], "copying /var");
    shell.out("update backup --set-label env=prod --remove-label hot --priority -3").await;
    let task = shell.json("get backup").await;
    assert_eq!(task["labels"], serde_json::json!({"env": "prod"}));
    assert_eq!(task["priority"], -3);
    let ran = shell.fed("update backup --state succeeded --result -", "{\"files\": 12}").await;
    assert_eq!((ran.status, &*ran.out), (Some(0), "tasks/backup SUCCEEDED\n"), "{}", ran.err);
    assert_eq!(shell.json("wait backup").await["result"]["files"], 12);

    shell.out("create external --id other").await;
    shell.out("update other --state running").await;
    shell.out("update other --state failed --error 'the disk is full'").await;
    let ran = shell.run("wait backup other").await;
    assert_eq!(ran.status, Some(1));
    let table = shell.out("list -o table").await;
    assert!(table.contains("UNKNOWN: the disk is full"), "{table}");
    let ran = shell.run("update other --percent 5").await;
    assert_eq!(ran.status, Some(1), "it has ended");
    assert!(!ran.err.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_said_at_creation_and_later() {
    let shell = Shell::start().await;
    shell
        .out(
            "create demo --id a --schedule 2099-01-01T00:00:00Z --attempt-timeout 10m --retention \
             7d --max-attempts 3 --initial-backoff 2s --max-backoff 1m --backoff-multiplier 1.5 \
             --queue nightly --priority 7",
        )
        .await;
    let task = shell.json("get a").await;
    assert_eq!(task["scheduleTime"], "2099-01-01T00:00:00Z");
    assert_eq!(task["attemptTimeout"], "600s");
    assert_eq!(task["retention"], "604800s");
    assert_eq!(
        task["retryPolicy"],
        serde_json::json!({
            "maxAttempts": 3, "initialBackoff": "2s", "maxBackoff": "60s", "backoffMultiplier": 1.5
        })
    );
    shell.out("update --filter 'queue = \"nightly\"' --max-attempts 9 --attempt-timeout 1h").await;
    let task = shell.json("get a").await;
    assert_eq!(task["retryPolicy"]["maxAttempts"], 9);
    assert_eq!(task["retryPolicy"]["initialBackoff"], "2s", "what is not said stays");
    assert_eq!(task["attemptTimeout"], "3600s");
    // The same request again is the same task.
    let one = shell.out("create demo --request-id r --schedule 2099-01-01T00:00:00Z").await;
    let two = shell.out("create demo --request-id r --schedule 2099-01-01T00:00:00Z").await;
    assert_eq!(one, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_and_queues() {
    let shell = Shell::start().await;
    let kinds = shell.out("kinds").await;
    assert!(kinds.contains("KIND") && kinds.contains("demo") && kinds.contains("the server"));
    assert!(shell.run("queues").await.err.contains("no queue"));
    assert_eq!(shell.out("queues pause nightly").await, "queues/nightly paused\n");
    shell.out(&format!("create demo --id a --queue nightly --input {SHORT}")).await;
    let queue = shell.json("queues").await;
    assert_eq!((&queue["paused"], &queue["queuedTasks"]), (&true.into(), &"1".into()));
    assert_eq!(shell.out("queues resume queues/nightly -o name").await, "queues/nightly\n");
    assert_eq!(shell.run("wait a").await.status, Some(0));
    let ran = shell.run("create demoo").await;
    assert_eq!(ran.status, Some(1));
    assert!(ran.err.contains("did you mean \"demo\"?"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_go_from_one_command_into_another() {
    let shell = Shell::start().await;
    for at in 0..20 {
        shell.out(&format!("create demo --label batch=7 --id b{at} --input {SHORT}")).await;
    }
    let ended = shell.out("wait --label batch=7 -o name").await;
    assert_eq!(ended.lines().count(), 20);
    let names = shell.out("list --label batch=7 -o name").await;
    let ran = shell.fed("delete -", &names).await;
    assert_eq!((ran.status, ran.out.lines().count()), (Some(0), 20), "{}", ran.err);
    let ran = shell.fed("delete -", "a b/c").await;
    assert_eq!(ran.status, Some(2));
    assert!(ran.err.contains("standard input: \"b/c\""), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_watched_at_once() {
    let shell = Shell::start().await;
    for id in ["a", "b"] {
        shell.out(&format!("create demo --id {id} --input {SHORT}")).await;
    }
    let lines = shell.out("watch a b").await;
    for id in ["a", "b"] {
        let ended = lines.lines().filter(|line| line.starts_with(&format!("tasks/{id} SUCCEEDED")));
        assert_eq!(ended.count(), 1, "{lines}");
    }
    let lines = shell.out("watch a b --json").await;
    let ended = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    assert_eq!(ended.filter(|task| task["state"] == "SUCCEEDED").count(), 2);
    shell.out("create external --id c").await;
    let ran = shell.run("wait c --timeout 50ms").await;
    assert_eq!(ran.status, Some(1));
    assert!(ran.err.contains("0 of 1 tasks ended within --timeout"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_name_servers() {
    let shell = Shell::start().await;
    assert!(shell.run("context").await.err.contains("taskwatch context set"));
    let first = shell.run("context set there http://127.0.0.1:1").await;
    assert!(first.err.contains("there is the server that commands go to"), "{}", first.err);
    shell.out(&format!("context set here {}", shell.server.url())).await;
    // The variable comes before the present context, a flag before both.
    assert_eq!(shell.run("list").await.status, Some(0));
    assert_eq!(shell.run("list --context there").await.status, Some(4));
    shell.out("context use here").await;
    let list = shell.out("context").await;
    assert!(list.lines().any(|line| line.starts_with("*  here")), "{list}");
    let mut command = taskwatch();
    command.args(["list"]).env("TASKWATCH_CONTEXTS", shell.server.folder().join("contexts.toml"));
    let alone = tokio::task::spawn_blocking(move || command.status().expect("it starts"));
    assert!(alone.await.expect("it ran").success(), "the present context");
    shell.out("context delete here").await;
    assert_eq!(shell.run("context use here").await.status, Some(2));
    assert_eq!(shell.run("context set x ftp://x").await.status, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn manual_pages_are_written_for_every_verb() {
    let shell = Shell::start().await;
    let folder = shell.server.folder().join("man");
    shell.out(&format!("man {}", folder.display())).await;
    let page = fs::read_to_string(folder.join("taskwatch-watch.1")).expect("a page");
    assert!(page.contains(".SH NAME") && page.contains("Watches tasks until they have ended"));
    assert!(folder.join("taskwatch.1").exists());
    assert!(!folder.join("taskwatch-demo-copy.1").exists());
}

/// In real shells: what Tab offers.
#[tokio::test(flavor = "multi_thread")]
async fn shells_complete_verbs_tasks_and_kinds() {
    let shell = Shell::start().await;
    shell.out("create external --id report-7").await;
    shell.out("queues pause nightly").await;
    let binary = env!("CARGO_BIN_EXE_taskwatch");
    let path = std::path::Path::new(binary).parent().expect("a directory");
    for (line, offered) in [
        ("taskwatch wat", "watch"),
        ("taskwatch watch rep", "report-7"),
        ("taskwatch watch tasks/rep", "tasks/report-7"),
        ("taskwatch get $'\\xff' rep", "report-7"),
        ("taskwatch create ext", "external"),
        ("taskwatch queues resume ni", "nightly"),
        ("taskwatch list --out", "--output"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        // What bash does at a Tab: it calls the function that stands behind the name.
        let script = format!(
            "source <(taskwatch completions bash)\nCOMP_WORDS=({line})\nCOMP_CWORD={}\n\
             COMP_TYPE=9\n$(complete -p taskwatch | sed 's/.*-F \\([^ ]*\\).*/\\1/') taskwatch {}\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.len() - 1,
            words[words.len() - 1],
        );
        let mut bash = std::process::Command::new("bash");
        bash.args(["--norc", "-c", &script]).env("TASKWATCH_SERVER", shell.server.url());
        let paths = format!("{}:{}", path.display(), std::env::var("PATH").expect("a path"));
        bash.env("PATH", paths);
        let output = tokio::task::spawn_blocking(move || bash.output().expect("bash"));
        let output = output.await.expect("it ran");
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(out.lines().any(|word| word.trim() == offered), "{line}: {out}{err}");
    }
    for other in ["zsh", "fish"] {
        assert!(shell.out(&format!("completions {other}")).await.contains("TASKWATCH_COMPLETE"));
    }
}
