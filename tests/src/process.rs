//! Real processes of agent and hub: built once, started with a log file, stopped, killed, and
//! waited for with a deadline.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::folder::Folder;

/// How often a condition is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a process may take to end by itself.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The file of one of the project's programs, built if it is not up to date.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = build_folder().join(name);
    assert!(path.exists(), "cargo built no {}", path.display());
    path
}

/// `target/<profile>`, beside which this test program was built; agent and hub are built there
/// once, so that `cargo test -p phusa-tests` alone suffices. The whole workspace is named, as in
/// `tests/run`: a part of it would select other features of dependencies and build those anew.
fn build_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let own = std::env::current_exe().expect("the path of this program");
        let deps = own.parent().expect("its folder");
        let is_test = deps.file_name() == Some(OsStr::new("deps"));
        let folder = if is_test { deps.parent().expect("a profile's folder") } else { deps };
        let profile = folder.file_name().filter(|name| *name != "debug");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--workspace", "--bins"]);
        // What cargo tells this program of its own package would make build scripts run again.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| text.starts_with(own)) {
                cargo.env_remove(&name);
            }
        }
        cargo.arg("--profile").arg(profile.unwrap_or(OsStr::new("dev"))).arg("--target-dir");
        cargo.arg(folder.parent().expect("the target folder"));
        run(cargo.current_dir(env!("CARGO_MANIFEST_DIR")));
        folder.to_owned()
    })
}

/// Runs a command to its end and returns what it printed.
///
/// # Panics
/// With all it said, when it cannot be run or fails.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command to its end, whatever that is.
///
/// Output goes through files, not pipes: a server that a command leaves running keeps its output
/// open, and reading a pipe would wait for that server's end.
///
/// # Panics
/// When it cannot be run.
pub fn output(command: &mut Command) -> Output {
    let mut stdout = tempfile::tempfile().expect("a temporary file");
    let mut stderr = tempfile::tempfile().expect("a temporary file");
    command.stdin(Stdio::null());
    command.stdout(stdout.try_clone().expect("another handle"));
    command.stderr(stderr.try_clone().expect("another handle"));
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Output { status, stdout: read_all(&mut stdout), stderr: read_all(&mut stderr) }
}

fn read_all(file: &mut File) -> Vec<u8> {
    use std::io::{Read as _, Seek as _};
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a readable temporary file");
    bytes
}

/// Whether a process with this id runs; one that has ended and only waits to be noticed does not.
#[must_use]
pub fn is_running(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Ends a process that this program started, by its id; one that has ended already is no fault.
pub fn kill(id: u32) {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    let _gone = id.map(|id| rustix::process::kill_process(id, rustix::process::Signal::KILL));
}

/// Holds a process and its children still, so that nothing of theirs happens any more; their ids.
#[must_use]
pub fn hold_still(parent: u32) -> Vec<u32> {
    let stop = |id: u32| {
        let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
        let _gone = id.map(|id| rustix::process::kill_process(id, rustix::process::Signal::STOP));
    };
    // The parent first: a child it has after we counted would go on.
    stop(parent);
    let tasks = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(tasks).unwrap_or_default();
    let mut ids: Vec<u32> = children.split_whitespace().filter_map(|id| id.parse().ok()).collect();
    ids.iter().copied().for_each(stop);
    ids.push(parent);
    ids
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within `limit`.
pub fn wait_until_blocking(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until `condition` gives a value, without holding up other tasks.
///
/// # Panics
/// When it does not within `limit`.
pub async fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A running process that ends with this value.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    folder: Arc<Folder>,
    log: PathBuf,
    /// Whether it has processes of its own to end.
    leads: bool,
}

impl Process {
    /// Starts `command` as `name`; what it prints is added to `<folder>/<name>.log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(folder: &Arc<Folder>, name: &str, command: &mut Command) -> Self {
        let log = folder.path().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("another handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        folder.adopt(name, child.id());
        Self { name: name.to_owned(), child, folder: Arc::clone(folder), log, leads: false }
    }

    /// The same, asked to end (SIGTERM) before it is killed, because it ends others first: where a test
    /// fails, none of those is left.
    #[must_use]
    pub fn leading(mut self) -> Self {
        self.leads = true;
        self
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has printed, in this and earlier lives.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// When the system cannot say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.ended().is_none()
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.folder.release(&self.name);
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    ///
    /// # Panics
    /// When it does not end within 30 s.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait(STOP_WITHIN)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(id) =
            i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(id, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// With its log, when it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                self.folder.release(&self.name);
                return status;
            }
            let late = start.elapsed() >= limit;
            assert!(!late, "{} did not end within {limit:?}:\n{}", self.name, self.log());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until its log contains `text`.
    ///
    /// # Panics
    /// With its log, when that does not happen within `limit` or it ends before.
    pub async fn wait_for_log(&mut self, text: &str, limit: Duration) {
        let start = Instant::now();
        while !self.log().contains(text) {
            let waits = start.elapsed() < limit && self.is_running();
            assert!(waits, "{} did not say {text:?}; it said:\n{}", self.name, self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let asked = Instant::now();
        if self.leads && self.is_running() {
            self.signal(rustix::process::Signal::TERM);
            while self.is_running() && asked.elapsed() < STOP_WITHIN {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        self.kill();
        if std::thread::panicking() {
            use std::io::Write as _;
            let log = self.log();
            let shown = std::env::var("PHUSA_LOG_SHOWN").ok().and_then(|text| text.parse().ok());
            let shown = shown.unwrap_or(8_000);
            let tail = log.char_indices().rev().nth(shown).map_or(0, |(at, _)| at);
            let said = log.get(tail..).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "--- {} said:\n{said}", self.name);
        }
    }
}
