//! An LRU cache of replies, bounded in bytes.
//!
//! It does not know what a key stands for.

use lru::LruCache;

use crate::judge::vote::VoteReply;

/// Hash of a vote.
pub(super) type VoteKey = [u8; 32];

/// Memory of an entry beside its reply: its key twice, links and a share of the table.
const ENTRY_BYTES: usize = 2 * size_of::<VoteKey>() + 64;

/// The cache.
pub(super) struct ReplyCache {
    replies: LruCache<VoteKey, VoteReply>,
    max_bytes: usize,
    n_bytes: usize,
}

impl ReplyCache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { replies: LruCache::unbounded(), max_bytes, n_bytes: 0 }
    }

    /// Number of bytes that the replies take.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// The cached reply; marks it as the most recently used.
    pub(super) fn get(&mut self, key: &VoteKey) -> Option<&VoteReply> {
        self.replies.get(key)
    }

    /// Inserts a reply and evicts the least recently used ones beyond the bound. A reply that is
    /// larger than the bound is not cached.
    pub(super) fn insert(&mut self, key: VoteKey, reply: VoteReply) {
        let n_bytes = bytes(&reply);
        if n_bytes > self.max_bytes {
            return;
        }
        self.n_bytes += n_bytes;
        if let Some(earlier) = self.replies.put(key, reply) {
            self.n_bytes -= bytes(&earlier);
        }
        while self.n_bytes > self.max_bytes {
            let (_, oldest) =
                self.replies.pop_lru().expect("a cache with bytes has an entry. This is a bug.");
            self.n_bytes -= bytes(&oldest);
        }
    }

    pub(super) fn clear(&mut self) {
        self.replies.clear();
        self.n_bytes = 0;
    }
}

fn bytes(reply: &VoteReply) -> usize {
    ENTRY_BYTES + size_of::<VoteReply>() + reply.text.capacity()
}

#[cfg(test)]
mod tests {
    use joust_schema::tables::Verdict;

    use super::*;

    fn reply(n_bytes: usize) -> VoteReply {
        VoteReply {
            verdict: Verdict::First,
            is_swapped: false,
            text: "h".repeat(n_bytes),
            prompt_tokens: 1,
            cached_prompt_tokens: 0,
            completion_tokens: 1,
            latency_ms: 1.0,
            is_cut_off: false,
        }
    }

    fn cached_keys(cache: &ReplyCache) -> Vec<u8> {
        (0..10).filter(|key| cache.replies.contains(&[*key; 32])).collect()
    }

    #[test]
    fn reply_cache_evicts_the_least_recently_used() {
        let each = bytes(&reply(1_000));
        let mut cache = ReplyCache::new(3 * each);
        for key in 0..3 {
            cache.insert([key; 32], reply(1_000));
        }
        assert!(cache.get(&[0; 32]).is_some() && cache.n_bytes() == 3 * each);
        cache.insert([3; 32], reply(1_000));
        assert_eq!(cached_keys(&cache), [0, 2, 3]);
        cache.insert([4; 32], reply(1_000 + each));
        assert_eq!(cached_keys(&cache), [3, 4], "a long reply takes the room of two");
        assert_eq!(cache.n_bytes(), 3 * each);
        cache.insert([4; 32], reply(1_000));
        assert_eq!(cache.n_bytes(), 2 * each, "the same key is cached once");
        cache.insert([5; 32], reply(3 * each));
        assert_eq!(cached_keys(&cache), [3, 4], "a reply that is too large evicts nothing");
        cache.clear();
        assert!(cached_keys(&cache).is_empty() && cache.n_bytes() == 0);
    }
}
