//! UpdateTaskRequest to patch. Only what the mask means is read, and checked.

use prost_types::FieldMask;

use super::{mask::Mask, path::At, payload, read, report};
use crate::{
    domain::{Patch, ProgressPatch, RetryPolicyPatch, limits},
    proto,
};

/// Reads what is to be changed; `at` is the request.
pub(super) fn patch(at: &At<'_>, task: proto::Task, mask: Option<FieldMask>) -> Patch {
    let mask = Mask::read(&at.field("update_mask"), mask);
    let at = at.field("task");
    let proto::Task {
        kind,
        input,
        state,
        progress,
        result,
        error,
        revision,
        queue,
        priority,
        labels,
        schedule_time,
        retry_policy,
        attempt_timeout,
        retention,
        // Says which task.
        name: _,
        // Output only.
        create_time: _,
        start_time: _,
        end_time: _,
        update_time: _,
        attempt: _,
        worker: _,
        checkpoint: _,
    } = task;
    let asks_for_state = match &mask {
        Mask::Set | Mask::All => state != 0,
        Mask::Named(_) => mask.means("state", true),
    };
    Patch {
        revision: Some(read::count(&at.field("revision"), revision)).filter(|seen| *seen != 0),
        lenient: mask.is_lenient(),
        state: if asks_for_state { read::state(&at.field("state"), state) } else { None },
        priority: mask
            .means("priority", priority != 0)
            .then(|| read::priority(&at.field("priority"), priority)),
        labels: mask
            .means("labels", !labels.is_empty())
            .then(|| read::labels(&at.field("labels"), labels)),
        schedule_time: mask
            .means("schedule_time", schedule_time.is_some())
            .then(|| schedule_time.and_then(|time| read::time(&at.field("schedule_time"), time))),
        retry_policy: retry_policy_patch(
            &at.field("retry_policy"),
            &mask,
            retry_policy.unwrap_or_default(),
        ),
        attempt_timeout: mask
            .means("attempt_timeout", is_set(attempt_timeout))
            .then(|| read::duration(&at.field("attempt_timeout"), attempt_timeout)),
        retention: mask
            .means("retention", is_set(retention))
            .then(|| read::duration(&at.field("retention"), retention)),
        progress: progress_patch(&at.field("progress"), &mask, progress.unwrap_or_default()),
        result: mask.means("result", result.is_some()).then(|| {
            result.and_then(|result| {
                payload::value(&at.field("result"), result, limits::PAYLOAD_BYTES)
            })
        }),
        error: mask
            .means("error", error.is_some())
            .then(|| error.and_then(|error| read::failure(&at.field("error"), error))),
        kind: mask.means_fixed("kind", !kind.is_empty()).then_some(kind),
        queue: mask.means_fixed("queue", !queue.is_empty()).then_some(queue),
        input: mask.means_fixed("input", input.is_some()).then(|| {
            input
                .and_then(|input| payload::object(&at.field("input"), input, limits::PAYLOAD_BYTES))
        }),
    }
}

/// A duration of 0 counts as not set.
fn is_set(duration: Option<prost_types::Duration>) -> bool {
    duration.is_some_and(|duration| duration != prost_types::Duration::default())
}

fn retry_policy_patch(at: &At<'_>, mask: &Mask, policy: proto::RetryPolicy) -> RetryPolicyPatch {
    let proto::RetryPolicy { max_attempts, initial_backoff, max_backoff, backoff_multiplier } =
        policy;
    RetryPolicyPatch {
        max_attempts: mask
            .means("retry_policy.max_attempts", max_attempts != 0)
            .then(|| read::max_attempts(&at.field("max_attempts"), max_attempts)),
        initial_backoff: mask
            .means("retry_policy.initial_backoff", is_set(initial_backoff))
            .then(|| read::duration(&at.field("initial_backoff"), initial_backoff)),
        max_backoff: mask
            .means("retry_policy.max_backoff", is_set(max_backoff))
            .then(|| read::duration(&at.field("max_backoff"), max_backoff)),
        backoff_multiplier: mask
            .means("retry_policy.backoff_multiplier", backoff_multiplier != 0.0)
            .then(|| read::multiplier(&at.field("backoff_multiplier"), backoff_multiplier)),
    }
}

fn progress_patch(at: &At<'_>, mask: &Mask, progress: proto::Progress) -> ProgressPatch {
    let proto::Progress {
        percent,
        message,
        completed_units,
        total_units,
        unit,
        details,
        // Output only.
        update_time: _,
        estimated_end_time: _,
    } = progress;
    ProgressPatch {
        percent: mask
            .means("progress.percent", percent.is_some())
            .then(|| percent.map(|percent| read::percent(&at.field("percent"), percent))),
        message: mask
            .means("progress.message", !message.is_empty())
            .then(|| report::message_text(at, message)),
        completed_units: mask
            .means("progress.completed_units", completed_units != 0)
            .then(|| read::count(&at.field("completed_units"), completed_units)),
        total_units: mask
            .means("progress.total_units", total_units != 0)
            .then(|| read::count(&at.field("total_units"), total_units)),
        unit: mask.means("progress.unit", !unit.is_empty()).then(|| report::unit_text(at, unit)),
        details: mask
            .means("progress.details", details.is_some())
            .then(|| details.and_then(|details| report::details(at, details))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Error, State, Violation},
        rpc::{
            mask::{CARRIED, OUTPUT_ONLY},
            path::Findings,
        },
    };

    fn read(task: proto::Task, paths: &[&str]) -> Result<Patch, Error> {
        let findings = Findings::default();
        let paths = paths.iter().map(ToString::to_string).collect();
        let patch = patch(&findings.root(), task, Some(FieldMask { paths }));
        findings.judge(Some(patch))
    }

    fn violations(task: proto::Task, paths: &[&str]) -> Vec<Violation> {
        match read(task, paths) {
            Err(Error::InvalidArgument(found)) => found,
            other => panic!("must be refused: {other:?}"),
        }
    }

    fn fields(task: proto::Task, paths: &[&str]) -> Vec<String> {
        violations(task, paths).into_iter().map(|violation| violation.field).collect()
    }

    fn some() -> proto::Task {
        proto::Task {
            name: "tasks/a".into(),
            state: 3,
            priority: 5,
            revision: 7,
            progress: Some(proto::Progress {
                message: "half way".into(),
                completed_units: 1,
                ..Default::default()
            }),
            retry_policy: Some(proto::RetryPolicy { max_attempts: 2, ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn no_mask_means_what_is_set() {
        let patch = read(some(), &[]).expect("fine");
        let expected = Patch {
            revision: Some(7),
            lenient: true,
            state: Some(State::Paused),
            priority: Some(5),
            retry_policy: RetryPolicyPatch { max_attempts: Some(Some(2)), ..Default::default() },
            progress: ProgressPatch {
                message: Some("half way".into()),
                completed_units: Some(1),
                ..Default::default()
            },
            ..Default::default()
        };
        assert_eq!(patch, expected);
    }

    #[test]
    fn a_star_means_all_that_can_be_set() {
        let patch = read(proto::Task::default(), &["*"]).expect("fine");
        let expected = Patch {
            revision: None,
            lenient: true,
            state: None,
            priority: Some(0),
            labels: Some(crate::domain::Labels::new()),
            schedule_time: Some(None),
            retry_policy: RetryPolicyPatch {
                max_attempts: Some(None),
                initial_backoff: Some(None),
                max_backoff: Some(None),
                backoff_multiplier: Some(None),
            },
            attempt_timeout: Some(None),
            retention: Some(None),
            progress: ProgressPatch {
                percent: Some(None),
                message: Some(String::new()),
                completed_units: Some(0),
                total_units: Some(0),
                unit: Some(String::new()),
                details: Some(None),
            },
            result: Some(None),
            error: Some(None),
            kind: None,
            queue: None,
            input: None,
        };
        assert_eq!(patch, expected);
    }

    #[test]
    fn paths_mean_just_what_they_name() {
        let patch = read(some(), &["labels", "progress.percent", "kind"]).expect("fine");
        let expected = Patch {
            revision: Some(7),
            labels: Some(crate::domain::Labels::new()),
            progress: ProgressPatch { percent: Some(None), ..Default::default() },
            kind: Some(String::new()),
            ..Default::default()
        };
        assert_eq!(patch, expected);
        let whole = read(some(), &["retry_policy"]).expect("fine").retry_policy;
        assert_eq!(whole.max_attempts, Some(Some(2)));
        assert_eq!(whole.max_backoff, Some(None));
    }

    #[test]
    fn output_only_fields_are_ignored() {
        let patch = read(some(), OUTPUT_ONLY).expect("fine");
        assert_eq!(patch, Patch { revision: Some(7), ..Default::default() });
    }

    #[test]
    fn every_field_of_a_task_is_known() {
        for path in CARRIED.iter().chain(&["progress", "retry_policy"]) {
            let task = proto::Task { state: 1, ..Default::default() };
            assert!(read(task, &[path]).is_ok(), "{path}");
        }
    }

    #[test]
    fn paths_that_nothing_has() {
        let unknown = [
            "",
            ".",
            "bogus",
            "State",
            "progress.",
            "progress.bogus",
            "labels.env",
            "input.x",
            "schedule_time.seconds",
            "progress.details.x",
            "task.state",
        ];
        for path in unknown {
            assert_eq!(fields(some(), &[path]), ["update_mask"], "{path}");
        }
        assert_eq!(fields(some(), &["*", "state"]), ["update_mask"]);
        assert_eq!(fields(some(), &["a", "b"]), ["update_mask", "update_mask"]);
        // Those that there are, once.
        let told = violations(some(), &["a", "b"]);
        let lists = |violation: &Violation| violation.description.contains("some of state, pri");
        assert_eq!(told.iter().map(lists).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_state_that_is_named_is_one() {
        let with = |state| proto::Task { state, ..Default::default() };
        assert_eq!(fields(with(0), &["state"]), ["task.state"]);
        assert_eq!(fields(with(9), &["state"]), ["task.state"]);
        let told = &violations(with(9), &["state"])[0].description;
        assert!(told.contains("QUEUED (1)") && told.ends_with("CANCELLED (7)"), "{told}");
        assert_eq!(fields(with(-1), &[]), ["task.state"]);
        assert_eq!(read(with(0), &["*"]).map(|patch| patch.state), Ok(None));
        assert!(read(with(9), &["priority"]).is_ok(), "what is not meant is not read");
    }

    #[test]
    fn what_is_meant_is_checked() {
        let bad = proto::Task {
            priority: 200,
            revision: -1,
            labels: [("a\0".into(), String::new())].into(),
            progress: Some(proto::Progress {
                percent: Some(101.0),
                total_units: -1,
                ..Default::default()
            }),
            error: Some(tonic_types::pb::Status { code: -1, ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(
            fields(bad, &[]),
            [
                "task.revision",
                "task.priority",
                "task.labels[\"a\\0\"]",
                "task.progress.percent",
                "task.progress.total_units",
                "task.error.code",
            ]
        );
    }
}
