//! Groups that are collected ahead of the steps that train on them, by a thread of their own.
//!
//! With `ahead` = n, the groups of step s are of the policy after step s - 1 - n, or of the one
//! that the start began with: which one does not depend on time. It does not know how groups are
//! made.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, RecvError, Sender, bounded};
use joust_engine::model::Decoder;
use joust_schema::ids::PolicyVersion;

use super::collector::{Collected, Collector, Measured};
use super::step_source::StepSource;
use super::told::ToldEvent;
use crate::error::Error;
use crate::observer::{Event, Observer};
use crate::ranks;

/// Number of reports that may wait for the run's own thread. Where there are more, signs of
/// progress are left out, and the thread waits with others.
const QUEUED_REPORTS: usize = 256;

/// What the thread is to do next.
enum Command {
    /// To collect the steps up to this one.
    Collect(u64),
    Publish(Box<Decoder>, PolicyVersion),
    Evaluate,
}

/// What the thread says.
enum Report {
    Told(ToldEvent),
    Collected(Collected),
    /// A policy is taken: its memory is not read any more.
    Taken,
    Measured(Measured),
    /// No further step follows; nothing at all where a policy cannot be taken or measured.
    Failed(Error),
}

/// Collects ahead.
pub(super) struct AheadSource {
    ahead: u64,
    n_steps: u64,
    /// None once it is closed, which is the thread's end.
    commands: Option<Sender<Command>>,
    reports: Receiver<Report>,
    /// Steps that were reported while something else was waited for.
    collected: VecDeque<Collected>,
    /// Number of published policies with the trainer's memory that are not taken yet.
    n_untaken: usize,
    failure: Option<Error>,
    abandoned: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AheadSource {
    /// Starts the thread, after `step` of `n_steps`. It collects up to `ahead` steps beyond the one
    /// that is trained on.
    ///
    /// # Errors
    /// [`Error::Input`] where the system gives no thread.
    pub(super) fn spawn(
        mut collector: Collector,
        ahead: u64,
        (step, n_steps): (u64, u64),
    ) -> Result<Self, Error> {
        let abandoned = Arc::new(AtomicBool::new(false));
        collector.abandoned = Some(Arc::clone(&abandoned));
        // each step that is not collected yet has a policy and a wish, and there is a measurement
        let (command, commands) = bounded(2 * ahead as usize + 4);
        let (report, reports) = bounded(QUEUED_REPORTS);
        let thread = CollectingThread { collector, next: step + 1, reports: report };
        let thread = std::thread::Builder::new()
            .name("collect".to_owned())
            .spawn(move || thread.run(&commands))
            .map_err(|error| Error::input(format!("no thread that collects groups: {error}")))?;
        Ok(Self {
            ahead,
            n_steps,
            commands: Some(command),
            reports,
            collected: VecDeque::new(),
            n_untaken: 0,
            failure: None,
            abandoned,
            thread: Some(thread),
        })
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // a thread that has ended has said why
            drop(commands.send(command));
        }
    }

    /// Waits for a report; events are told, and steps kept, on the way. `None` once the thread has
    /// ended.
    fn next_report(&mut self, observer: &mut dyn Observer) -> Result<Option<Report>, Error> {
        match self.reports.recv() {
            Ok(Report::Told(event)) => event.tell(observer)?,
            Ok(Report::Collected(step)) => self.collected.push_back(step),
            Ok(Report::Taken) => self.n_untaken = self.n_untaken.saturating_sub(1),
            Ok(Report::Failed(error)) => {
                self.failure.get_or_insert(error);
            }
            Ok(measured @ Report::Measured(_)) => return Ok(Some(measured)),
            Err(RecvError) => self.end(),
        }
        Ok(None)
    }

    fn has_ended(&self) -> bool {
        self.commands.is_none()
    }

    /// Waits for the end of the thread; a panic there is one here.
    fn end(&mut self) {
        self.commands = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }

    /// Why nothing follows.
    fn take_failure(&mut self) -> Error {
        self.failure.take().expect("a thread ends early for one reason, told once. This is a bug.")
    }
}

impl StepSource for AheadSource {
    fn next(&mut self, step: u64, observer: &mut dyn Observer) -> Result<Collected, Error> {
        self.send(Command::Collect((step + self.ahead).min(self.n_steps)));
        loop {
            if let Some(step) = self.collected.pop_front() {
                return Ok(step);
            }
            if self.failure.is_some() || self.has_ended() {
                return Err(self.take_failure());
            }
            self.next_report(observer)?;
        }
    }

    /// A thread that has ended reads no weights.
    fn before_update(&mut self, observer: &mut dyn Observer) -> Result<(), Error> {
        while self.n_untaken > 0 && !self.has_ended() {
            self.next_report(observer)?;
        }
        Ok(())
    }

    /// The thread takes the policy once it has collected what it was asked for before. Of one step
    /// ahead, the trainer needs nothing else until then, and the policy need not be copied; of more
    /// it does not wait.
    fn publish(&mut self, policy: Decoder, version: PolicyVersion) -> Result<(), Error> {
        let policy = match self.ahead {
            1 => {
                self.n_untaken += 1;
                policy
            }
            _ => policy.duplicate(policy.device(), policy.precision())?,
        };
        self.send(Command::Publish(Box::new(policy), version));
        Ok(())
    }

    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<Measured, Error> {
        self.send(Command::Evaluate);
        loop {
            if let Some(Report::Measured(measured)) = self.next_report(observer)? {
                return Ok(measured);
            }
            if self.has_ended() {
                return Err(self.take_failure());
            }
        }
    }
}

impl Drop for AheadSource {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Release);
        self.commands = None;
        // a thread that waits until there is room for a report goes on, and ends
        while self.reports.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            // a panic was reported where it happened
            drop(thread.join());
        }
    }
}

/// The thread.
struct CollectingThread {
    collector: Collector,
    /// The next step.
    next: u64,
    reports: Sender<Report>,
}

impl CollectingThread {
    fn run(mut self, commands: &Receiver<Command>) {
        for command in commands {
            if let Err(error) = self.carry_out(command) {
                self.fail(error);
                return;
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Collect(last) => {
                while self.next <= last {
                    let collected = match self.collect() {
                        Ok(collected) => collected,
                        Err(error) => {
                            // the steps before it are trained on, and their policies measured
                            self.next = u64::MAX;
                            self.fail(error);
                            return Ok(());
                        }
                    };
                    self.next = match collected {
                        Collected::Step(_) => self.next + 1,
                        // there is nothing after it
                        Collected::NoPrompts | Collected::GivenUp => u64::MAX,
                    };
                    self.report(Report::Collected(collected));
                }
            }
            Command::Publish(policy, version) => {
                self.collector.publish(&policy, version)?;
                drop(policy);
                self.report(Report::Taken);
            }
            Command::Evaluate => {
                let measured = self.collector.evaluate()?;
                self.report(Report::Measured(measured));
            }
        }
        Ok(())
    }

    fn collect(&mut self) -> Result<Collected, Error> {
        let collected = self.collector.collect(self.next, &mut Teller(&self.reports))?;
        match self.collector.is_abandoned() {
            true => Err(joust_rollout::Error::Cancelled.into()),
            false => Ok(collected),
        }
    }

    /// Reports a failure, the same one on all ranks.
    fn fail(&self, error: Error) {
        self.report(Report::Failed(ranks::tell(&self.collector.ranks, error)));
    }

    fn report(&self, report: Report) {
        // nobody receives it once the source is dropped
        drop(self.reports.send(report));
    }
}

/// Tells the run's own thread.
struct Teller<'a>(&'a Sender<Report>);

impl Observer for Teller<'_> {
    fn observe(&mut self, event: Event<'_>) -> Result<(), Error> {
        let report = Report::Told(event.into());
        match event {
            Event::Progressed => drop(self.0.try_send(report)),
            _ => drop(self.0.send(report)),
        }
        Ok(())
    }
}
