//! A judge that asks the judge inside once for what several want: verdicts are kept, and a vote that
//! is under way serves all who want it.
//!
//! The same vote is the same place and try of a comparison with the same question, the same answers in
//! the same order, the same judge and settings of sampling. The key of its draws is not looked at: the
//! draw that was made first stands for all. Only replies with a valid verdict are kept. It does not
//! know groups.

mod kept;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use joust_schema::tables::Verdict;

use super::chat::ChatModel;
use super::interface::{Judge, JudgeServers};
use super::vote::{VoteId, VoteOutcome, VoteReply, VoteRequest};
use crate::config::JudgeConfig;
use kept::{Kept, Key};

/// What a [`CachedJudge`] counts; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct CacheStats {
    hits: AtomicU64,
    joined: AtomicU64,
    misses: AtomicU64,
    shared_tokens: AtomicU64,
    bytes: AtomicU64,
}

impl CacheStats {
    /// Votes that were there.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Votes that joined the same one under way.
    pub fn joined(&self) -> u64 {
        self.joined.load(Ordering::Relaxed)
    }

    /// Votes that the judge inside was asked for.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Completion tokens in replies that the judge did not write again.
    pub fn shared_tokens(&self) -> u64 {
        self.shared_tokens.load(Ordering::Relaxed)
    }

    /// Bytes that are taken now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// See the module.
pub struct CachedJudge {
    inner: Box<dyn Judge>,
    /// The judge and its settings of sampling.
    fingerprint: Key,
    kept: Kept,
    /// Votes that the judge inside works on, by its ids: they outlive those of who asked.
    under_way: BTreeMap<VoteId, UnderWay>,
    /// Where the next one with the same key finds it.
    joinable: BTreeMap<Key, VoteId>,
    /// What each one that waits waits for.
    waiting: BTreeMap<VoteId, VoteId>,
    /// Outcomes that need no judge, until the next poll.
    ready: Vec<VoteOutcome>,
    /// The last poll left the judge inside alone.
    has_passed_over: bool,
    n_asked: u64,
    stats: Arc<CacheStats>,
}

struct UnderWay {
    key: Key,
    /// Who wants it; the first that is left has its costs.
    wanted_by: Vec<VoteId>,
}

impl CachedJudge {
    /// Puts the cache of `config` around a judge that samples as `config` says.
    pub fn new(inner: Box<dyn Judge>, config: &JudgeConfig) -> Self {
        let mut hasher = blake3::Hasher::new();
        hash_text(&mut hasher, inner.name());
        hasher.update(&config.temperature.to_le_bytes());
        hasher.update(&config.top_p.to_le_bytes());
        hasher.update(&(config.max_thinking_tokens as u64).to_le_bytes());
        Self {
            inner,
            fingerprint: *hasher.finalize().as_bytes(),
            kept: Kept::new(config.verdict_cache_mib.saturating_mul(1 << 20)),
            under_way: BTreeMap::new(),
            joinable: BTreeMap::new(),
            waiting: BTreeMap::new(),
            ready: Vec::new(),
            has_passed_over: false,
            n_asked: 0,
            stats: Arc::default(),
        }
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<CacheStats> {
        Arc::clone(&self.stats)
    }

    fn key(&self, request: &VoteRequest) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.fingerprint);
        for text in [&request.question, &request.answer_first, &request.answer_second] {
            hash_text(&mut hasher, text);
        }
        hasher.update(&request.vote.to_le_bytes());
        hasher.update(&request.attempt.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Hands an outcome of the judge inside to all who wait for it.
    fn finish(&mut self, (asked, outcome): VoteOutcome) -> Vec<VoteOutcome> {
        // one that everybody cancelled may have been there already
        let Some(vote) = self.under_way.remove(&asked) else {
            return Vec::new();
        };
        // what was asked before all was forgotten is not kept
        if self.joinable.get(&vote.key) == Some(&asked) {
            self.joinable.remove(&vote.key);
            if let Ok(reply) = &outcome
                && reply.verdict != Verdict::Invalid
            {
                self.kept.keep(vote.key, reply.clone());
                self.stats.bytes.store(self.kept.n_bytes() as u64, Ordering::Relaxed);
            }
        }
        for id in &vote.wanted_by {
            self.waiting.remove(id);
        }
        let for_place = |(place, id): (usize, VoteId)| match (place, &outcome) {
            (1.., Ok(reply)) => (id, Ok(shared(reply, &self.stats))),
            _ => (id, outcome.clone()),
        };
        vote.wanted_by.into_iter().enumerate().map(for_place).collect()
    }
}

impl Judge for CachedJudge {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    fn servers(&self) -> Option<Arc<dyn JudgeServers>> {
        self.inner.servers()
    }

    fn submit(&mut self, request: VoteRequest) {
        let (id, key) = (request.id, self.key(&request));
        if let Some(reply) = self.kept.get(&key) {
            self.stats.hits.fetch_add(1, Ordering::Relaxed);
            self.ready.push((id, Ok(shared(reply, &self.stats))));
            return;
        }
        let asked = match self.joinable.get(&key) {
            Some(&asked) => {
                self.stats.joined.fetch_add(1, Ordering::Relaxed);
                asked
            }
            None => {
                self.stats.misses.fetch_add(1, Ordering::Relaxed);
                self.n_asked += 1;
                let asked = VoteId(self.n_asked);
                self.joinable.insert(key, asked);
                self.under_way.insert(asked, UnderWay { key, wanted_by: Vec::new() });
                self.inner.submit(VoteRequest { id: asked, ..request });
                asked
            }
        };
        let vote = self.under_way.get_mut(&asked);
        vote.expect("what can be joined is under way. This is a bug.").wanted_by.push(id);
        self.waiting.insert(id, asked);
    }

    fn cancel(&mut self, id: VoteId) {
        self.ready.retain(|(ready, _)| *ready != id);
        let Some(asked) = self.waiting.remove(&id) else { return };
        let vote = self.under_way.get_mut(&asked);
        let vote = vote.expect("what is waited for is under way. This is a bug.");
        vote.wanted_by.retain(|wants| *wants != id);
        if vote.wanted_by.is_empty() {
            if self.joinable.get(&vote.key) == Some(&asked) {
                self.joinable.remove(&vote.key);
            }
            self.under_way.remove(&asked);
            self.inner.cancel(asked);
        }
    }

    /// What is under way goes on for those who wait for it; it is neither kept nor joined any more.
    fn clear_caches(&mut self) {
        self.kept.clear();
        self.joinable.clear();
        self.stats.bytes.store(0, Ordering::Relaxed);
        self.inner.clear_caches();
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        let mut outcomes = std::mem::take(&mut self.ready);
        // what is there need not wait for the judge, nor the judge for ever for what is there
        let passes_over = !outcomes.is_empty() && !self.has_passed_over;
        self.has_passed_over = passes_over;
        if !passes_over {
            for outcome in self.inner.poll() {
                outcomes.extend(self.finish(outcome));
            }
        }
        outcomes
    }

    fn chat_model(&mut self) -> Option<&mut dyn ChatModel> {
        self.inner.chat_model()
    }
}

/// A reply for one who did not have to ask: it cost nothing and took no time.
fn shared(reply: &VoteReply, stats: &CacheStats) -> VoteReply {
    stats.shared_tokens.fetch_add(reply.completion_tokens as u64, Ordering::Relaxed);
    VoteReply { cached_prompt_tokens: reply.prompt_tokens, latency_ms: 0.0, ..reply.clone() }
}

/// A text and where it ends, so that no two lists of texts look alike.
fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests;
