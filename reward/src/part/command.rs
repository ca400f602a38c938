//! The part `command`: a program beside the run, which reads a line of JSON per group and writes
//! one.
//!
//! It starts the program, and starts it again where it has failed. It does not know pipes.

mod live;
mod process;

use std::time::Duration;

pub use live::end_all;

use super::group::PartGroup;
use super::outcome::PartOutcome;
use super::source::{PartQuestions, PartSource};
use super::wire;
use crate::config::part::CommandPartConfig;
use crate::error::Error;
use process::RewardProcess;

/// Number of lines in a step that are no answers after which the program is not asked any more.
const MAX_ODD_LINES: usize = 2;

/// Why the program is not asked any more.
const PRINTS_MORE: &str = "two lines of the program in this step were no answers, so that it is \
                           not asked any more: its standard output is for answers alone";

/// A program that scores groups, one at a time.
pub(super) struct CommandPart {
    name: String,
    words: Vec<String>,
    timeout: Duration,
    /// Largest share of the completions for which the part may fail before nobody is asked.
    max_failed: f64,
    /// Number of lines in this step that were no answers.
    n_odd: usize,
    /// None before the first start and after a failure.
    process: Option<RewardProcess>,
}

impl CommandPart {
    /// Starts the program.
    ///
    /// # Errors
    /// [`Error::Config`] for a program that cannot be started.
    pub(super) fn open(
        name: &str,
        config: &CommandPartConfig,
        max_failed: f64,
    ) -> Result<Self, Error> {
        let mut part = Self {
            name: name.to_owned(),
            words: config.run.clone(),
            timeout: Duration::from_secs_f64(config.timeout_s),
            max_failed,
            n_odd: 0,
            process: None,
        };
        let started = RewardProcess::start(&part.name, &part.words);
        part.process = Some(started.map_err(Error::Config)?);
        Ok(part)
    }

    /// The numbers of a group. A program that ends or is too slow is started once more; what is no
    /// answer ends it, because its next line may be the answer to an earlier question.
    fn score_group(&mut self, group: &PartGroup) -> Result<Vec<Option<f64>>, String> {
        let question = wire::question(group);
        let mut line = question.get().as_bytes().to_vec();
        line.push(b'\n');
        let mut failure = String::new();
        for attempt in 1..=2 {
            let mut process = match self.process.take() {
                Some(process) => process,
                None => RewardProcess::start(&self.name, &self.words)?,
            };
            match process.ask(line.clone(), self.timeout) {
                Ok(answer) => {
                    let (id, n) = (&group.request.group_id.0, group.request.completions.len());
                    let numbers =
                        wire::read_line(&answer, id, n).inspect_err(|_| self.n_odd += 1)?;
                    self.process = Some(process);
                    return Ok(numbers);
                }
                Err(fault) => {
                    failure = process.end(fault, self.timeout);
                    tracing::warn!(
                        part = self.name, group_id = %group.request.group_id, attempt, failure,
                        "The program of a part of the reward has failed."
                    );
                }
            }
        }
        Err(format!("twice: {failure}"))
    }
}

impl PartSource for CommandPart {
    fn score(&mut self, questions: PartQuestions) {
        let n_all = questions.max_completions;
        let mut n_failed = 0;
        self.n_odd = 0;
        questions.answer_each(|group| {
            // the step fails anyway, and each further group may take the whole time twice
            if n_failed as f64 > self.max_failed * n_all as f64 {
                return PartOutcome::Failed("not asked after too many failures".to_owned());
            }
            // a program that prints more than answers would lose every second group
            let numbers = match self.n_odd {
                MAX_ODD_LINES.. => Err(PRINTS_MORE.to_owned()),
                _ => self.score_group(group),
            };
            numbers.map_or_else(
                |reason| {
                    n_failed += group.request.completions.len();
                    PartOutcome::Failed(reason)
                },
                PartOutcome::Given,
            )
        });
    }

    /// A program may remember what it was asked before.
    fn needs_order(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
