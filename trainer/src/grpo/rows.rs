//! A step's two tables with their columns read in place: checked against each other, and the
//! samples that are trained on.

use joust_schema::group_rows::GroupRows;
use joust_schema::table::Table as _;
use joust_schema::tables::{FinishReason, Reward, RewardColumns, Rollout, RolloutColumns};

use super::step::ScoredTables;
use crate::error::Error;
use crate::sample::TrainingSample;

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

    /// Row by row, whether the completion ended by itself.
    pub(super) fn ended(&self) -> Vec<bool> {
        self.rollouts.finish_reason.iter().map(|reason| reason == FinishReason::Stop).collect()
    }

    /// All completions without advantages; those of `masked` have no trained token. As in TRL, each
    /// counts in the denominators of the loss: also one without a reward (its advantage is 0) and a
    /// masked one.
    ///
    /// # Errors
    /// [`Error::Batch`] for a completion that cannot be trained on, and for one without the
    /// sampler's log-probabilities where they are needed.
    pub(super) fn samples(
        &self,
        masked: &[bool],
        needs_behaviour: bool,
    ) -> Result<Vec<TrainingSample>, Error> {
        let mut samples = Vec::with_capacity(masked.len());
        for (group, rows) in self.groups.iter().enumerate() {
            for row in rows {
                let sample = self.sample(row, group, needs_behaviour)?;
                samples.push(if masked[row] { sample.masked() } else { sample });
            }
        }
        Ok(samples)
    }

    fn sample(
        &self,
        row: usize,
        group: usize,
        needs_behaviour: bool,
    ) -> Result<TrainingSample, Error> {
        let prompt = self.rollouts.prompt_token_ids.get(row);
        let completion = self.rollouts.completion_token_ids.get(row);
        let behaviour = self.rollouts.behaviour_logprobs.get(row);
        let bad = |reason: String| {
            let (group, member) = (self.rollouts.group_id.get(row), self.rollouts.member.get(row));
            Error::Batch(format!("group {group} member {member}{reason}"))
        };
        let n_tokens = completion.len();
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
        if prompt.is_empty() || completion.is_empty() {
            return Err(bad(" has an empty prompt or completion".to_owned()));
        }
        let behaviour = behaviour.map(<[f32]>::to_vec);
        Ok(TrainingSample { behaviour, ..TrainingSample::of_completion(prompt, completion, group) })
    }
}
