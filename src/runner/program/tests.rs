//! Programs of every kind, bad ones too, as real processes.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{collections::BTreeMap, ffi::OsString, sync::Arc, time::Duration};

use serde_json::{Value as Json, json};
use tokio::{task::JoinHandle, time::timeout};

use super::{Program, process};
use crate::{
    clock,
    config::ProgramConfig,
    domain::{Code, Outcome, ProgressReport, State, TimeLimit},
    runner::{
        Handler, Job, Wanted,
        attempt::Attempt,
        handler::{self, HandlerError},
        tests::attempt,
    },
    tasks::Answer,
};

pub(super) fn config(command: &[&str]) -> ProgramConfig {
    ProgramConfig {
        command: command.iter().map(ToString::to_string).collect(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        working_dir: None,
        progress_pattern: None,
        stop_grace: Duration::from_secs(20),
    }
}

pub(super) fn shell(script: &str) -> ProgramConfig {
    config(&["/bin/sh", "-c", &script.replace('{', "{{").replace('}', "}}")])
}

/// A run of a program, in the hands of a test.
pub(super) struct Trial {
    pub(super) attempt: Arc<Attempt>,
    run: JoinHandle<Result<Json, HandlerError>>,
}

impl Trial {
    pub(super) fn start(config: &ProgramConfig, input: &Json, checkpoint: Option<&Json>) -> Self {
        let program = Program::new(config).unwrap();
        let attempt = attempt(input, checkpoint);
        let job = Job::new(attempt.clone());
        let run = tokio::spawn(async move { program.run(job).await });
        Self { attempt, run }
    }

    pub(super) fn want(&self, wanted: State) {
        let expire_time = clock::now().plus(Duration::from_secs(3_600));
        self.attempt.hear(&Ok(Answer { wanted, expire_time, limit: TimeLimit::None }));
    }

    /// The next progress that it reports.
    pub(super) async fn progress(&self) -> ProgressReport {
        let next = async {
            loop {
                let parcel = self.attempt.outbox.take().await;
                self.attempt.outbox.delivered();
                if let Some(progress) = parcel.progress {
                    return progress;
                }
            }
        };
        timeout(Duration::from_secs(60), next).await.expect("a report")
    }

    pub(super) async fn pids(&self) -> Vec<u32> {
        let message = self.progress().await.message;
        message.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    pub(super) async fn end(self) -> Result<Json, HandlerError> {
        timeout(Duration::from_secs(60), self.run).await.expect("an end").unwrap()
    }

    pub(super) fn drop_run(&self) {
        self.run.abort();
    }
}

async fn run(config: &ProgramConfig, input: &Json) -> Result<Json, HandlerError> {
    Trial::start(config, input, None).end().await
}

async fn failure(config: &ProgramConfig) -> (Code, bool, String) {
    let ended = run(config, &json!({})).await;
    match handler::outcome(ended, Wanted::Run) {
        Outcome::Failed { error, permanent } => (error.code, permanent, error.message),
        other @ (Outcome::Succeeded(_) | Outcome::Cancelled | Outcome::Released) => {
            panic!("{other:?}")
        }
    }
}

/// Whether nothing of the process runs. A dead one that nobody has reaped runs no more.
pub(super) fn gone(pid: u32) -> bool {
    state(pid).is_none_or(|state| matches!(state, 'Z' | 'X'))
}

pub(super) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

pub(super) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.expect(what);
}

#[tokio::test]
async fn the_result_is_the_last_one_named() {
    for (script, expected) in [
        ("exit 0", Json::Null),
        ("echo hello", Json::Null),
        ("echo '{\"result\": 1}'; printf '{\"result\": {\"a\": [2]}}'", json!({"a": [2]})),
    ] {
        assert_eq!(run(&shell(script), &json!({})).await, Ok(expected), "{script}");
    }
}

#[tokio::test]
async fn a_large_result_comes_whole_and_a_larger_one_fails_for_good() {
    let printed = |bytes: usize| {
        shell(&format!(
            "printf '{{\"result\": \"'; head -c {bytes} /dev/zero | tr '\\0' x; printf '\"}}'"
        ))
    };
    let result = run(&printed(1_000_000), &json!({})).await.unwrap();
    assert_eq!(result.as_str().map(str::len), Some(1_000_000));
    for bytes in [1_500_000, 3_000_000] {
        let (code, permanent, message) = failure(&printed(bytes)).await;
        assert_eq!((code, permanent), (Code::INTERNAL, true), "{message}");
        assert!(message.starts_with("the result"), "{message}");
    }
}

#[tokio::test]
async fn any_other_end_is_a_failure_that_may_be_retried() {
    for (script, expected) in [
        ("exit 3", "exit status 3"),
        ("exit 127", "exit status 127"),
        ("kill -9 $$", "killed by signal 9"),
        (
            "echo '{\"result\": 1}'; echo oops >&2; printf '10%%\\rbad \\377\\n' >&2; exit 1",
            "oops\nbad \u{fffd}",
        ),
    ] {
        let (code, permanent, message) = failure(&shell(script)).await;
        assert_eq!((code, permanent, message.as_str()), (Code::UNKNOWN, false, expected));
    }
    let (_, _, message) = failure(&shell("yes ä | head -c 90000 >&2; exit 1")).await;
    assert_eq!(message.chars().count(), 4_000);
}

#[tokio::test]
async fn what_cannot_be_started_fails_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let commands = [
        "no-such-program".to_owned(),
        "/no/such/program".to_owned(),
        file("plain", "echo hi", 0o644),
        file("interpreter", "#!/no/such/interpreter\n", 0o755),
        dir.path().to_str().unwrap().to_owned(),
        "-c".to_owned(),
    ];
    for command in &commands {
        let (code, permanent, message) = failure(&config(&[command, "x"])).await;
        assert_eq!((code, permanent), (Code::FAILED_PRECONDITION, true), "{message}");
        assert!(message.contains(command.as_str()), "{message}");
    }
    let mut nowhere = shell("exit 0");
    nowhere.working_dir = Some("/no/such/directory".into());
    let (code, _, message) = failure(&nowhere).await;
    assert_eq!(code, Code::FAILED_PRECONDITION);
    assert!(message.ends_with("there is no folder /no/such/directory"), "{message}");
}

#[tokio::test]
async fn whichever_shell_starts_it_tells_what_could_not_be_started() {
    for starter in ["/bin/sh", "/bin/bash", "/bin/dash"] {
        if !std::path::Path::new(starter).exists() {
            continue;
        }
        let ended = async |command: &str| {
            let run = process::Run { task: "t", attempt: 1, input: "{}", checkpoint: None };
            let command = [command.to_owned()];
            let (mut process, mut stdin) =
                process::Process::start_by(starter, &command, &config(&[]), &run).unwrap();
            let line = process.first_line();
            tokio::io::AsyncWriteExt::write_all(&mut stdin, line.as_bytes()).await.unwrap();
            drop(stdin);
            process.child.wait().await.unwrap();
            let mut said = String::new();
            process::left_in(&process.stderr, |read| said += &String::from_utf8_lossy(read));
            process.not_started(&said).map(str::to_owned)
        };
        for bad in ["no-such-program", "/", "/etc/passwd"] {
            assert!(ended(bad).await.is_some(), "{starter} {bad}");
        }
        assert_eq!(ended("true").await, None, "{starter}");
        assert_eq!(ended("false").await, None, "{starter}");
    }
}

#[tokio::test]
async fn what_it_finds_in_its_environment() {
    let mut config = shell(
        "read -r input; printf '{\"result\": [%s, %s, %s, \"%s\", \"%s\", \"%s\", \"%s\"]}' \
         \"$input\" \"$TASKWATCH_INPUT\" \"$TASKWATCH_CHECKPOINT\" \"$TASKWATCH_TASK\" \
         \"$TASKWATCH_ATTEMPT\" \"$OWN\" \"$PATH\"",
    );
    config.env = BTreeMap::from([("OWN".into(), "own".into())]);
    let (input, saved) = (json!({"a": "ä\n'\"$(x)"}), json!({"step": 3}));
    let result = Trial::start(&config, &input, Some(&saved)).end().await.unwrap();
    let path = std::env::var("PATH").unwrap();
    assert_eq!(result, json!([input, input, saved, "tasks/t", "1", "own", path]));

    // Any variable will do that this process has and programs do not get.
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let Some((name, value)) = std::env::vars_os().filter_map(text).find(|(name, value)| {
        !process::PASSED.contains(&name.as_str())
            && plain(name)
            && plain(value)
            && !value.is_empty()
    }) else {
        return;
    };
    let mut config = shell(&format!("printf '{{\"result\": \"%s\"}}' \"${{{name}-none}}\""));
    assert_eq!(run(&config, &input).await, Ok(json!("none")), "{name}");
    config.pass_env = vec![name.into()];
    assert_eq!(run(&config, &input).await, Ok(json!(value)));
}

#[tokio::test]
async fn no_shell_sees_the_input() {
    let mut config = shell("printf '{\"result\": \"%s|%s\"}' \"$1\" \"$2\"");
    config.command.extend(["x", "{input.a}-{input.b.c}", "{input.d}"].map(String::from));
    let input = json!({"a": "$(exit 3) `x`; *", "b": {"c": 3}, "d": "a b"});
    assert_eq!(run(&config, &input).await, Ok(json!("$(exit 3) `x`; *-3|a b")));
    let missing = run(&config, &json!({"a": "", "d": ""})).await.unwrap_err();
    let expected = "input.b.c is missing: the command of this kind needs it";
    assert_eq!(missing, HandlerError::permanent(Code::INVALID_ARGUMENT, expected));
}

#[tokio::test]
async fn a_large_input_need_not_be_read() {
    let input = json!({"a": "x".repeat(1 << 20)});
    let length = input.to_string().len() + 1;
    for (script, expected) in [
        ("exec <&-; echo '{\"result\": 1}'", json!(1)),
        ("echo '{\"result\": 2}'", json!(2)),
        ("printf '{\"result\": %d}' \"$(wc -c)\"", json!(length)),
        ("printf '{\"result\": \"%s\"}' \"${TASKWATCH_INPUT-none}\"", json!("none")),
    ] {
        assert_eq!(run(&shell(script), &input).await, Ok(expected), "{script}");
    }
}

#[tokio::test]
async fn what_it_prints_is_its_progress() {
    let json = "{\"message\": \"resizing\", \"unit\": \"files\", \"checkpoint\": {\"n\": 1}}";
    let out = format!("printf ' 10%%\\r 20%%\\r'; echo '{json}'; sleep 1000");
    for (script, percent, message) in [
        (out.as_str(), 20.0, "resizing"),
        ("printf ' 45%% \\377' >&2; sleep 1000", 45.0, "45% \u{fffd}"),
        ("printf '12.5 %% '; sleep 1000", 12.5, "12.5 %"),
    ] {
        let trial = Trial::start(&shell(script), &json!({}), None);
        let seen = async {
            loop {
                let progress = trial.progress().await;
                if progress.message == message {
                    return progress.percent;
                }
            }
        };
        assert_eq!(seen.await, Some(percent));
        trial.want(State::Cancelling);
        assert_eq!(trial.end().await, Err(HandlerError::cancelled()));
    }
}

#[tokio::test]
async fn output_that_never_ends_a_line_is_drained() {
    let script = "head -c 100000000 /dev/zero | tr '\\0' x; echo '{\"result\": 1}'";
    assert_eq!(run(&shell(script), &json!({})).await, Ok(Json::Null));
    let script = "head -c 30000000 /dev/urandom; head -c 30000000 /dev/urandom >&2; exit 0";
    assert_eq!(run(&shell(script), &json!({})).await, Ok(Json::Null));
}

#[tokio::test]
async fn output_that_never_stops_does_not_hold_up_a_cancel() {
    for script in ["yes", "yes '{\"percent\": 5}'", "yes 5% | tr -d '\\n' >&2"] {
        let trial = Trial::start(&shell(script), &json!({}), None);
        if script != "yes" {
            assert_eq!(trial.progress().await.percent, Some(5.0));
        }
        trial.want(State::Cancelling);
        assert_eq!(trial.end().await, Err(HandlerError::cancelled()));
    }
}
