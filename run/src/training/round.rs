//! A round of a step: groups are sampled, and each goes to the reward as soon as it is whole.
//!
//! It does not know what is learned from the groups.

use std::time::{Duration, Instant};

use joust_dist::Collectives;
use joust_reward::{GroupResult, PartScorer, Scoring, StepSize};
use joust_rollout::{
    DroppedPrompt, GenerateRequest, RolloutBatch, Sampler, Sampling, SamplingEvent,
};
use joust_schema::seed::Seed;
use joust_schema::tables::FinishReason;

use super::exchange;
use super::part_groups::part_group;
use super::step_clock::RoundTimes;
use crate::error::Error;
use crate::observer::{Event, Observer};

/// Maximum time to wait for a group or an answer before the others are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The groups of a round, with their results in the same order.
pub(super) struct Round {
    pub(super) batch: RolloutBatch,
    pub(super) results: Vec<GroupResult>,
    pub(super) times: RoundTimes,
}

/// What a round works with.
pub(super) struct RoundStages<'a> {
    pub(super) ranks: &'a Collectives,
    pub(super) sampler: &'a mut dyn Sampler,
    pub(super) scorer: &'a mut PartScorer,
    pub(super) checks: RoundChecks,
    /// Number of completions per group.
    pub(super) group_size: usize,
    /// Key of the draws of judging.
    pub(super) reward_seed: Seed,
}

impl RoundStages<'_> {
    /// Samples a group per prompt of this rank, and scores the groups meanwhile. The groups of
    /// all ranks are rated together; the round is that of all ranks.
    ///
    /// # Errors
    /// The stages' failures, those of [`RoundChecks`], [`Error::Ranks`].
    pub(super) fn run(
        self,
        request: &GenerateRequest<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Round, Error> {
        let Self { ranks, sampler, scorer, checks, group_size, reward_seed } = self;
        let began = Instant::now();
        let mut sampling = sampler.start(request)?;
        let size = StepSize { n_groups: request.prompts.len(), group_size };
        let feed = |scoring: &mut Scoring<'_>| {
            let mut reward_began = None;
            loop {
                // while the judge has work, it is the one to wait for
                let wait = if scoring.is_judging() { Duration::ZERO } else { LOOK };
                let mut event = sampling.next(Some(wait));
                while let SamplingEvent::Finished(prompt_idx) = event {
                    match sampling.group(prompt_idx) {
                        Some(group) => {
                            let group = part_group(request.step, group, reward_seed);
                            scoring.add(prompt_idx, group)?;
                        }
                        None => scoring.skip(prompt_idx)?,
                    }
                    observer.observe(Event::Progressed)?;
                    event = sampling.next(Some(Duration::ZERO));
                }
                if event == SamplingEvent::Over {
                    break;
                }
                if scoring.has_begun() {
                    reward_began.get_or_insert_with(Instant::now);
                }
                if scoring.poll(Duration::ZERO)? > 0 {
                    observer.observe(Event::Progressed)?;
                }
            }
            let own = finished(sampling, request, ranks)?;
            let sampled = Instant::now();
            let batch = exchange::of_all_ranks(ranks, request.prompts, own)?;
            checks.check(&batch, observer)?;
            scoring.close()?;
            while !scoring.is_done() {
                if request.is_cancelled() {
                    return Err(joust_rollout::Error::Cancelled.into());
                }
                if scoring.poll(LOOK)? > 0 {
                    observer.observe(Event::Progressed)?;
                }
            }
            Ok::<_, Error>((batch, reward_began.unwrap_or(sampled), sampled))
        };
        let ((batch, reward_began, sampled), own) = scorer.score(size, feed)?;
        let results = exchange::results_of_all_ranks(ranks, &batch.groups, own)?;
        let times = RoundTimes { began, reward_began, sampled, scored: Instant::now() };
        Ok(Round { batch, results, times })
    }
}

/// The groups of this rank. Where a stop broke the wait for servers off on any rank, it did on all.
fn finished(
    sampling: Sampling<'_>,
    request: &GenerateRequest<'_>,
    ranks: &Collectives,
) -> Result<RolloutBatch, Error> {
    let own = match sampling.finish() {
        Err(joust_rollout::Error::Cancelled) => None,
        own => Some(own?),
    };
    let is_given_up = request.stop.is_some() && ranks.any(own.is_none())?;
    own.filter(|_| !is_given_up).ok_or_else(|| joust_rollout::Error::Cancelled.into())
}

/// What is refused of the groups of a round once they are sampled.
pub(super) struct RoundChecks {
    pub(super) step: u64,
    /// No step of the run has sampled a token.
    pub(super) is_new: bool,
    /// The run has made an update.
    pub(super) has_learned: bool,
    /// The round is the step's first, and truncated completions are left out of the loss.
    pub(super) is_masked: bool,
    /// Maximum number of tokens of a completion.
    pub(super) max_tokens: usize,
}

impl RoundChecks {
    /// Fails where nothing can be sampled or learned from. A run that has come further goes on.
    fn check(&self, batch: &RolloutBatch, observer: &mut dyn Observer) -> Result<(), Error> {
        let step = self.step;
        for DroppedPrompt { prompt_id, reason } in &batch.dropped {
            observer.observe(Event::PromptDropped { step, prompt_id, reason })?;
        }
        match batch.dropped.first() {
            Some(first) if self.is_new && batch.groups.is_empty() => Err(Error::input(format!(
                "step {step}: none of {} prompts can be sampled from; prompt {}: {}",
                batch.dropped.len(),
                first.prompt_id,
                first.reason
            ))),
            _ => self.check_lengths(batch, observer),
        }
    }

    fn check_lengths(
        &self,
        batch: &RolloutBatch,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let &Self { step, max_tokens, .. } = self;
        let are_truncated =
            batch.completions().all(|row| row.finish_reason == FinishReason::Length);
        let n_completions = batch.completions().count();
        if !(self.is_masked && are_truncated && n_completions > 0) {
            return Ok(());
        }
        if !self.has_learned {
            return Err(Error::AllTruncated { step, n_completions, max_tokens });
        }
        observer.observe(Event::AllTruncated { step, n_completions, max_tokens })
    }
}
