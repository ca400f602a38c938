//! An engine judge that records its prompts, to measure how much computation prefix sharing can
//! save and does save. It does not change a vote.

use super::engine::EngineJudge;
use super::interface::Judge;
use super::vote::{VoteId, VoteOutcome, VoteRequest};

/// Passes all votes to the inner judge and records their prompts.
pub struct RecordingJudge {
    inner: EngineJudge,
    prompts: Vec<Vec<u32>>,
}

impl RecordingJudge {
    /// Records the prompts of a judge.
    pub fn new(inner: EngineJudge) -> Self {
        Self { inner, prompts: Vec::new() }
    }

    /// The inner judge.
    pub fn inner(&self) -> &EngineJudge {
        &self.inner
    }

    /// Number of prompts, one per vote.
    pub fn n_prompts(&self) -> usize {
        self.prompts.len()
    }

    /// Number of tokens of all prompts.
    pub fn prompt_tokens(&self) -> usize {
        self.prompts.iter().map(Vec::len).sum()
    }

    /// Number of tokens of all prompts if each shared prefix counts once: the size of their trie,
    /// the smallest number that must be computed.
    pub fn trie_tokens(&self) -> usize {
        let mut sorted: Vec<&Vec<u32>> = self.prompts.iter().collect();
        sorted.sort();
        let shared = |a: &[u32], b: &[u32]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let known = sorted.windows(2).map(|pair| shared(pair[0], pair[1]));
        self.prompt_tokens() - known.sum::<usize>()
    }
}

impl Judge for RecordingJudge {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    fn submit(&mut self, request: VoteRequest) {
        // a vote without a prompt comes back from the inner judge with the reason
        let prompt = self.inner.prompt_token_ids(&request);
        self.prompts.extend(prompt.as_ref().ok().cloned());
        self.inner.submit_prompt(&request, prompt);
    }

    fn cancel(&mut self, id: VoteId) {
        self.inner.cancel(id);
    }

    fn is_batch_dependent(&self) -> bool {
        self.inner.is_batch_dependent()
    }

    fn clear_caches(&mut self) {
        self.inner.clear_caches();
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        self.inner.poll()
    }
}
