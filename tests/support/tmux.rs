//! A real terminal: tmux, on a socket of its own, which ends with the test.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tokio::time::{Duration, Instant, sleep};

use super::PATIENCE;

/// One terminal with one shell in it.
pub struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// Of this size, with a shell in `folder` that has these variables besides `PATH`.
    pub fn start(folder: &Path, columns: u16, rows: u16, variables: &[(&str, &str)]) -> Self {
        let tmux = Self { socket: folder.join("tmux") };
        let mut command = tmux.command();
        command.args(["-f", "/dev/null", "new-session", "-d"]);
        command.args(["-x", &columns.to_string(), "-y", &rows.to_string(), "-c"]).arg(folder);
        let binaries = Path::new(env!("CARGO_BIN_EXE_taskwatch")).parent().expect("a directory");
        let path = std::env::var("PATH").expect("a path");
        // The server that this starts has them, and so has every shell in it.
        command.env("PATH", format!("{}:{path}", binaries.display()));
        command.envs(variables.iter().copied());
        command.arg("sh");
        let started = command.output().expect("tmux is installed: make tmux");
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        tmux
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket);
        super::deaf(&mut command);
        command.env_remove("TMUX").env_remove("NO_COLOR").env("TERM", "xterm-256color");
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().expect("tmux runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Types a line, and Enter.
    pub fn line(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
        self.key("Enter");
    }

    /// Presses a key, by tmux's name of it.
    pub fn key(&self, key: &str) {
        self.run(&["send-keys", key]);
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// The same with its colours.
    pub fn colours(&self) -> String {
        self.run(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen is as it should be, and gives it.
    pub async fn shows(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if is(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "{what} is not shown:\n{screen}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until there is this text on the screen.
    pub async fn says(&self, text: &str) -> String {
        self.shows(text, |screen| screen.contains(text)).await
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the terminal at last\n{}", self.screen());
        }
        drop(self.command().arg("kill-server").output());
    }
}
