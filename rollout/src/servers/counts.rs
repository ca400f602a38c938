//! Counts of calls to servers, which the thread of the calls makes and the caller takes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sampler::SamplerCounts;

/// Counts since they were last taken; see [`SamplerCounts`].
#[derive(Default)]
pub(super) struct Counts {
    pub(super) groups: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) bad_answers: AtomicU64,
    pub(super) stale_groups: AtomicU64,
    servers_down: AtomicU64,
}

impl Counts {
    /// Notes that a request begins without so many servers.
    pub(super) fn set_down(&self, n_servers: usize) {
        self.servers_down.fetch_max(n_servers as u64, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> SamplerCounts {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        SamplerCounts {
            n_groups: take(&self.groups),
            n_retries: take(&self.retries),
            n_bad_answers: take(&self.bad_answers),
            n_stale_groups: take(&self.stale_groups),
            n_servers_down: take(&self.servers_down),
        }
    }
}

/// Adds to a count.
pub(super) fn add(count: &AtomicU64, n: u64) {
    count.fetch_add(n, Ordering::Relaxed);
}
