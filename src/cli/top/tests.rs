//! The screen and its keys, without a terminal.

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    keys::{Action, press},
    model::{Call, Column, Detail, Model, Pane},
    view,
};
use crate::proto::{Attempt, Kind, Progress, Queue, Task, task::State};

fn task(id: &str, state: State, percent: f64) -> Task {
    let progress = Progress {
        percent: Some(percent),
        message: format!("copying {id}"),
        ..Progress::default()
    };
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let ended = matches!(state, State::Succeeded | State::Failed | State::Cancelled);
    #[expect(clippy::cast_possible_truncation, reason = "small")]
    Task {
        name: format!("tasks/{id}"),
        kind: "copy".into(),
        state: state.into(),
        progress: Some(progress),
        worker: format!("worker-{}", id.len()),
        start_time: at(1_000 + percent as i64),
        end_time: ended.then(|| at(2_000)).flatten(),
        ..Task::default()
    }
}

fn model() -> Model {
    let mut model = Model::new("http://127.0.0.1:50051".into());
    model.connected = true;
    model.see(task("a", State::Running, 30.0));
    model.see(task("bb", State::Paused, 70.0));
    model.see(task("cc", State::Running, 5.0));
    model.kinds = vec![Kind { kind: "copy".into(), running_tasks: 3, ..Kind::default() }];
    model.queues = vec![Queue { name: "queues/nightly".into(), paused: true, ..Queue::default() }];
    model
}

fn screen(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| view::draw(frame, model, false)).expect("drawn");
    let buffer = terminal.backend().buffer().clone();
    let rows = buffer.content().chunks(usize::from(width));
    let line = |row: &[ratatui::buffer::Cell]| {
        row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()
    };
    rows.map(line).collect::<Vec<_>>().join("\n")
}

fn keys(model: &mut Model, keys: &str) -> Action {
    let press = |letter| press(model, KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE));
    keys.chars().map(press).last().unwrap_or(Action::Nothing)
}

fn key(model: &mut Model, code: KeyCode) -> Action {
    press(model, KeyEvent::new(code, KeyModifiers::NONE))
}

#[tokio::test]
async fn tasks_with_their_bars() {
    assert_eq!(
        screen(&model(), 78, 7),
        "\
taskwatch  http://127.0.0.1:50051  2 running, 1 paused, 0 cancelling
 1 Tasks  2 Kinds  3 Queues  4 Workers   by started
NAME  KIND  STATE       PROGRESS          PACE  MESSAGE
bb    copy  PAUSED      [=======   ]  70        copying bb
a     copy  RUNNING     [===       ]  30        copying a
cc    copy  RUNNING     [=         ]   5        copying cc
Enter details  c cancel  p pause  r retry  / find  s sort  ? help  q quit"
    );
}

#[tokio::test]
async fn kinds_queues_and_workers() {
    let mut model = model();
    keys(&mut model, "2");
    assert!(screen(&model, 80, 6).contains("copy"), "{}", screen(&model, 80, 6));
    keys(&mut model, "3");
    assert!(screen(&model, 80, 6).contains("nightly"), "{}", screen(&model, 80, 6));
    let Action::Call(Call::PauseQueue(name, false)) = keys(&mut model, "p") else {
        panic!("it is paused")
    };
    assert_eq!(name, "queues/nightly");
    key(&mut model, KeyCode::Tab);
    let workers = screen(&model, 80, 6);
    assert!(workers.contains("worker-2") && workers.contains("WORKER"), "{workers}");
    assert_eq!(model.workers()[1].tasks, 2);
    key(&mut model, KeyCode::Tab);
    assert_eq!(model.pane, Pane::Tasks);
}

#[tokio::test]
async fn the_row_stays_chosen_while_others_come_and_go() {
    let mut model = model();
    keys(&mut model, "jj");
    assert_eq!(model.chosen().as_deref(), Some("tasks/cc"));
    model.see(task("d", State::Running, 99.0));
    assert_eq!(model.chosen().as_deref(), Some("tasks/cc"));
    keys(&mut model, "s");
    assert_eq!(model.sort, (Column::Name, false));
    assert_eq!(model.position(), Some(2));
    keys(&mut model, "S");
    assert_eq!((model.position(), model.chosen().as_deref()), (Some(1), Some("tasks/cc")));
    model.forget("tasks/cc");
    assert_eq!(model.position(), Some(0));
    key(&mut model, KeyCode::End);
    assert_eq!(model.chosen().as_deref(), Some("tasks/a"));
}

#[tokio::test]
async fn what_is_looked_for() {
    let mut model = model();
    keys(&mut model, "/PAUS");
    assert_eq!(model.visible().len(), 1);
    // Letters are text now, not keys.
    keys(&mut model, "q");
    assert_eq!(model.visible().len(), 0);
    key(&mut model, KeyCode::Backspace);
    key(&mut model, KeyCode::Enter);
    assert_eq!((model.visible().len(), model.typing), (1, false));
    key(&mut model, KeyCode::Esc);
    assert_eq!(model.visible().len(), 3);
}

#[tokio::test]
async fn a_cancel_is_asked_about() {
    let mut model = model();
    assert_eq!(keys(&mut model, "c"), Action::Nothing);
    assert!(screen(&model, 60, 8).contains("cancel tasks/bb? [y/n]"));
    assert_eq!(keys(&mut model, "n"), Action::Nothing);
    assert_eq!(keys(&mut model, "cy"), Action::Call(Call::Cancel("tasks/bb".into())));
    assert_eq!(keys(&mut model, "ry"), Action::Call(Call::Retry("tasks/bb".into())));
    assert_eq!(keys(&mut model, "p"), Action::Call(Call::Resume("tasks/bb".into())));
    assert_eq!(keys(&mut model, "jp"), Action::Call(Call::Pause("tasks/a".into())));
    assert_eq!(keys(&mut model, "q"), Action::Quit);
    let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(press(&mut model, control), Action::Quit);
}

#[tokio::test]
async fn a_task_in_full() {
    let mut model = model();
    assert_eq!(key(&mut model, KeyCode::Enter), Action::Call(Call::Open("tasks/bb".into())));
    let error = Some(tonic_types::Status { code: 14, message: "torn".into(), details: vec![] });
    let end_state = State::Failed.into();
    let end_time = Some(prost_types::Timestamp::default());
    let attempt = Attempt { attempt: 1, end_state, end_time, error, ..Attempt::default() };
    let task = task("bb", State::Paused, 70.0);
    model.detail = Some(Detail { task, attempts: vec![attempt], scroll: 0 });
    let shown = screen(&model, 80, 20);
    assert!(shown.contains("name        tasks/bb") && shown.contains("70 % copying bb"), "{shown}");
    assert!(shown.contains("FAILED") && shown.contains("UNAVAILABLE: torn"), "{shown}");
    keys(&mut model, "jj");
    assert!(!screen(&model, 80, 20).contains("name        tasks/bb"));
    assert_eq!(keys(&mut model, "cy"), Action::Call(Call::Cancel("tasks/bb".into())));
    key(&mut model, KeyCode::Esc);
    assert!(model.detail.is_none());
    keys(&mut model, "?");
    assert!(screen(&model, 80, 20).contains("leave; the tasks go on"));
}

#[tokio::test(start_paused = true)]
async fn who_has_ended_stays_for_a_moment() {
    let mut model = model();
    model.see(task("a", State::Succeeded, 100.0));
    model.tick();
    assert!(screen(&model, 80, 8).contains("SUCCEEDED"));
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    model.tick();
    assert_eq!(model.visible().len(), 2);
}

#[tokio::test]
async fn ten_thousand_are_no_more_than_a_screen() {
    let mut model = model();
    for at in 0..10_000 {
        model.see(task(&format!("t{at:05}"), State::Running, 1.0));
    }
    key(&mut model, KeyCode::End);
    let shown = screen(&model, 80, 24);
    assert_eq!(shown.lines().count(), 24);
    assert!(shown.contains("t09999"), "{shown}");
}
