//! Scoring by parts: groups in, rewards with the numbers of each part out.
//!
//! All parts work at the same time, the judge on the caller's thread. What a part says about a
//! group depends on no other part; only a judge for tied groups waits for the others. It does not
//! know how a part finds its numbers.

use joust_schema::ids::Member;
use joust_schema::tables::{Reward, Status};

use super::combine::{self, WeightedPart};
use super::group::PartGroup;
use super::open::{OpenKind, OpenPart, judge_of, open_parts};
use super::outcome::{PartOutcome, PartScores};
use crate::arena::{GroupRequest, GroupResult};
use crate::config::RewardConfig;
use crate::config::part::{Combine, JudgeWhen};
use crate::error::Error;
use crate::scorer::Scorer;

/// The open parts of a reward. A reward without parts is that of a [`Scorer`].
pub struct PartScorer {
    parts: Vec<OpenPart>,
    combine: Combine,
    /// The judge; without parts, whatever `reward.kind` says.
    scorer: Option<Scorer>,
}

impl PartScorer {
    /// Opens all parts: starts programs, loads the judge.
    ///
    /// # Errors
    /// [`Error::Config`] with all problems of the settings, and for a program that cannot be
    /// started; the errors of loading the judge.
    pub fn open(config: &RewardConfig) -> Result<Self, Error> {
        let problems = config.validate();
        if !problems.is_empty() {
            return Err(Error::Config(problems.join("; ")));
        }
        // a judge takes long to load: a program that cannot be started is told before
        let parts = open_parts(config)?;
        let judge = match parts.is_empty() {
            true => Some(config.clone()),
            false => judge_of(config),
        };
        let scorer = judge.map(|config| Scorer::open(&config, false)).transpose()?;
        Ok(Self { parts, combine: config.combine, scorer })
    }

    /// Name of the judge; `none` where no part is one.
    pub fn judge_name(&self) -> &str {
        self.scorer.as_ref().map_or("none", Scorer::judge_name)
    }

    /// Scores all groups and returns their results in the same order. `progress` is called with
    /// every group that the judge has finished.
    ///
    /// # Errors
    /// As [`Scorer::score_all`].
    pub fn score_all(
        &mut self,
        groups: Vec<PartGroup>,
        progress: &mut dyn FnMut(),
    ) -> Result<Vec<GroupResult>, Error> {
        if self.parts.is_empty() {
            let requests = groups.into_iter().map(|group| group.request).collect();
            let judged = self.scorer.as_mut().map(|scorer| scorer.score_all(requests, progress));
            return judged.expect("a reward without parts has a scorer. This is a bug.");
        }
        let when = self.parts.iter().find_map(OpenPart::when_judged);
        let all = vec![when == Some(JudgeWhen::Always); groups.len()];
        let mut judge = |scorer: &mut Option<Scorer>, is_asked: &[bool]| match scorer {
            Some(scorer) => judged(scorer, &groups, is_asked, progress),
            None => Ok(vec![None; groups.len()]),
        };
        let (mut outcomes, mut results) =
            sources_beside(&mut self.parts, &groups, || judge(&mut self.scorer, &all))?;
        if when == Some(JudgeWhen::Tied) {
            let is_tied = |(group, said): (&PartGroup, &Vec<PartOutcome>)| {
                let n = group.request.completions.len();
                combine::are_tied(&combined(&self.parts, self.combine, group, said))
                    || combine::are_silent(&weighted(&self.parts, said), n)
            };
            let tied: Vec<bool> = groups.iter().zip(&outcomes).map(is_tied).collect();
            results = judge(&mut self.scorer, &tied)?;
        }
        let judge_at = self.parts.iter().position(|part| part.when_judged().is_some());
        for (outcomes, result) in outcomes.iter_mut().zip(&results) {
            if let (Some(at), Some(result)) = (judge_at, result) {
                let votes = result.rewards.iter().map(|row| row.reward);
                outcomes[at] = PartOutcome::Given(votes.collect());
            }
        }
        let results = groups.iter().zip(results).zip(outcomes);
        Ok(results.map(|((group, judged), said)| self.result(group, judged, said)).collect())
    }

    /// The result of a group: the judge's, with the reward that the parts make.
    fn result(
        &self,
        group: &PartGroup,
        judged: Option<GroupResult>,
        outcomes: Vec<PartOutcome>,
    ) -> GroupResult {
        let rewards = combined(&self.parts, self.combine, group, &outcomes);
        let mut result = judged.unwrap_or_else(|| without_judge(&group.request));
        for (row, reward) in result.rewards.iter_mut().zip(rewards) {
            row.reward = reward;
            row.status = match (reward, row.status) {
                (Some(_), _) => Status::Scored,
                (None, Status::Scored) => Status::PartFailed,
                (None, of_judge) => of_judge,
            };
        }
        for (part, outcome) in self.parts.iter().zip(outcomes) {
            if let PartOutcome::Failed(reason) = &outcome {
                tracing::warn!(
                    part = part.name, group_id = %group.request.group_id, reason,
                    "A part of the reward has no numbers for a group."
                );
            }
            let (name, counts) = (part.name.clone(), part.weight != 0.0);
            result.parts.push(PartScores { name, counts, outcome });
        }
        result
    }
}

/// Asks all parts but the judge, each on a thread of its own, while `work` is done on this one.
/// What the parts say is by group; the judge's part is not asked yet.
fn sources_beside<T>(
    parts: &mut [OpenPart],
    groups: &[PartGroup],
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<(Vec<Vec<PartOutcome>>, T), Error> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .iter_mut()
            .map(|part| match &mut part.of {
                OpenKind::Judge(_) => None,
                OpenKind::Source(source) => Some(scope.spawn(|| source.score(groups))),
            })
            .collect();
        let done = work()?;
        let mut outcomes = vec![Vec::new(); groups.len()];
        for thread in threads {
            let said = match thread.map(std::thread::ScopedJoinHandle::join) {
                None => vec![PartOutcome::NotAsked; groups.len()],
                Some(Ok(said)) => said,
                Some(Err(panic)) => std::panic::resume_unwind(panic),
            };
            outcomes.iter_mut().zip(said).for_each(|(of_group, said)| of_group.push(said));
        }
        Ok((outcomes, done))
    })
}

/// Lets the judge compare the groups that are asked for; none for the others.
fn judged(
    scorer: &mut Scorer,
    groups: &[PartGroup],
    is_asked: &[bool],
    progress: &mut dyn FnMut(),
) -> Result<Vec<Option<GroupResult>>, Error> {
    let asked = groups.iter().zip(is_asked).filter(|(_, is_asked)| **is_asked);
    let requests: Vec<GroupRequest> = asked.map(|(group, _)| group.request.clone()).collect();
    let mut results = scorer.score_all(requests, progress)?.into_iter();
    Ok(is_asked.iter().map(|&is_asked| is_asked.then(|| results.next()).flatten()).collect())
}

/// The rewards of a group, member by member.
fn combined(
    parts: &[OpenPart],
    how: Combine,
    group: &PartGroup,
    outcomes: &[PartOutcome],
) -> Vec<Option<f64>> {
    combine::rewards(&weighted(parts, outcomes), group.request.completions.len(), how)
}

/// What the parts say about a group, and how each counts.
fn weighted<'a>(parts: &[OpenPart], outcomes: &'a [PartOutcome]) -> Vec<WeightedPart<'a>> {
    let weighted = |(part, outcome): (&OpenPart, &'a PartOutcome)| {
        let (weight, is_optional) = (part.weight, part.is_optional);
        WeightedPart { weight, is_optional, outcome }
    };
    parts.iter().zip(outcomes).map(weighted).collect()
}

/// A group that no judge has seen. Its members have no reward yet.
fn without_judge(request: &GroupRequest) -> GroupResult {
    let row = |member: usize| Reward {
        group_id: request.group_id.clone(),
        member: Member(member as u32),
        status: Status::Scored,
        reward: None,
        win_rate: None,
        rating: None,
        rating_stderr: None,
        wins: 0,
        losses: 0,
        rank: None,
        advantage: None,
    };
    GroupResult {
        group_id: request.group_id.clone(),
        rewards: (0..request.completions.len()).map(row).collect(),
        matches: Vec::new(),
        votes: Vec::new(),
        winner: None,
        position_bias: None,
        position_bias_stderr: None,
        is_refused: false,
        correctness: Vec::new(),
        parts: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
