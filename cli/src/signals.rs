//! Stop signals (Ctrl-C, SIGTERM, a closed terminal): the first one asks for an orderly end, the
//! second one ends at once.
//!
//! Exit codes are those of shells: 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP. Knows no
//! command.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::Context as _;
use joust_dist::World;
use joust_reward::end_all_commands;
use joust_run::training::RunEnd;
use joust_run::{StopSwitch, counted};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;

use crate::failure::Stopped;
use crate::output;
use crate::process::is_first_rank;

/// Listens for stop signals on behalf of a run.
pub(crate) struct StopSignals {
    switch: StopSwitch,
    /// Number of the first signal; 0 before it.
    first: Arc<AtomicI32>,
}

impl StopSignals {
    /// Begins to listen. The first signal asks a run to stop after its current step.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let switch = StopSwitch::default();
        // until they have come there is nothing to save
        switch.set_waits_for_ranks(World::from_env().is_ok_and(|world| world.size > 1));
        Self::listen_and_say(
            switch,
            "Stopping after this step; a second signal ends at once.".to_owned(),
            "Ended at once; --resume goes on after the newest checkpoint, or begins where there is \
             none.".to_owned(),
        )
    }

    /// As [`StopSignals::listen`], for a command that writes sets.
    pub(crate) fn listen_for_sets() -> anyhow::Result<Self> {
        Self::listen_and_say(
            StopSwitch::default(),
            "Stopping after this set; a second signal ends at once, and the set is judged again."
                .to_owned(),
            format!("Ended at once. Go on with: {}", same_command(std::env::args().skip(1))),
        )
    }

    fn listen_and_say(
        switch: StopSwitch,
        first_line: String,
        second_line: String,
    ) -> anyhow::Result<Self> {
        let first = Arc::new(AtomicI32::new(0));
        let (asked, number) = (switch.clone(), Arc::clone(&first));
        listen(move |signal| {
            if number.swap(signal, Ordering::AcqRel) != 0 {
                output::last_note(&second_line);
                end_all_commands();
                exit(128 + signal);
            }
            if asked.waits_for_ranks() {
                output::last_note("Ended before all processes of the run had come.");
                exit(128 + signal);
            }
            if is_first_rank() {
                output::note(&first_line);
            }
            asked.ask();
        })?;
        Ok(Self { switch, first })
    }

    /// What the run looks at after each step.
    pub(crate) fn switch(&self) -> &StopSwitch {
        &self.switch
    }

    /// Tells how a run has ended after `steps` steps.
    ///
    /// # Errors
    /// [`Stopped`] where it was asked to stop.
    pub(crate) fn check(&self, end: RunEnd, steps: u64) -> anyhow::Result<()> {
        match end {
            RunEnd::Finished => Ok(()),
            RunEnd::Stopped => Err(self.stopped(steps).into()),
        }
    }

    /// Whether a signal has come.
    pub(crate) fn has_come(&self) -> bool {
        self.first.load(Ordering::Acquire) != 0
    }

    /// The end of a command that has written `n_sets` sets.
    pub(crate) fn stopped_between_sets(&self, n_sets: usize) -> Stopped {
        let sets = counted(n_sets as u64, "set");
        let command = same_command(std::env::args().skip(1));
        let message = format!("Stopped after {sets}. Go on with: {command}");
        Stopped { message, signal: self.first.load(Ordering::Acquire) }
    }

    /// The end of a command that was asked to stop, with the command that goes on.
    fn stopped(&self, steps: u64) -> Stopped {
        let saved = match steps {
            0 => "Stopped before the first step was over.".to_owned(),
            steps => format!("Stopped after step {steps}, which is saved."),
        };
        let message = match is_first_rank() {
            true => format!("{saved} Go on with: {}", resume_command(std::env::args().skip(1))),
            false => String::new(),
        };
        // 0 where another process of the run was asked
        let signal = match self.first.load(Ordering::Acquire) {
            0 => SIGTERM,
            signal => signal,
        };
        Stopped { message, signal }
    }
}

/// Ends the program at the first stop signal, with a last line.
pub(crate) fn end_at_signal(last_line: String) -> anyhow::Result<()> {
    listen(move |signal| {
        output::last_note(&last_line);
        exit(128 + signal);
    })
}

/// Calls `take` with each stop signal, on a thread of its own.
fn listen(mut take: impl FnMut(i32) + Send + 'static) -> anyhow::Result<()> {
    let stops = [Some(SIGINT), Some(SIGTERM), (!is_hangup_ignored()).then_some(SIGHUP)];
    let signals = Signals::new(stops.into_iter().flatten());
    let mut signals = signals.context("listening for stop signals")?;
    let thread = std::thread::Builder::new().name("signals".to_owned());
    let thread = thread.spawn(move || signals.forever().for_each(&mut take));
    thread.context("starting the thread that listens for stop signals")?;
    Ok(())
}

/// Whether the program was started to outlive its terminal (`nohup`).
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

/// The command line that resumes the run of these arguments.
fn resume_command(args: impl Iterator<Item = String>) -> String {
    same_command(args.filter(|arg| arg != "--clean" && arg != "--resume")) + " --resume"
}

/// The command line of these arguments.
fn same_command(args: impl Iterator<Item = String>) -> String {
    let parts = std::iter::once("joust".to_owned()).chain(args.map(quoted));
    parts.collect::<Vec<_>>().join(" ")
}

/// An argument as a shell reads it.
fn quoted(arg: String) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    match !arg.is_empty() && arg.chars().all(is_plain) {
        true => arg,
        false => format!("'{}'", arg.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resume_command_is_the_same_command_with_resume() {
        let command = |args: &[&str]| resume_command(args.iter().map(|&arg| arg.to_owned()));
        assert_eq!(
            command(&["train", "a.toml", "--clean", "run.name=it's mine", "reward.x=[1]"]),
            "joust train a.toml 'run.name=it'\\''s mine' 'reward.x=[1]' --resume"
        );
        assert_eq!(command(&["sft", "--resume", "a.toml"]), "joust sft a.toml --resume");
    }
}
