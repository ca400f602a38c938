//! The known answer of a row: in a column of its own, or where verl keeps it.
//!
//! It does not know how answers are compared.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::row::Row;
use crate::error::Error;
use crate::known::known_answer;
use crate::prompt::PromptUse;

/// The column in which verl keeps the known answer, as `ground_truth`.
pub const VERL_COLUMN: &str = "reward_model";

impl Row {
    /// The known answer in `column`, or verl's where that is missing or null, as text (see
    /// [`known_answer`]).
    ///
    /// # Errors
    /// The reason why the cell is no answer.
    pub fn answer(&self, column: &str) -> Result<Option<String>, Error> {
        let own = match self.get(column) {
            None => None,
            Some(cell) => known_answer(cell).map_err(|reason| self.cell_error(column, reason))?,
        };
        match own {
            Some(answer) => Ok(Some(answer)),
            None => self.ground_truth(),
        }
    }

    /// As [`Row::answer`]. Where nobody compares answers, what is no answer counts as none.
    ///
    /// # Errors
    /// As [`Row::answer`], where answers are compared.
    pub fn answer_for(&self, purpose: PromptUse, column: &str) -> Result<Option<String>, Error> {
        match purpose {
            PromptUse::Answers | PromptUse::JudgeAndAnswers => self.answer(column),
            PromptUse::Judge | PromptUse::Nothing => Ok(self.answer(column).ok().flatten()),
        }
    }

    fn ground_truth(&self) -> Result<Option<String>, Error> {
        #[derive(Deserialize)]
        struct RewardModel {
            ground_truth: Option<Box<RawValue>>,
        }
        // the column may be anything in files of other programs
        let Ok(Some(RewardModel { ground_truth: Some(answer) })) = self.optional(VERL_COLUMN)
        else {
            return Ok(None);
        };
        known_answer(&answer).map_err(|reason| self.cell_error("reward_model.ground_truth", reason))
    }
}
