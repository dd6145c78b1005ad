//! `Terminal`: a real terminal of 80 columns and 24 lines (tmux) in which a test types and reads.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::folder::Folder;
use crate::process::{output, run, wait_until_blocking};

/// How long a program may take until it asks the next question, on a busy machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(90);

/// A shell in a terminal; it ends with its folder.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
    folder: Folder,
    /// How much of what was shown has been answered, in bytes.
    answered: AtomicUsize,
}

impl Terminal {
    /// Opens one in the folder `at`, with the programs of `programs` at hand.
    ///
    /// # Panics
    /// When there is no tmux: `packaging/setup --tests` installs it.
    #[must_use]
    pub fn open(at: &Path, programs: &Path) -> Self {
        let folder = Folder::new();
        let socket = folder.path().join("tmux");
        let path = std::env::var("PATH").unwrap_or_default();
        let terminal = Self { socket, folder, answered: AtomicUsize::new(0) };
        let shell = format!(
            "env PATH='{}:{path}' PS1='$ ' LC_ALL=C.UTF-8 bash --norc --noprofile -i",
            programs.display()
        );
        let mut command = terminal.tmux();
        command.args(["-f", "/dev/null", "-u", "new-session", "-d", "-x", "80", "-y", "24", "-c"]);
        run(command.arg(at).arg(shell));
        let server = run(terminal.tmux().args(["display-message", "-p", "#{pid}"]));
        terminal.folder.adopt("tmux", server.trim().parse().expect("the terminal's process"));
        terminal
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket);
        command
    }

    /// What stands on the screen, without the empty lines at its end.
    #[must_use]
    pub fn screen(&self) -> String {
        self.captured(&["capture-pane", "-p"])
    }

    fn captured(&self, how: &[&str]) -> String {
        let shown = output(self.tmux().args(how)).stdout;
        let shown = String::from_utf8_lossy(&shown).into_owned();
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Waits until what was shown since the last line typed ends with `question`, or asks it in its
    /// last lines, and returns the screen.
    ///
    /// # Panics
    /// With the screen, when that does not happen.
    #[must_use]
    pub fn wait_for(&self, question: &str) -> String {
        let _ = self.wait_for_one(&[question]);
        self.screen()
    }

    /// Waits for one of several questions, and returns which.
    ///
    /// # Panics
    /// With the screen, when none is asked.
    #[must_use]
    pub fn wait_for_one(&self, questions: &[&str]) -> usize {
        let begun = std::time::Instant::now();
        let mut found = None;
        wait_until_blocking("the screen", ANSWERS_WITHIN * 2, || {
            let late = begun.elapsed() > ANSWERS_WITHIN;
            assert!(!late, "waited in vain for {questions:?}; there is:\n{}", self.screen());
            let all = self.all();
            let new = all.get(self.answered.load(Relaxed)..).unwrap_or_default();
            found = questions.iter().position(|question| asks(new, question));
            found.is_some()
        });
        found.expect("one of them was asked")
    }

    /// Everything shown so far, lines that were broken at the edge made whole.
    fn all(&self) -> String {
        self.captured(&["capture-pane", "-p", "-J", "-S", "-"])
    }

    /// Types a line. What stands there until now is no longer taken for a question: the program may
    /// not have read the line yet when somebody looks again.
    pub fn type_line(&self, text: &str) {
        self.answered.store(self.all().len(), Relaxed);
        if !text.is_empty() {
            run(self.tmux().args(["send-keys", "-l", text]));
        }
        run(self.tmux().args(["send-keys", "Enter"]));
    }

    /// Empties the screen before the next command.
    pub fn clear(&self) {
        run(self.tmux().args(["send-keys", "-R", "C-l"]));
        run(self.tmux().arg("clear-history"));
        wait_until_blocking("an empty screen", ANSWERS_WITHIN, || self.all() == "$");
        self.answered.store(0, Relaxed);
    }
}

/// Whether a text ends with a question, or asks it in its last lines.
fn asks(text: &str, question: &str) -> bool {
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    let is_asked = last.first().is_some_and(|line| line.ends_with(':'));
    let said = last.iter().any(|line| line.contains(question));
    last.first().is_some_and(|line| line.ends_with(question)) || is_asked && said
}
