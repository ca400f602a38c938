//! What samples from a policy, as the loop of training sees it.
//!
//! It does not know where the completions come from.

use joust_engine::model::Decoder;
use joust_schema::ids::PolicyVersion;

use crate::error::Error;
use crate::group::RolloutBatch;
use crate::sampling::request::{GenerateRequest, RolloutProgress};
use crate::sampling::{Sampling, SamplingEvent};

/// Samples groups of completions from the newest version of a policy.
pub trait Sampler: Send {
    /// Number of workers, or of servers.
    fn n_workers(&self) -> usize;

    /// Whether equal requests give equal groups, byte for byte.
    fn is_repeatable(&self) -> bool;

    /// Begins to sample a group for every prompt.
    ///
    /// A prompt that cannot be sampled from (too long for the context, refused by the chat
    /// template) is dropped with its reason.
    ///
    /// # Errors
    /// Where nothing can be sampled at all.
    fn start(&mut self, request: &GenerateRequest<'_>) -> Result<Sampling<'_>, Error>;

    /// Frees the memory on this machine that the next weights make anew, for what comes before
    /// these.
    ///
    /// # Errors
    /// [`Error::Worker`] where a worker failed.
    fn release(&mut self) -> Result<(), Error>;

    /// Samples from `policy` from now on: all that sample have it when this returns.
    ///
    /// # Errors
    /// Where one of them cannot take it.
    fn publish(&mut self, policy: &Decoder, version: PolicyVersion) -> Result<(), Error>;

    /// Counts since they were last taken.
    fn take_counts(&mut self) -> SamplerCounts {
        SamplerCounts::default()
    }

    /// Samples a group for every prompt: as [`Sampler::start`], and waits.
    ///
    /// # Errors
    /// As [`Sampler::start`]; where a worker failed; [`Error::Cancelled`].
    fn generate(
        &mut self,
        request: &GenerateRequest<'_>,
        progress: &mut dyn FnMut(RolloutProgress),
    ) -> Result<RolloutBatch, Error> {
        let n_groups_total = request.prompts.len();
        let mut sampling = self.start(request)?;
        let mut n_groups = 0;
        while let SamplingEvent::Finished(_) = sampling.next(None) {
            n_groups += 1;
            progress(RolloutProgress { n_groups, n_groups_total, n_tokens: sampling.n_tokens() });
        }
        sampling.finish()
    }
}

/// What a sampler that calls servers has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SamplerCounts {
    /// Number of groups that servers have sampled.
    pub n_groups: u64,
    /// Number of calls that failed and were made again.
    pub n_retries: u64,
    /// Number of answers that were thrown away because they were not what was asked for.
    pub n_bad_answers: u64,
    /// Number of groups that were thrown away because their server did not hold the newest version
    /// of the policy.
    pub n_stale_groups: u64,
    /// Number of servers that did not hold the newest version when a request began; the most of
    /// all requests.
    pub n_servers_down: u64,
}
