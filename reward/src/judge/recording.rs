//! An engine judge that keeps count of its prompts: what sharing their beginnings could save, and
//! what it did save.

use super::engine::EngineJudge;
use super::interface::Judge;
use super::vote::{VoteId, VoteOutcome, VoteRequest};

/// Hands everything on to the judge inside, and remembers what was asked.
pub struct RecordingJudge {
    inner: EngineJudge,
    prompts: Vec<Vec<u32>>,
}

impl RecordingJudge {
    /// Puts the recorder around a judge.
    pub fn new(inner: EngineJudge) -> Self {
        Self { inner, prompts: Vec::new() }
    }

    /// The judge inside.
    pub fn inner(&self) -> &EngineJudge {
        &self.inner
    }

    /// Prompts that were asked, votes of one match one by one.
    pub fn n_prompts(&self) -> usize {
        self.prompts.len()
    }

    /// Tokens of all prompts together.
    pub fn prompt_tokens(&self) -> usize {
        self.prompts.iter().map(Vec::len).sum()
    }

    /// Tokens of the prompts where each beginning that several share counts once: the size of their
    /// trie, the least that can be computed.
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
        // what cannot be asked comes back from the judge with its reason
        let prompt = self.inner.prompt_token_ids(&request);
        self.prompts.extend(prompt.as_ref().ok().cloned());
        self.inner.submit_prompt(&request, prompt);
    }

    fn cancel(&mut self, id: VoteId) {
        self.inner.cancel(id);
    }

    fn clear_caches(&mut self) {
        self.inner.clear_caches();
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        self.inner.poll()
    }
}
