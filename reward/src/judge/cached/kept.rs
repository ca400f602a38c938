//! Replies within a bound of bytes; the one that was not used for longest goes first.
//!
//! It does not know what a key stands for.

use lru::LruCache;

use crate::judge::vote::VoteReply;

/// A comparison, as a hash.
pub(super) type Key = [u8; 32];

/// What an entry takes beside its reply: its key twice, links and a share of the table.
const ENTRY_BYTES: usize = 2 * size_of::<Key>() + 64;

/// The replies.
pub(super) struct Kept {
    replies: LruCache<Key, VoteReply>,
    most_bytes: usize,
    n_bytes: usize,
}

impl Kept {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { replies: LruCache::unbounded(), most_bytes, n_bytes: 0 }
    }

    /// Bytes that the replies take.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// A reply that is there; it counts as used.
    pub(super) fn get(&mut self, key: &Key) -> Option<&VoteReply> {
        self.replies.get(key)
    }

    /// Keeps a reply; one that is larger than the bound is not kept.
    pub(super) fn keep(&mut self, key: Key, reply: VoteReply) {
        let n_bytes = bytes(&reply);
        if n_bytes > self.most_bytes {
            return;
        }
        self.n_bytes += n_bytes;
        if let Some(earlier) = self.replies.put(key, reply) {
            self.n_bytes -= bytes(&earlier);
        }
        while self.n_bytes > self.most_bytes {
            let (_, oldest) =
                self.replies.pop_lru().expect("what takes bytes is there. This is a bug.");
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
            text: "h".repeat(n_bytes),
            prompt_tokens: 1,
            cached_prompt_tokens: 0,
            completion_tokens: 1,
            latency_ms: 1.0,
        }
    }

    fn there(kept: &Kept) -> Vec<u8> {
        (0..10).filter(|key| kept.replies.contains(&[*key; 32])).collect()
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let each = bytes(&reply(1_000));
        let mut kept = Kept::new(3 * each);
        for key in 0..3 {
            kept.keep([key; 32], reply(1_000));
        }
        assert!(kept.get(&[0; 32]).is_some() && kept.n_bytes() == 3 * each);
        kept.keep([3; 32], reply(1_000));
        assert_eq!(there(&kept), [0, 2, 3]);
        kept.keep([4; 32], reply(1_000 + each));
        assert_eq!(there(&kept), [3, 4], "a long one takes the room of two");
        assert_eq!(kept.n_bytes(), 3 * each);
        kept.keep([4; 32], reply(1_000));
        assert_eq!(kept.n_bytes(), 2 * each, "the same key is kept once");
        kept.keep([5; 32], reply(3 * each));
        assert_eq!(there(&kept), [3, 4], "what is too large drives nothing out");
        kept.clear();
        assert!(there(&kept).is_empty() && kept.n_bytes() == 0);
    }
}
