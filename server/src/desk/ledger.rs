//! Ledger of groups, shared by requests and the judge thread: results in flight and cached,
//! admitted work.
//!
//! Knows neither the judge nor the commands to its thread.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::admission::{Admission, Limits, Workload};
use super::results::{GroupStage, Results};
use crate::client::Client;
use crate::counted::{Counted, CountedGuard};
use crate::judged::{GroupKey, Judged};
use crate::problem::Problem;
use joust_reward::arena::GroupProgress;

/// The ledger behind its lock.
pub(crate) struct Ledger {
    state: Mutex<LedgerState>,
    /// Read without the lock: a probe never waits for it.
    pub(super) counts: LedgerCounts,
    started: Instant,
    /// False once the judge thread has ended.
    pub(super) is_running: watch::Sender<bool>,
    /// Changes whenever admitted work is released.
    pub(super) released: watch::Sender<()>,
}

/// State behind the lock.
pub(super) struct LedgerState {
    pub(super) results: Results,
    pub(super) admission: Admission,
}

/// Numbers of the ledger since the lock was last released.
#[derive(Default)]
pub(super) struct LedgerCounts {
    /// Number of queued and judged groups.
    pub(super) n_groups: AtomicUsize,
    /// Estimated judge tokens of those groups.
    pub(super) n_tokens: AtomicU64,
    /// Number of cached results.
    pub(super) n_cached: AtomicUsize,
    /// Memory of cached results.
    pub(super) cached_bytes: AtomicUsize,
}

impl Counted for LedgerState {
    type Counts = LedgerCounts;

    fn write_counts(&self, counts: &LedgerCounts) {
        let Self { results, admission } = self;
        let (n_cached, cached_bytes) = results.n_cached();
        counts.n_groups.store(admission.n_groups(), Ordering::Relaxed);
        counts.n_tokens.store(admission.n_tokens(), Ordering::Relaxed);
        counts.n_cached.store(n_cached, Ordering::Relaxed);
        counts.cached_bytes.store(cached_bytes, Ordering::Relaxed);
    }
}

impl Ledger {
    /// A ledger without admitted work; `results` may hold those of an earlier start.
    pub(super) fn new(limits: Limits, results: Results) -> Self {
        let ledger = Self {
            state: Mutex::new(LedgerState { results, admission: Admission::new(limits) }),
            counts: LedgerCounts::default(),
            started: Instant::now(),
            is_running: watch::Sender::new(true),
            released: watch::Sender::new(()),
        };
        drop(ledger.lock());
        ledger
    }

    pub(super) fn lock(&self) -> CountedGuard<'_, LedgerState> {
        let state = self.state.lock().expect("ledger lock poisoned. This is a bug.");
        CountedGuard::new(state, &self.counts)
    }

    /// The state, also after a thread panicked with the lock held.
    fn lock_after_panic(&self) -> CountedGuard<'_, LedgerState> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        CountedGuard::new(state, &self.counts)
    }

    /// Time since the start.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Records the result of a group and releases its admission.
    pub(super) fn finish(&self, judged: Arc<Judged>, client: &Client, work: Workload) {
        let now = self.now();
        let mut state = self.lock();
        state.admission.finished(now, client.share(), work);
        state.results.finish(now, judged.key, Ok(judged));
        self.released.send_replace(());
    }

    /// Records that a group cannot be judged and releases its admission.
    pub(super) fn fail(&self, key: GroupKey, client: &Client, work: Workload, problem: Problem) {
        let now = self.now();
        let mut state = self.lock();
        state.admission.release(client.share(), work);
        state.results.finish(now, key, Err(problem));
        self.released.send_replace(());
    }

    /// Cancels a group that only `client` wants; false if it is not in flight.
    ///
    /// # Errors
    /// Number of other requests and jobs that want it; the job of `client` is removed nevertheless.
    pub(super) fn cancel_group(&self, key: GroupKey, client: &Client) -> Result<bool, usize> {
        let now = self.now();
        let mut state = self.lock();
        match state.results.withdraw_job(key, client) {
            None => Ok(false),
            Some(0) => {
                // at once: a later request has the group judged again
                state.results.finish(now, key, Err(Problem::Cancelled));
                Ok(true)
            }
            Some(others) => Err(others),
        }
    }

    /// Whether a group that the thread does not have is over. One that was cancelled is not: it may
    /// have begun again, and wait in the channel.
    pub(super) fn is_over(&self, key: GroupKey, client: &Client) -> bool {
        let now = self.now();
        match self.lock().results.stage(now, client.tenant(), key) {
            // kept no longer
            None => true,
            Some(GroupStage::Over(outcome)) => outcome != Err(Problem::Cancelled),
            Some(GroupStage::Queued | GroupStage::Judging(_)) => false,
        }
    }

    /// Adds a client's recorded job to its group, if it is in flight and does not have it. Beyond
    /// the limit of clients the job is judged all the same.
    pub(super) fn keep_job(&self, key: GroupKey, client: &Client) {
        let _ = self.lock().results.add_job(key, client);
    }

    /// Releases the admission of a cancelled group or an answered conversation.
    pub(super) fn release(&self, client: &Client, work: Workload) {
        // a permit may be dropped while a thread unwinds
        let mut state = self.lock_after_panic();
        state.admission.release(client.share(), work);
        drop(state);
        self.released.send_replace(());
    }

    /// Records the progress of groups.
    pub(super) fn record_progress(&self, groups: impl Iterator<Item = (GroupKey, GroupProgress)>) {
        let mut state = self.lock();
        groups.for_each(|(key, progress)| state.results.record_progress(key, progress));
    }

    /// Records that the judge thread has ended, and wakes every request that waits for it.
    pub(super) fn stop(&self) {
        let mut state = self.lock_after_panic();
        // before the results are cleared, so that no request begins to wait in between
        self.is_running.send_replace(false);
        state.results.stop();
        self.released.send_replace(());
    }
}

/// Admitted work of a conversation; dropping it releases the admission.
pub(crate) struct AdmissionPermit {
    pub(super) ledger: Arc<Ledger>,
    pub(super) client: Client,
    pub(super) work: Workload,
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        self.ledger.release(&self.client, self.work);
    }
}
