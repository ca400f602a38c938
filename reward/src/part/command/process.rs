//! A program with its pipes: lines in, lines out, within a time, in a process group of its own.
//!
//! It knows nothing of groups and rewards.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::live;

/// Maximum length of a line that is read.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Time that a program has to end by itself once its input has ended.
const TIME_TO_END: Duration = Duration::from_secs(2);

/// Maximum number of characters of a program's last words in an error.
const MAX_WORDS_CHARS: usize = 200;

/// A running program. Its process group is killed when it is dropped.
pub(super) struct RewardProcess {
    child: Child,
    /// None once its input has ended.
    questions: Option<Sender<Vec<u8>>>,
    answers: Receiver<Vec<u8>>,
    /// The last line of its standard error that is not blank.
    last_words: Arc<Mutex<String>>,
    /// Ends with its standard error.
    errors: Receiver<()>,
    is_over: bool,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessFault {
    /// The program closed its output.
    Ended,
    /// The time was over.
    TooSlow,
}

impl RewardProcess {
    /// Starts a program.
    ///
    /// # Errors
    /// Why it cannot be started, in one line.
    pub(super) fn start(part: &str, words: &[String]) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("run is empty")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            // Python would keep an answer back until its buffer is full
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = live::start(&mut command)
            .map_err(|error| format!("part `{part}`: {program:?} cannot be started: {error}"))?;
        let mut input = child.stdin.take().expect("its input is a pipe. This is a bug.");
        let output = child.stdout.take().expect("its output is a pipe. This is a bug.");
        let error = child.stderr.take().expect("its errors are a pipe. This is a bug.");
        let (questions, to_write) = bounded::<Vec<u8>>(1);
        let (read, answers) = bounded(16);
        let (error_end, errors) = bounded(0);
        let last_words = Arc::new(Mutex::new(String::new()));
        let (said, part) = (Arc::clone(&last_words), part.to_owned());
        let questions = Some(questions);
        let process = Self { child, questions, answers, last_words, errors, is_over: false };
        spawn("part-input", move || {
            for question in to_write {
                if input.write_all(&question).and_then(|()| input.flush()).is_err() {
                    break;
                }
            }
        })?;
        spawn("part-output", move || for_each_line(output, |line| read.send(line).is_ok()))?;
        spawn("part-errors", move || {
            let _end: Sender<()> = error_end;
            for_each_line(error, |line| {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if !text.is_empty() {
                    tracing::warn!(part, "{text}");
                    if let Ok(mut words) = said.lock() {
                        *words = text;
                    }
                }
                true
            });
        })?;
        Ok(process)
    }

    /// Writes a line, and returns the next line that the program writes.
    ///
    /// # Errors
    /// [`ProcessFault`]; the program is of no further use then.
    pub(super) fn ask(
        &mut self,
        question: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, ProcessFault> {
        let until = Instant::now() + timeout;
        let questions = self.questions.as_ref().ok_or(ProcessFault::Ended)?;
        // a writer that has ended met a closed input: the output tells whether the program is over
        if questions.send_deadline(question, until).is_err() && Instant::now() >= until {
            return Err(ProcessFault::TooSlow);
        }
        self.answers.recv_deadline(until).map_err(|error| match error {
            RecvTimeoutError::Timeout => ProcessFault::TooSlow,
            RecvTimeoutError::Disconnected => ProcessFault::Ended,
        })
    }

    /// Ends the program after a fault, and tells what happened in one line.
    pub(super) fn end(mut self, fault: ProcessFault, timeout: Duration) -> String {
        if fault == ProcessFault::Ended {
            // its last words come before its end, and its status is its own
            let _ = self.errors.recv_timeout(TIME_TO_END);
        }
        let status = self.kill();
        let _ = self.errors.recv_timeout(TIME_TO_END);
        let text = match (fault, status) {
            (ProcessFault::TooSlow, _) => {
                format!("no answer in {} s (timeout_s)", timeout.as_secs_f64())
            }
            (ProcessFault::Ended, Ok(status)) => format!("the program ended ({status})"),
            (ProcessFault::Ended, Err(_)) => "the program ended".to_owned(),
        };
        let words = self.last_words.lock().map(|words| words.clone()).unwrap_or_default();
        match words.is_empty() {
            true => text,
            false => {
                let words: String = words.chars().take(MAX_WORDS_CHARS).collect();
                format!("{text}; its last words: {words}")
            }
        }
    }

    /// Kills the process group. A program that has ended keeps its number, and its status, until it
    /// is waited for.
    fn kill(&mut self) -> std::io::Result<ExitStatus> {
        self.is_over = true;
        self.questions = None;
        live::kill(&self.child);
        self.child.wait()
    }
}

impl Drop for RewardProcess {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // the end of its input asks it to end
        self.questions = None;
        let until = Instant::now() + TIME_TO_END;
        while self.answers.recv_deadline(until).is_ok() {}
        let _ = self.kill();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(drop).map_err(|error| format!("a thread for a program: {error}"))
}

/// Calls `take` with each line, its end left out, as long as it returns true.
fn for_each_line(from: impl std::io::Read, mut take: impl FnMut(Vec<u8>) -> bool) {
    let mut reader = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if !take(line) {
            return;
        }
    }
}
