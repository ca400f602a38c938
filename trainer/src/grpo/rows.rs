//! A step's two tables with their columns read in place: checked against each other, and the rows
//! that are trained on.

use joust_schema::group_rows::GroupRows;
use joust_schema::table::Table as _;
use joust_schema::tables::{FinishReason, Reward, RewardColumns, Rollout, RolloutColumns};

use super::step::ScoredTables;
use crate::batch::TokenRow;
use crate::error::Error;

/// One completion of a step. As in TRL, each counts in the denominators of the loss: also one
/// without a reward (its advantage is 0) and one whose tokens are masked.
pub(super) struct TrainingRow<'a> {
    pub(super) tokens: TokenRow<'a, i32>,
    pub(super) advantage: f64,
    /// Whether no token of the completion is in the loss.
    pub(super) is_masked: bool,
    /// Log-probability with which the sampler drew each token, where it is known.
    pub(super) behaviour: Option<&'a [f32]>,
}

impl TrainingRow<'_> {
    /// Number of tokens in the loss.
    pub(super) fn n_loss_tokens(&self) -> usize {
        if self.is_masked { 0 } else { self.tokens.completion.len() }
    }
}

/// The columns of both tables, and the rows of each group.
pub(super) struct ScoredColumns<'a> {
    rollouts: RolloutColumns,
    rewards: RewardColumns,
    pub(super) groups: &'a GroupRows,
}

impl<'a> ScoredColumns<'a> {
    /// Opens the columns of tables that fit together.
    pub(super) fn open(tables: &ScoredTables<'a>) -> Result<Self, Error> {
        let n_rows = tables.rollouts.num_rows();
        let others = [
            ("rewards has", tables.rewards.num_rows()),
            ("the groups have", tables.groups.n_rows()),
        ];
        for (other, n_other) in others {
            if n_other != n_rows {
                let text = format!("rollouts has {n_rows} rows, {other} {n_other}");
                return Err(Error::Batch(text));
            }
        }
        let columns = Self {
            rollouts: Rollout::columns(tables.rollouts)?,
            rewards: Reward::columns(tables.rewards)?,
            groups: tables.groups,
        };
        for rows in columns.groups.iter() {
            for row in rows.clone() {
                columns.check_pair(row)?;
            }
            for row in rows.skip(1) {
                columns.check_order(row)?;
            }
        }
        Ok(columns)
    }

    /// Checks that both tables have the same completion in a row.
    fn check_pair(&self, row: usize) -> Result<(), Error> {
        let rollout = (self.rollouts.group_id.get(row), self.rollouts.member.get(row));
        let reward = (self.rewards.group_id.get(row), self.rewards.member.get(row));
        if rollout != reward {
            return Err(Error::Batch(format!(
                "row {row} is group {} member {} in rollouts, group {} member {} in rewards",
                rollout.0, rollout.1, reward.0, reward.1
            )));
        }
        Ok(())
    }

    /// Checks that a row follows the one before it in the same group.
    fn check_order(&self, row: usize) -> Result<(), Error> {
        let [before, after] = [row - 1, row]
            .map(|row| (self.rollouts.group_id.get(row), self.rollouts.member.get(row)));
        if before.0 != after.0 || before.1 >= after.1 {
            return Err(Error::Batch(format!(
                "row {row} is group {} member {} after group {} member {}, wanted the members of a \
                 group in ascending order",
                after.0, after.1, before.0, before.1
            )));
        }
        Ok(())
    }

    /// Rewards row by row.
    pub(super) fn rewards(&self) -> Vec<Option<f64>> {
        self.rewards.reward.iter().collect()
    }

    /// Number of completion tokens row by row.
    pub(super) fn completion_lengths(&self) -> Vec<usize> {
        self.rollouts.completion_token_ids.iter().map(<[i32]>::len).collect()
    }

    /// Row by row, whether the completion ended by itself.
    pub(super) fn ended(&self) -> Vec<bool> {
        self.rollouts.finish_reason.iter().map(|reason| reason == FinishReason::Stop).collect()
    }

    /// All completions; those of `masked` have no token in the loss.
    ///
    /// # Errors
    /// [`Error::Batch`] for a completion that cannot be trained on, and for one without the
    /// sampler's log-probabilities where they are needed.
    pub(super) fn training_rows(
        &self,
        advantages: &[Option<f64>],
        masked: &[bool],
        needs_behaviour: bool,
    ) -> Result<Vec<TrainingRow<'_>>, Error> {
        let rows = advantages.iter().zip(masked).enumerate();
        rows.map(|(row, (advantage, is_masked))| {
            self.training_row(row, advantage.unwrap_or(0.0), *is_masked, needs_behaviour)
        })
        .collect()
    }

    fn training_row(
        &self,
        row: usize,
        advantage: f64,
        is_masked: bool,
        needs_behaviour: bool,
    ) -> Result<TrainingRow<'_>, Error> {
        let tokens = TokenRow {
            prompt: self.rollouts.prompt_token_ids.get(row),
            completion: self.rollouts.completion_token_ids.get(row),
        };
        let behaviour = self.rollouts.behaviour_logprobs.get(row);
        let bad = |reason: String| {
            let (group, member) = (self.rollouts.group_id.get(row), self.rollouts.member.get(row));
            Error::Batch(format!("group {group} member {member}{reason}"))
        };
        let n_tokens = tokens.completion.len();
        let counts = [Some(self.rollouts.completion_logprobs.get(row)), behaviour];
        if let Some(n) = counts.iter().flatten().map(|list| list.len()).find(|&n| n != n_tokens) {
            return Err(bad(format!(": {n} log-probabilities for {n_tokens} tokens")));
        }
        if behaviour.is_none() && needs_behaviour {
            return Err(bad(
                ": behaviour_logprobs is null, wanted numbers for trainer.loss.correction"
                    .to_owned(),
            ));
        }
        if tokens.prompt.is_empty() || tokens.completion.is_empty() {
            return Err(bad(" has an empty prompt or completion".to_owned()));
        }
        Ok(TrainingRow { tokens, advantage, is_masked, behaviour })
    }
}
