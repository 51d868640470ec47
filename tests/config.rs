//! What a configuration file may hold, and what is said of one that is wrong:
//! file, line, column, key and remedy, for every fault at once.

use std::time::Duration;

use taskwatch::config::{Config, ConfigError, LogFormat};

fn read(text: &str) -> Result<Config, String> {
    Config::parse("taskwatch.toml", text).map_err(|error| error.to_string())
}

fn fault(text: &str) -> String {
    read(text).expect_err(text)
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = read("").expect("nothing is wrong");
    assert_eq!(config.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(config.database, "sqlite://taskwatch.db");
    assert_eq!(config.grace, Duration::from_secs(10));
    assert_eq!(config.log_format, LogFormat::Text);
    assert_eq!(config.retention, Duration::from_secs(7 * 24 * 3_600));
    assert_eq!(config.retry.max_attempts, 5);
    assert_eq!(config.runner.concurrency, 64);
    assert_eq!(config.runner.stop_grace, Duration::from_secs(5));
    assert!(!config.accept_unknown && config.kinds.is_empty() && config.queues.is_empty());
}

#[test]
fn the_example_is_read() {
    let config = read(include_str!("../taskwatch.example.toml")).expect("nothing is wrong");
    let mirror = &config.kinds["mirror"];
    let program = mirror.program.as_ref().expect("a command");
    assert_eq!(program.command[4], "{input.to}");
    assert_eq!(program.env["LC_ALL"], "C");
    assert_eq!(program.stop_grace, Duration::from_secs(5));
    assert_eq!(mirror.defaults.attempt_timeout, Some(Duration::from_secs(7_200)));
    assert_eq!((mirror.defaults.max_attempts, mirror.limits.concurrency), (3, Some(2)));
    assert!(config.kinds["report"].program.is_none());
    assert_eq!(config.queues["nightly"].concurrency, Some(4));
}

/// Every default that the example shows is the default.
#[test]
fn the_example_tells_the_truth() {
    let shown = include_str!("../taskwatch.example.toml");
    let top = shown.split("# A program. No shell").next().expect("a first part");
    let active = top.lines().map(|line| match line.strip_prefix("# ") {
        Some(key) if key.split('#').next().is_some_and(|key| key.contains(" = ")) => key,
        _ => line,
    });
    let active = active.collect::<Vec<_>>().join("\n");
    assert!(active.contains("\nmax_attempts = 5"), "{active}");
    let (told, real) = (read(&active).expect("well formed"), Config::default());
    assert_eq!(format!("{told:?}"), format!("{real:?}"));
}

#[test]
fn kinds_inherit_what_they_do_not_say() {
    let config = read(
        "[retry]\nmax_attempts = 9\nmax_backoff = 120\n[runner]\nstop_grace = \"1s\"\n\
         [kinds.a]\ncommand = [\"true\"]\ninitial_backoff = 1.5\n\
         [kinds]\naccept_unknown = true\n[kinds.external]\nmax_attempts = 1",
    )
    .expect("nothing is wrong");
    let a = &config.kinds["a"];
    assert_eq!(a.defaults.max_attempts, 9);
    assert_eq!(a.defaults.max_backoff, Duration::from_secs(120));
    assert_eq!(a.defaults.initial_backoff, Duration::from_millis(1_500));
    assert_eq!(a.program.as_ref().expect("one").stop_grace, Duration::from_secs(1));
    assert!(config.accept_unknown);
}

#[test]
fn each_fault_names_its_place_its_key_and_the_remedy() {
    let name_rule =
        "must be 1 to 128 letters, digits, '-', '_' and '.', the first a letter or digit";
    let duration_rule =
        "must be a number and ms, s, m, h or d, as in \"10m\"; a bare number is seconds";
    let table: &[(&str, &str)] = &[
        // Unknown keys, with the nearest known one.
        (
            "\n\n[runner]\nconcurency = 3",
            "4:1: runner.concurency: unknown key; did you mean concurrency?",
        ),
        ("databse = \"x\"", "1:1: databse: unknown key; did you mean database?"),
        ("[quees.a]\nrate = 1", "1:2: quees: unknown key; did you mean queues?"),
        (
            "[runner]\nxyz = 1",
            "2:1: runner.xyz: unknown key; there are concurrency, lease, stop_grace",
        ),
        (
            "[kinds]\naccept_unknwon = true",
            "2:1: kinds.accept_unknwon: unknown key; did you mean accept_unknown?",
        ),
        ("[kinds.a]\ntimout = 1", "2:1: kinds.a.timout: unknown key; did you mean timeout?"),
        (
            "[kinds.a.retry]\nmax_attempts = 1",
            "1:10: kinds.a.retry: unknown key; there are max_attempts, initial_backoff, max_backoff, backoff_multiplier, timeout, concurrency, rate, command, env, pass_env, working_dir, progress_pattern, stop_grace",
        ),
        ("[queues]\na = 1", "2:1: queues.a: unknown key"),
        // Wrong sorts of values.
        ("listen = 50051", "1:10: listen: must be text, not a whole number"),
        ("runner = 1", "1:10: runner: must be a table, as [runner], not a whole number"),
        (
            "[kinds]\naccept_unknown = \"yes\"",
            "2:18: kinds.accept_unknown: must be true or false, not text",
        ),
        (
            "[kinds.a]\ncommand = \"ls -l\"",
            "2:11: kinds.a.command: must be a list, as [\"a\", \"b\"], not text",
        ),
        (
            "[kinds.a]\ncommand = [\"ls\", 1]",
            "2:11: kinds.a.command: each must be text, not a whole number",
        ),
        (
            "[runner]\nconcurrency = 1.5",
            "2:15: runner.concurrency: must be a whole number from 0 to 100000, not a number",
        ),
        // Out of their limits.
        (
            "[runner]\nconcurrency = -1",
            "2:15: runner.concurrency: must be a whole number from 0 to 100000",
        ),
        ("[runner]\nlease = \"2h\"", "2:9: runner.lease: must be 1s to 1h, not 2h"),
        ("grace = 7200", "1:9: grace: must be 0s to 1h, not 2h"),
        ("retention = 0", "1:13: retention: must be 1s to 36500d, not 0s"),
        (
            "[retry]\nmax_attempts = 0",
            "2:16: retry.max_attempts: must be a whole number from 1 to 1000000000",
        ),
        (
            "[retry]\nbackoff_multiplier = 0.5",
            "2:22: retry.backoff_multiplier: must be a number, 1 or more",
        ),
        (
            "[retry]\nbackoff_multiplier = nan",
            "2:22: retry.backoff_multiplier: must be a number, 1 or more",
        ),
        (
            "[retry]\ninitial_backoff = \"5m\"",
            "2:19: retry.initial_backoff: 5m is longer than max_backoff (1m): raise that one",
        ),
        (
            "[retry]\nmax_backoff = \"500ms\"",
            "2:15: retry.max_backoff: 500ms is shorter than initial_backoff (1s): lower that one",
        ),
        (
            "[queues.a]\nconcurrency = 0",
            "2:15: queues.a.concurrency: must be a whole number from 1 to 9223372036854775807",
        ),
        // Not what they should be.
        (
            "listen = \"localhost\"",
            "1:10: listen: must be an IP address and a port, as in \"127.0.0.1:50051\"",
        ),
        (
            "database = \"mysql://x\"",
            "1:12: database: must be sqlite://FILE or postgres://USER:PASSWORD@HOST/DATABASE",
        ),
        ("log_format = \"xml\"", "1:14: log_format: must be \"text\" or \"json\""),
        ("grace = \"10 minutes\"", &format!("1:9: grace: {duration_rule}")),
        ("grace = \"-1s\"", &format!("1:9: grace: {duration_rule}")),
        ("grace = true", &format!("1:9: grace: {duration_rule}, not true or false")),
        ("[kinds.\"a b\"]", &format!("1:8: kinds.a b: a kind's name {name_rule}")),
        ("[queues.\"-\"]", &format!("1:9: queues.-: a queue's name {name_rule}")),
        (
            "[kinds.a]\ncommand = []",
            "2:11: kinds.a.command: names no program: write [\"program\", \"argument\", …]",
        ),
        (
            "[kinds.a]\ncommand = [\"a\", \"{input.x\"]",
            "2:11: kinds.a.command: \"{input.x\" has a '{' without its '}': write '{{'",
        ),
        (
            "[kinds.a]\ncommand = [\"a\", \"{inptu.x}\"]",
            "2:11: kinds.a.command: {inptu.x} is no placeholder: there are {input.KEY}, {input}, {task} and {attempt}; for braces that stand for themselves write '{{' and '}}'",
        ),
        (
            "[kinds.a]\ncommand = [\"a\"]\nprogress_pattern = \"([0-9]\"",
            "3:20: kinds.a.progress_pattern: not a regular expression: unclosed group",
        ),
        (
            "[kinds.a]\ncommand = [\"a\"]\nprogress_pattern = \"x\"",
            "3:20: kinds.a.progress_pattern: must have one group (…), which holds the percentage, not 0",
        ),
        (
            "[kinds.a]\ncommand = [\"a\"]\nenv = { TASKWATCH_TASK = \"x\" }",
            "3:7: kinds.a.env: TASKWATCH_TASK is set for each run: choose another name",
        ),
        (
            "[kinds.a]\ncommand = [\"a\"]\npass_env = [\"A=B\"]",
            "3:12: kinds.a.pass_env: \"A=B\" is no name of a variable",
        ),
        ("[kinds.a]\nenv = {}", "2:1: kinds.a.env: is for programs: name a command, too"),
        (
            "[kinds.demo]\ncommand = [\"a\"]",
            "2:1: kinds.demo.command: demo is built in and runs no command: choose another name",
        ),
        (
            "[kinds.external]\ncommand = [\"a\"]",
            "2:1: kinds.external.command: external is built in and runs no command: choose another name",
        ),
        (
            "[kinds.a]\nrate = \"0/s\"",
            "2:8: kinds.a.rate: must be a number and /s, /m or /h, as in \"10/s\": between 1 a day and 1,000,000 a second",
        ),
        (
            "[queues.a]\nrate = \"ten\"",
            "2:8: queues.a.rate: must be a number and /s, /m or /h, as in \"10/s\": between 1 a day and 1,000,000 a second",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(fault(text), format!("taskwatch.toml:{expected}"), "{text}");
    }
}

#[test]
fn what_is_no_toml_names_its_line_too() {
    for (text, place) in [
        ("a = 1\n[runner]\nlease = 30s", "taskwatch.toml:3:9: lease: not TOML: "),
        ("grace = 1\ngrace = 2", "taskwatch.toml:2:1: grace: not TOML: duplicate key"),
        ("[runner\n", "taskwatch.toml:1:8: not TOML: "),
        ("ä = 1", "taskwatch.toml:1:1: ä: not TOML: "),
    ] {
        let said = fault(text);
        assert!(said.starts_with(place), "{text}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn all_faults_are_told_in_the_order_of_the_file() {
    let said =
        fault("grace = \"x\"\n[queues.a]\nrat = 1\n[kinds.a]\ntimeout = 0\n[runner]\nlease = 0");
    let places: Vec<&str> =
        said.lines().map(|line| line.split(": ").nth(1).expect("a key")).collect();
    assert_eq!(places, ["grace", "queues.a.rat", "kinds.a.timeout", "runner.lease"]);
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let path = std::path::Path::new("/does/not/exist.toml");
    let error = Config::load(Some(path)).expect_err("no such file");
    assert!(matches!(error, ConfigError::Read { .. }));
    assert!(error.to_string().starts_with("/does/not/exist.toml: cannot read the configuration"));
}
