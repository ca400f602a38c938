//! The part of a step that leaves the weights as they are: prompts are sampled from, and their
//! groups scored; further prompts take the place of groups without spread.
//!
//! It does not know what is learned from the groups, nor who waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use joust_dist::Collectives;
use joust_engine::model::Decoder;
use joust_reward::PartScorer;
use joust_rollout::{GenerateRequest, PromptCursor, PromptRow, PromptSource, Sampler};
use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;
use joust_trainer::Metrics;

use super::evaluation::{Evaluation, EvaluationResult};
use super::exchange::own_prompts;
use super::failures::Failures;
use super::refill::StepGroups;
use super::round::{Round, RoundChecks, RoundStages};
use super::sampling;
use super::step_clock::RoundTimes;
use crate::config::train::TrainRun;
use crate::error::Error;
use crate::observer::{Event, Observer};
use crate::stop::StopSwitch;

/// Collects the groups of steps, and measures the policy.
pub(super) struct Collector {
    pub(super) config: Arc<TrainRun>,
    /// The processes of the run.
    pub(super) ranks: Arc<Collectives>,
    pub(super) seed: Seed,
    pub(super) prompts: PromptSource,
    pub(super) sampler: Box<dyn Sampler>,
    pub(super) scorer: PartScorer,
    pub(super) evaluation: Option<Evaluation>,
    pub(super) stop: StopSwitch,
    /// Once it is true, nobody waits for what is collected.
    pub(super) abandoned: Option<Arc<AtomicBool>>,
    /// The weights that are sampled from.
    pub(super) version: PolicyVersion,
    /// Whether the run has sampled a token.
    pub(super) has_sampled: bool,
}

/// How collecting a step has ended.
pub(super) enum Collected {
    /// Its groups are there.
    Step(Box<CollectedStep>),
    /// No prompts are left for it.
    NoPrompts,
    /// It would have needed further groups, or servers that are all gone, after the run was asked
    /// to stop.
    GivenUp,
}

/// The groups of a step, scored, and where they have come from.
pub(super) struct CollectedStep {
    pub(super) groups: StepGroups,
    pub(super) rounds: Vec<RoundTimes>,
    /// Metrics of the calls to servers.
    pub(super) metrics: Metrics,
    /// The weights that were sampled from.
    pub(super) version: PolicyVersion,
    /// Position in the prompts after the step's.
    pub(super) cursor: PromptCursor,
    /// Whether no prompts are left after the step's.
    pub(super) is_last: bool,
}

impl Collector {
    /// The groups of a step.
    ///
    /// # Errors
    /// Those of the stages, of [`RoundChecks`] and of the observer; [`Error::Ranks`].
    pub(super) fn collect(
        &mut self,
        step: u64,
        observer: &mut dyn Observer,
    ) -> Result<Collected, Error> {
        let mut prompts = self.prompts.next(self.config.train.prompts_per_step);
        if prompts.is_empty() {
            return Ok(Collected::NoPrompts);
        }
        let mut groups = StepGroups::new(self.config.train.max_refills);
        let mut rounds = Vec::new();
        loop {
            let round = self.round(step, groups.n_prompts(), &prompts, observer);
            let Round { batch, results, times } = match round {
                Err(Error::Rollout(joust_rollout::Error::Cancelled)) => {
                    observer.observe(Event::StepWithoutServers { step })?;
                    return Ok(Collected::GivenUp);
                }
                round => round?,
            };
            rounds.push(times);
            groups.add_round(prompts.len(), batch, results);
            Failures::of(&groups.results).check(step, &self.config.reward)?;
            prompts = self.prompts.next_unused(groups.n_refill(), groups.prompt_ids());
            let n_groups = prompts.len();
            if n_groups == 0 {
                break;
            }
            // with fewer rounds the step would not be that of an unbroken run
            if self.ranks.any(self.stop.is_asked())? {
                observer.observe(Event::StepGivenUp { step })?;
                return Ok(Collected::GivenUp);
            }
            observer.observe(Event::GroupsRefilled { step, n_groups })?;
        }
        // a failure of one rank until here is one of collecting on all
        self.ranks.barrier()?;
        self.has_sampled |= groups.batch.n_tokens > 0;
        Ok(Collected::Step(Box::new(CollectedStep {
            groups,
            rounds,
            metrics: sampling::metrics(&mut *self.sampler, &self.ranks)?,
            version: self.version,
            cursor: self.prompts.cursor(),
            is_last: self.prompts.is_exhausted(),
        })))
    }

    /// Whether nobody waits for what is collected.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.as_ref().is_some_and(|it| it.load(Ordering::Acquire))
    }

    /// Samples a group of completions per prompt, and scores the groups meanwhile.
    fn round(
        &mut self,
        step: u64,
        n_groups_before: usize,
        prompts: &[PromptRow],
        observer: &mut dyn Observer,
    ) -> Result<Round, Error> {
        let rollout = &self.config.rollout;
        let world = self.ranks.world();
        let own = own_prompts(&self.ranks, prompts);
        let request = GenerateRequest {
            step: step as i64,
            policy_version: self.version,
            prompts: &own,
            n_groups_before: n_groups_before + world.rank,
            group_stride: world.size,
            seed: self.seed,
            group_size: None,
            temperature: None,
            cancelled: self.abandoned.as_ref(),
            stop: rollout.kind.is_servers().then(|| self.stop.flag()),
        };
        let checks = RoundChecks {
            step,
            is_new: !self.has_sampled && n_groups_before == 0,
            has_learned: self.version > PolicyVersion(0),
            is_masked: self.config.trainer.mask_truncated_completions && n_groups_before == 0,
            max_tokens: rollout.max_completion_length,
        };
        let stages = RoundStages {
            ranks: &self.ranks,
            sampler: &mut *self.sampler,
            scorer: &mut self.scorer,
            checks,
            group_size: rollout.group_size as usize,
            reward_seed: self.seed.child("reward", step),
        };
        stages.run(&request, observer)
    }

    /// Frees the memory that the next weights make anew: nothing is sampled before these.
    ///
    /// # Errors
    /// [`Error::Rollout`]
    pub(super) fn release(&mut self) -> Result<(), Error> {
        Ok(self.sampler.release()?)
    }

    /// Has all that samples take the policy.
    ///
    /// # Errors
    /// As [`sampling::publish`].
    pub(super) fn publish(
        &mut self,
        policy: &Decoder,
        version: PolicyVersion,
    ) -> Result<(), Error> {
        self.version = version;
        sampling::publish(&mut *self.sampler, policy, version, &self.ranks)
    }

    /// Measures the policy on held-out prompts.
    ///
    /// # Errors
    /// [`Error::Rollout`], [`Error::Ranks`]
    pub(super) fn evaluate(&mut self) -> Result<Measured, Error> {
        let Some(evaluation) = &self.evaluation else { return Ok(Measured::Nothing) };
        let (sampler, ranks) = (&mut *self.sampler, &*self.ranks);
        let measured = evaluation.run(sampler, self.seed, &self.stop, ranks)?;
        Ok(measured.map_or(Measured::BrokenOff, Measured::Policy))
    }
}

/// What became of a measurement.
pub(super) enum Measured {
    /// The policy is measured.
    Policy(EvaluationResult),
    /// The config has no held-out prompts.
    Nothing,
    /// A stop has broken it off.
    BrokenOff,
}
