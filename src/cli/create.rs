//! `taskwatch create`.

use std::{fs, io::Read};

use prost::Message;
use serde_json::Value as Json;

use super::{
    args::{self, ServerArgs},
    exit::{Exit, Fault},
    explain, follow, json, out,
};
use crate::{
    domain::{Object, limits::PRIORITY},
    proto::{CreateTaskRequest, Task},
};

/// Doubles, which numbers travel as, hold whole numbers up to here.
const EXACT: u64 = 1 << 53;

/// Creates a task and prints its name.
///
/// It is durable when the name appears. With --watch it is then followed to its
/// end, and the exit status is the task's: 0 SUCCEEDED, 1 FAILED, 3 CANCELLED.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch create demo --watch\n  \
    taskwatch create demo --input '{\"steps\": 20}' --label env=prod\n  \
    taskwatch create report --input @report.json --id report-7\n  \
    jq -n '{steps: 3}' | taskwatch create demo --input -")]
pub(super) struct Args {
    /// What runs it: demo, external, a configured program, or what workers serve.
    #[arg(value_parser = args::name)]
    kind: String,
    /// Its input: a JSON object, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// Its id; the server chooses where none is given.
    #[arg(long, value_parser = args::name)]
    id: Option<String>,
    /// A label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = args::label)]
    labels: Vec<(String, String)>,
    /// The queue that it waits in.
    #[arg(long, value_parser = args::name)]
    queue: Option<String>,
    /// Higher runs first within its queue: -100 to 100.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, hide_default_value = true,
        value_parser = clap::value_parser!(i32)
            .range(i64::from(*PRIORITY.start())..=i64::from(*PRIORITY.end())))]
    priority: i32,
    /// Follow it to its end.
    #[arg(long)]
    watch: bool,
    /// Print the task as JSON; with --watch each state, on one line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let task = Task {
        kind: args.kind,
        input: args.input.as_deref().map(input).transpose()?,
        queue: args.queue.unwrap_or_default(),
        priority: args.priority,
        labels: args.labels.into_iter().collect(),
        ..Task::default()
    };
    let request = CreateTaskRequest {
        task: Some(task),
        task_id: args.id.unwrap_or_default(),
        ..CreateTaskRequest::default()
    };
    let (client, server) = (args.server.client()?, &args.server.server);
    let created = client.create(request).await;
    let task = created.map_err(|status| explain::fault(&status, server))?;
    match (args.watch, args.json) {
        (true, true) => {}
        (false, true) => out::line(json::pretty(&task)?)?,
        (_, false) => out::line(&task.name)?,
    }
    if !args.watch {
        return Ok(Exit::Done);
    }
    follow::to_the_end(&client, server, &task.name, args.json).await
}

/// Reads `--input`.
fn input(text: &str) -> Result<prost_types::Struct, Fault> {
    let wrong = |why: &dyn std::fmt::Display| Fault::usage(format!("--input: {why}"));
    let text = match text.strip_prefix('@') {
        Some(file) => fs::read_to_string(file).map_err(|e| wrong(&format!("{file}: {e}")))?,
        None if text == "-" => {
            let mut read = String::new();
            let stdin = std::io::stdin().read_to_string(&mut read);
            stdin.map_err(|e| wrong(&format!("standard input: {e}")))?;
            read
        }
        None => text.to_owned(),
    };
    let json: Json = serde_json::from_str(&text).map_err(|e| {
        wrong(&format!("not JSON: {e}; write it as in --input '{{\"steps\": 20}}'"))
    })?;
    let Json::Object(object) = &json else {
        return Err(wrong(&"must be a JSON object, as in '{\"steps\": 20}'"));
    };
    if let Some(number) = inexact(&json) {
        let why = format!("{number} is too large to travel as a number: write it as text");
        return Err(wrong(&why));
    }
    let encoded = Object::from_json(object);
    prost_types::Struct::decode(encoded.encoded().clone()).map_err(|e| wrong(&e))
}

/// A whole number that would silently become another one.
fn inexact(json: &Json) -> Option<&serde_json::Number> {
    match json {
        Json::Number(number) => {
            let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            size.is_some_and(|size| size > EXACT).then_some(number)
        }
        Json::Array(list) => list.iter().find_map(inexact),
        Json::Object(map) => map.values().find_map(inexact),
        Json::Null | Json::Bool(_) | Json::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs() {
        assert_eq!(input("{}"), Ok(prost_types::Struct::default()));
        assert!(input("{\"a\": 9007199254740992}").is_ok());
        for (text, why) in [
            ("[1]", "must be a JSON object"),
            ("{", "not JSON"),
            ("@/does/not/exist", "/does/not/exist"),
            ("{\"a\": [9007199254740993]}", "9007199254740993 is too large"),
        ] {
            let fault = format!("{:?}", input(text).expect_err("wrong"));
            assert!(fault.contains(why), "{text}: {fault}");
        }
    }
}
