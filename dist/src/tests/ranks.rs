//! Ranks as processes. A test calls [`Ranks::run`] with a body: in the test's own process this
//! starts the test again once per rank, with a launcher's variables; in those processes it joins
//! and runs the body.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process};

use crate::{Collectives, Error, JoinOptions, World};

/// Name of the test that a process takes part in.
const TEST: &str = "JOUST_DIST_TEST";

/// Variables that decide, and must not come from the caller's environment.
const VARIABLES: [&str; 9] = [
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_USE_AGENT_STORE",
    "TORCHELASTIC_RESTART_COUNT",
    "TORCH_CPP_LOG_LEVEL",
];

/// What a process says last: its body has come to its end.
const DONE: &str = "done";

/// A process that is not done by then is killed, and its test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a process said and how it ended.
pub(super) struct Told {
    pub(super) rank: usize,
    /// What it said with [`say`].
    pub(super) lines: Vec<String>,
    /// The body came to its end.
    pub(super) is_done: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) status: ExitStatus,
}

impl Told {
    /// Asserts that the body came to its end, that the process ended well, and that it wrote
    /// nothing to standard error.
    pub(super) fn check(&self) {
        let Self { rank, status, stdout, stderr, .. } = self;
        assert!(status.success(), "rank {rank}: {status}\n{stdout}\n{stderr}");
        assert_eq!(stderr, "", "rank {rank}");
        assert!(self.is_done, "rank {rank} has run no body\n{stdout}");
    }
}

/// The processes of a test.
pub(super) struct Ranks {
    size: usize,
    started: Vec<usize>,
    /// A rank that does not end by itself.
    endless: Option<usize>,
    address: (&'static str, u16),
    options: JoinOptions,
    variables: Vec<(&'static str, OsString)>,
}

impl Ranks {
    /// All ranks of a world.
    pub(super) fn new(size: usize) -> Self {
        let limit = Duration::from_secs(40);
        Self {
            size,
            started: (0..size).collect(),
            endless: None,
            address: ("127.0.0.1", free_port()),
            options: JoinOptions { join_limit: limit, limit, ..JoinOptions::default() },
            variables: Vec::new(),
        }
    }

    pub(super) fn only(self, started: &[usize]) -> Self {
        Self { started: started.to_vec(), ..self }
    }

    pub(super) fn with_endless(self, rank: usize) -> Self {
        Self { endless: Some(rank), ..self }
    }

    pub(super) fn at(self, host: &'static str, port: u16) -> Self {
        Self { address: (host, port), ..self }
    }

    pub(super) fn with_options(self, change: impl FnOnce(&mut JoinOptions)) -> Self {
        let mut options = self.options;
        change(&mut options);
        Self { options, ..self }
    }

    pub(super) fn with_variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Runs the body in each process, and returns what they said, by rank.
    pub(super) fn run<F: FnOnce(Result<Collectives, Error>)>(self, body: F) -> Vec<Told> {
        self.run_named(&test_name::<F>(), body)
    }

    /// Runs a body that belongs to the test of a name.
    pub(super) fn run_named(
        self,
        name: &str,
        body: impl FnOnce(Result<Collectives, Error>),
    ) -> Vec<Told> {
        as_rank(name, self.options, body);
        let (done, outcomes) = mpsc::channel();
        let mut pids = Vec::new();
        for &rank in &self.started {
            let mut command = test_command(name);
            command
                .env("RANK", rank.to_string())
                .env("LOCAL_RANK", rank.to_string())
                .env("WORLD_SIZE", self.size.to_string())
                .env("LOCAL_WORLD_SIZE", self.size.to_string())
                .env("MASTER_ADDR", self.address.0)
                .env("MASTER_PORT", self.address.1.to_string())
                .envs(self.variables.iter().cloned());
            pids.push((rank, start(rank, &mut command, &done)));
        }
        let mut told = Vec::new();
        while told.len() < pids.len() {
            let one_is_left = told.len() + 1 == pids.len();
            let endless = self.endless.filter(|_| one_is_left);
            pids.iter().filter(|(rank, _)| Some(*rank) == endless).for_each(|(_, pid)| end(*pid));
            told.push(outcomes.recv_timeout(DEADLINE).unwrap_or_else(|_| {
                pids.iter().for_each(|(_, pid)| end(*pid));
                let ended: Vec<usize> = told.iter().map(|told: &Told| told.rank).collect();
                panic!("only ranks {ended:?} of {} ended within {DEADLINE:?}", self.size)
            }));
        }
        told.sort_by_key(|told| told.rank);
        told
    }
}

/// Joins, runs the body and ends the process, in a process that was started as a rank of the test.
pub(super) fn as_rank(
    name: &str,
    options: JoinOptions,
    body: impl FnOnce(Result<Collectives, Error>),
) {
    if std::env::var(TEST).is_ok_and(|test| test == name) {
        body(World::from_env().and_then(|world| Collectives::join(world, options)));
        say(DONE);
        std::process::exit(0);
    }
}

/// Starts a process and sends what it said once it has ended.
pub(super) fn start(rank: usize, command: &mut Command, done: &mpsc::Sender<Told>) -> Pid {
    let child = command.spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let done = done.clone();
    std::thread::spawn(move || {
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = stdout.lines().filter_map(|line| line.strip_prefix("told: "));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        let is_done = lines.pop_if(|line| line == DONE).is_some();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        // nobody receives after a test has failed
        let _ = done.send(Told { rank, lines, is_done, stdout, stderr, status: output.status });
    });
    pid
}

fn end(pid: Pid) {
    // a process that has ended meanwhile is not a problem
    let _ = kill_process(pid, Signal::KILL);
}

/// This test binary, to run one test as a rank.
fn test_command(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]);
    of_test(&mut command, name);
    command
}

/// Sets a command's environment to that of a rank of the test.
pub(super) fn of_test(command: &mut Command, name: &str) {
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.env(TEST, name).env("OMP_NUM_THREADS", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// The test that a closure is in, as the test binary names it.
pub(super) fn test_name<F>() -> String {
    let path = std::any::type_name::<F>();
    let (_, path) = path.split_once("::").unwrap();
    path.replace("::{{closure}}", "")
}

/// A port that nobody listens at, below those that systems give to connections: no other test's
/// connection takes it before it is used.
pub(super) fn free_port() -> u16 {
    static N_TAKEN: AtomicU32 = AtomicU32::new(0);
    let candidates = std::iter::repeat_with(|| {
        let nth = std::process::id() * 101 + N_TAKEN.fetch_add(1, Ordering::Relaxed);
        u16::try_from(10_000 + nth % 22_000).unwrap()
    });
    candidates.take(1_000).find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok()).unwrap()
}

/// Tells the test's own process a line.
pub(super) fn say(line: &str) {
    // libtest does not end its line before a test has
    writeln!(std::io::stdout(), "\ntold: {line}").unwrap();
}

/// Sends this process a signal that it does not survive or that stops it.
pub(super) fn signal_self(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

/// Runs a closure and returns how long it took.
pub(super) fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (run(), start.elapsed())
}
