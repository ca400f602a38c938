//! The Arrow tables of a step: built once, read by the trainer, and written as they are.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray as _, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;
use joust_reward::{GroupResult, PartScores};
use joust_rollout::RolloutBatch;
use joust_schema::group_rows::GroupRows;
use joust_schema::ids::Member;
use joust_schema::table::{Table as _, add_number_columns, join_columns, replace_column};
use joust_schema::tables::{Completion, Reward};

use super::scored::ScoredStep;
use crate::error::Error;

/// The tables `rollouts` and `rewards`: a row per completion, in the same order.
pub(super) struct StepTables {
    pub(super) rollouts: RecordBatch,
    pub(super) rewards: RecordBatch,
    /// The rows of each group.
    pub(super) groups: GroupRows,
}

impl StepTables {
    /// Packs the groups and their results, which are in the same order.
    pub(super) fn pack(batch: &RolloutBatch, results: &[GroupResult]) -> Result<Self, Error> {
        let rewards: Vec<&Reward> = results.iter().flat_map(|result| &result.rewards).collect();
        let rewards = add_number_columns(&Reward::to_batch(&rewards)?, part_columns(results))?;
        Ok(Self { rollouts: batch.to_arrow()?, rewards, groups: batch.group_rows() })
    }

    /// The tables of some groups, in their order.
    pub(super) fn select(&self, groups: &[usize]) -> Result<Self, Error> {
        let of_groups = |table: &RecordBatch| {
            let slice = |&group: &usize| {
                let rows = self.groups.rows(group);
                table.slice(rows.start, rows.len())
            };
            let slices: Vec<RecordBatch> = groups.iter().map(slice).collect();
            concat_batches(table.schema_ref(), &slices).map_err(joust_schema::Error::from)
        };
        Ok(Self {
            rollouts: of_groups(&self.rollouts)?,
            rewards: of_groups(&self.rewards)?,
            groups: groups.iter().map(|&group| self.groups.rows(group).len()).collect(),
        })
    }

    /// Puts the trainer's advantages for some groups into `rewards`; other groups have none.
    pub(super) fn set_advantages_of(
        &mut self,
        groups: &[usize],
        advantages: &ArrayRef,
    ) -> Result<(), Error> {
        let mut of_groups = advantages.as_primitive::<Float64Type>().iter();
        let mut of_rows = vec![None; self.groups.n_rows()];
        for row in groups.iter().flat_map(|&group| self.groups.rows(group)) {
            of_rows[row] = of_groups.next().flatten();
        }
        self.set_advantages(Arc::new(Float64Array::from(of_rows)))
    }

    /// Puts the trainer's advantages into `rewards`.
    pub(super) fn set_advantages(&mut self, advantages: ArrayRef) -> Result<(), Error> {
        self.rewards = replace_column(&self.rewards, "advantage", advantages)?;
        Ok(())
    }

    /// The table `completions`: columns of both tables, and three of its own.
    pub(super) fn completions(&self, step: &ScoredStep) -> Result<RecordBatch, Error> {
        let groups = || step.groups.iter();
        let lengths = groups().flat_map(|group| {
            group.rollout.completions.iter().map(|row| row.completion_token_ids.len() as i32)
        });
        let answers = groups().flat_map(|group| {
            std::iter::repeat_n(group.rollout.answer.as_deref(), group.rollout.completions.len())
        });
        let correctness = groups().flat_map(|group| {
            (0..group.rollout.completions.len()).map(|idx| group.is_correct(Member(idx as u32)))
        });
        let own: [(&str, ArrayRef); 3] = [
            ("completion_tokens", Arc::new(Int32Array::from_iter_values(lengths))),
            ("answer", Arc::new(answers.collect::<StringArray>())),
            ("correct", Arc::new(correctness.collect::<BooleanArray>())),
        ];
        let joined = join_columns::<Completion>(&own, &[&self.rollouts, &self.rewards])?;
        let results: Vec<&GroupResult> = step.results().collect();
        Ok(add_number_columns(&joined, part_columns(results))?)
    }
}

/// The columns `part_<name>`: the number that a part gave each completion, null where it gave none.
fn part_columns<'a>(
    results: impl IntoIterator<Item = &'a GroupResult>,
) -> Vec<(String, Float64Array)> {
    let results: Vec<&GroupResult> = results.into_iter().collect();
    let Some(first) = results.first() else { return Vec::new() };
    let column = |(idx, part): (usize, &PartScores)| {
        let of_group = |result: &&'a GroupResult| {
            let outcome = &result.parts[idx].outcome;
            (0..result.rewards.len()).map(|member| outcome.value(member)).collect::<Vec<_>>()
        };
        (format!("part_{}", part.name), results.iter().flat_map(of_group).collect())
    };
    first.parts.iter().enumerate().map(column).collect()
}
