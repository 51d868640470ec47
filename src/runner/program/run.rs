//! One run of a program, from its start to what became of it. All of it is one
//! future: when that is dropped, the program's group is killed.

use std::{io, os::unix::process::ExitStatusExt, pin::pin, process::ExitStatus, time::Duration};

use rustix::process::Signal;
use serde_json::Value as Json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::ChildStdin,
    time::{Instant, sleep_until},
};

use super::{
    Program,
    output::Output,
    process::{Process, Run, left_in},
};
use crate::{
    config::ProgramConfig,
    domain::{Code, limits},
    runner::{HandlerError, Job, Wanted, attempt::Control, bounds},
};

const READ_BYTES: usize = 64 << 10;
/// A program that never stops printing is read at 100 MB/s at most, or it would take
/// a core of this server's.
const READ_IN_ONE_GO: usize = 2 << 20;
const REST: Duration = Duration::from_millis(20);

pub(super) async fn run(program: &Program, job: Job) -> Result<Json, HandlerError> {
    let task = format!("tasks/{}", job.id());
    let input = job.read_input();
    let command = program.command(&job, &task, &input)?;
    let input = Json::Object(input).to_string();
    let checkpoint = job.read_checkpoint().map(|saved| Json::Object(saved).to_string());
    let run = Run {
        task: &task,
        attempt: job.attempt(),
        input: &input,
        checkpoint: checkpoint.as_deref(),
    };
    // What the shell could take for an option of its own.
    if command.first().is_none_or(|name| name.is_empty() || name.starts_with('-')) {
        return Err(cannot_start(&command, "that is no name of a program"));
    }
    let (process, stdin) = Process::start(&command, &program.config, &run)
        .map_err(|error| not_spawned(&command, &program.config, &error))?;
    let output = Output::new(task, job.kept_progress(), program.config.progress_pattern.clone());
    let stop_grace = program.config.stop_grace;
    let attendance = Attendance {
        job: &job,
        process,
        output,
        stop_grace,
        told: None,
        killed: false,
        stopped: false,
    };
    attendance.attend(&command, stdin, &input).await
}

/// What the runner does while the program runs.
struct Attendance<'a> {
    job: &'a Job,
    process: Process,
    output: Output,
    stop_grace: Duration,
    /// Told to stop, with the time when it is killed.
    told: Option<Instant>,
    killed: bool,
    /// By SIGSTOP.
    stopped: bool,
}

impl Attendance<'_> {
    async fn attend(
        mut self,
        command: &[String],
        stdin: ChildStdin,
        input: &str,
    ) -> Result<Json, HandlerError> {
        let status = self.until_exit(stdin, input).await;
        // Whoever it started does not go on without it.
        self.process.clear().await;
        left_in(&self.process.stdout, |read| self.output.stdout(read));
        left_in(&self.process.stderr, |read| self.output.stderr(read));
        self.output.end();
        self.tell();
        if self.told.is_some() {
            return Err(HandlerError::cancelled());
        }
        if status.as_ref().is_ok_and(ExitStatus::success) {
            return self.output.into_result().map_err(|why| {
                HandlerError::permanent(Code::INTERNAL, format!("the result {why}"))
            });
        }
        let said = self.output.tail();
        if let Some(why) = self.process.not_started(&said) {
            return Err(cannot_start(command, why));
        }
        let message = if said.is_empty() { became(status) } else { said };
        let message = bounds::end_of_text(&message, limits::ERROR_MESSAGE_CHARS);
        Err(HandlerError::retryable(Code::UNKNOWN, message))
    }

    /// Feeds it, listens to it and steers it until it has exited.
    async fn until_exit(&mut self, stdin: ChildStdin, input: &str) -> io::Result<ExitStatus> {
        let mut feed = pin!(feed(stdin, format!("{}{input}\n", self.process.first_line())));
        let (mut feeding, mut out_open, mut err_open) = (true, true, true);
        let mut out = vec![0; READ_BYTES];
        let mut err = vec![0; READ_BYTES];
        let (mut read, mut rests_until) = (0, None);
        loop {
            let control = self.job.control();
            self.steer(&control);
            let kill_at = self.told.filter(|_| !self.killed);
            let awake = rests_until.is_none();
            let Process { child, stdout, stderr, .. } = &mut self.process;
            let news = tokio::select! {
                status = child.wait() => News::Exited(status),
                () = self.job.control_changed(&control) => News::Other,
                () = reached(kill_at) => News::GraceOver,
                () = &mut feed, if feeding => {
                    feeding = false;
                    News::Other
                }
                () = reached(rests_until) => {
                    rests_until = None;
                    News::Other
                }
                taken = some(stdout, &mut out), if out_open && awake => News::Stdout(taken),
                taken = some(stderr, &mut err), if err_open && awake => News::Stderr(taken),
            };
            match news {
                News::Exited(status) => return status,
                News::Other => {}
                News::GraceOver => {
                    self.process.signal(Signal::KILL);
                    self.killed = true;
                }
                News::Stdout(taken) => {
                    out_open = taken > 0;
                    read += taken;
                    self.output.stdout(&out[..taken]);
                }
                News::Stderr(taken) => {
                    err_open = taken > 0;
                    read += taken;
                    self.output.stderr(&err[..taken]);
                }
            }
            if read >= READ_IN_ONE_GO {
                (read, rests_until) = (0, Some(Instant::now() + REST));
            }
            self.tell();
        }
    }

    /// Passes on what has been understood of its output.
    fn tell(&mut self) {
        if let Some(progress) = self.output.progress() {
            self.job.say(progress);
        }
        if let Some(checkpoint) = self.output.checkpoint() {
            self.job.save(checkpoint);
        }
    }

    /// Does what is wanted, where that has not been done.
    fn steer(&mut self, control: &Control) {
        let wanted = control.wanted();
        if wanted.is_stop() {
            if self.told.is_none() {
                self.told = Some(Instant::now() + self.stop_grace);
                self.process.signal(Signal::TERM);
            }
            // The server may stop while the program still has its grace.
            self.told = self.told.min(control.stop_by).or(self.told);
        }
        let stop = wanted == Wanted::Pause;
        if stop != self.stopped {
            // Who is stopped has to go on to hear that it is to end.
            self.process.signal(if stop { Signal::STOP } else { Signal::CONT });
            self.stopped = stop;
        }
    }
}

enum News {
    Exited(io::Result<ExitStatus>),
    GraceOver,
    Stdout(usize),
    Stderr(usize),
    /// Something to look at again.
    Other,
}

/// Writes all of `text`; a program need not read it.
async fn feed(mut stdin: ChildStdin, text: String) {
    if let Err(error) = stdin.write_all(text.as_bytes()).await {
        tracing::trace!(%error, "a program did not read its input");
    }
}

/// Reads some; nothing when the stream is over or cannot be read.
async fn some(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> usize {
    stream.read(buffer).await.unwrap_or(0)
}

async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn became(status: io::Result<ExitStatus>) -> String {
    match status {
        Err(error) => format!("its end could not be seen: {error}"),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended in an unknown way".into(),
        },
    }
}

fn cannot_start(command: &[String], why: &str) -> HandlerError {
    let name = command.first().map_or("", String::as_str);
    let message = format!("the command {name:?} cannot be started: {why}");
    HandlerError::permanent(Code::FAILED_PRECONDITION, message)
}

/// Where the system lacks something for now, another attempt may have it.
fn not_spawned(command: &[String], config: &ProgramConfig, error: &io::Error) -> HandlerError {
    use rustix::io::Errno;
    let lack = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    if lack.iter().any(|lack| error.raw_os_error() == Some(lack.raw_os_error())) {
        let message = format!("no process can be started now: {error}");
        return HandlerError::retryable(Code::UNAVAILABLE, message);
    }
    // The system does not tell which of the two it did not find.
    match config.working_dir.as_deref().filter(|dir| !dir.is_dir()) {
        Some(dir) => cannot_start(command, &format!("there is no folder {}", dir.display())),
        None => cannot_start(command, &error.to_string()),
    }
}
