//! A cache before another judge: replies are cached, and a vote in flight serves all requests for
//! it (single flight).
//!
//! Two requests are for the same vote if they have the same position and attempt, question and
//! answers in the same order, judge and sampling settings. The seed of the draws is not compared:
//! the first draw serves all. Only replies with a valid verdict are cached. The cache does not know
//! groups.

mod replies;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use joust_schema::tables::Verdict;

use super::chat::ChatModel;
use super::interface::{Judge, JudgeServers};
use super::vote::{VoteId, VoteOutcome, VoteReply, VoteRequest};
use crate::config::judge::JudgeConfig;
use replies::{ReplyCache, VoteKey};

/// Counters of a [`CachedJudge`], shared with its readers.
#[derive(Debug, Default)]
pub struct CacheStats {
    hits: AtomicU64,
    joined: AtomicU64,
    misses: AtomicU64,
    shared_tokens: AtomicU64,
    bytes: AtomicU64,
}

impl CacheStats {
    /// Number of votes that were answered from the cache.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Number of votes that joined the same vote in flight.
    pub fn joined(&self) -> u64 {
        self.joined.load(Ordering::Relaxed)
    }

    /// Number of votes that the inner judge was asked for.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Number of completion tokens in replies that the inner judge did not generate again.
    pub fn shared_tokens(&self) -> u64 {
        self.shared_tokens.load(Ordering::Relaxed)
    }

    /// Number of bytes in use.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A judge behind a cache.
pub struct CachedJudge {
    inner: Box<dyn Judge>,
    /// Hash of the judge and its sampling settings.
    fingerprint: VoteKey,
    replies: ReplyCache,
    /// Votes that the inner judge works on, by the ids that it got. Such a vote may outlive the
    /// request that began it.
    in_flight: BTreeMap<VoteId, SharedVote>,
    /// Key of a vote → the vote in flight that the next request for it joins.
    joinable: BTreeMap<VoteKey, VoteId>,
    /// Waiting request → the vote in flight whose outcome it will get.
    waiting: BTreeMap<VoteId, VoteId>,
    /// Outcomes from the cache, until the next poll.
    ready: Vec<VoteOutcome>,
    /// Whether the last poll skipped the inner judge.
    has_skipped_inner: bool,
    n_inner_votes: u64,
    stats: Arc<CacheStats>,
}

/// A vote in flight.
struct SharedVote {
    key: VoteKey,
    /// Requests that wait for the vote; the reply to the first of them counts its tokens.
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
            replies: ReplyCache::new(config.verdict_cache_mib.saturating_mul(1 << 20)),
            in_flight: BTreeMap::new(),
            joinable: BTreeMap::new(),
            waiting: BTreeMap::new(),
            ready: Vec::new(),
            has_skipped_inner: false,
            n_inner_votes: 0,
            stats: Arc::default(),
        }
    }

    /// The counters.
    pub fn stats(&self) -> Arc<CacheStats> {
        Arc::clone(&self.stats)
    }

    fn key(&self, request: &VoteRequest) -> VoteKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.fingerprint);
        for text in [&request.question, &request.answer_first, &request.answer_second] {
            hash_text(&mut hasher, text);
        }
        hasher.update(&request.vote.to_le_bytes());
        hasher.update(&request.attempt.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Gives an outcome of the inner judge to all requests that wait for it.
    fn finish(&mut self, (inner_id, outcome): VoteOutcome) -> Vec<VoteOutcome> {
        // a vote that all requests cancelled may have been finished already
        let Some(vote) = self.in_flight.remove(&inner_id) else {
            return Vec::new();
        };
        // a vote that was requested before the cache was cleared is not cached
        if self.joinable.get(&vote.key) == Some(&inner_id) {
            self.joinable.remove(&vote.key);
            if let Ok(reply) = &outcome
                && reply.verdict != Verdict::Invalid
            {
                self.replies.insert(vote.key, reply.clone());
                self.stats.bytes.store(self.replies.n_bytes() as u64, Ordering::Relaxed);
            }
        }
        for id in &vote.wanted_by {
            self.waiting.remove(id);
        }
        let outcome_for = |(idx, id): (usize, VoteId)| match (idx, &outcome) {
            (1.., Ok(reply)) => (id, Ok(shared(reply, &self.stats))),
            _ => (id, outcome.clone()),
        };
        vote.wanted_by.into_iter().enumerate().map(outcome_for).collect()
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
        if let Some(reply) = self.replies.get(&key) {
            self.stats.hits.fetch_add(1, Ordering::Relaxed);
            self.ready.push((id, Ok(shared(reply, &self.stats))));
            return;
        }
        let inner_id = match self.joinable.get(&key) {
            Some(&inner_id) => {
                self.stats.joined.fetch_add(1, Ordering::Relaxed);
                inner_id
            }
            None => {
                self.stats.misses.fetch_add(1, Ordering::Relaxed);
                self.n_inner_votes += 1;
                let inner_id = VoteId(self.n_inner_votes);
                self.joinable.insert(key, inner_id);
                self.in_flight.insert(inner_id, SharedVote { key, wanted_by: Vec::new() });
                self.inner.submit(VoteRequest { id: inner_id, ..request });
                inner_id
            }
        };
        let vote = self.in_flight.get_mut(&inner_id);
        vote.expect("a joinable vote is in flight. This is a bug.").wanted_by.push(id);
        self.waiting.insert(id, inner_id);
    }

    fn cancel(&mut self, id: VoteId) {
        self.ready.retain(|(ready, _)| *ready != id);
        let Some(inner_id) = self.waiting.remove(&id) else { return };
        let vote = self.in_flight.get_mut(&inner_id);
        let vote = vote.expect("an awaited vote is in flight. This is a bug.");
        vote.wanted_by.retain(|wants| *wants != id);
        if vote.wanted_by.is_empty() {
            if self.joinable.get(&vote.key) == Some(&inner_id) {
                self.joinable.remove(&vote.key);
            }
            self.in_flight.remove(&inner_id);
            self.inner.cancel(inner_id);
        }
    }

    /// The first of equal votes draws for all of them.
    fn is_batch_dependent(&self) -> bool {
        true
    }

    /// Votes in flight go on for the requests that wait for them, but are neither cached nor
    /// joined.
    fn clear_caches(&mut self) {
        self.replies.clear();
        self.joinable.clear();
        self.stats.bytes.store(0, Ordering::Relaxed);
        self.inner.clear_caches();
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        let mut outcomes = std::mem::take(&mut self.ready);
        // cached outcomes do not wait for the inner judge, which is polled at least every second
        // time
        let skips_inner = !outcomes.is_empty() && !self.has_skipped_inner;
        self.has_skipped_inner = skips_inner;
        if !skips_inner {
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

/// The reply for a request that the inner judge was not asked for: no tokens and no time.
fn shared(reply: &VoteReply, stats: &CacheStats) -> VoteReply {
    stats.shared_tokens.fetch_add(reply.completion_tokens as u64, Ordering::Relaxed);
    VoteReply { cached_prompt_tokens: reply.prompt_tokens, latency_ms: 0.0, ..reply.clone() }
}

/// Hashes a text with its length, so that no two lists of texts have one hash.
fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests;
