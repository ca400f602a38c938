//! In-flight and cached results by group key, with TTL and byte limit: single flight for identical
//! groups. Pure: the caller passes the time.
//!
//! A result in which the judge failed for every member, or at all votes of one, is shown to jobs
//! only: a further request has the group judged again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::client::Client;
use crate::judged::{GroupKey, Judged};
use crate::problem::Problem;
use joust_reward::arena::GroupProgress;

/// Maximum number of clients with a job of the same group.
const MAX_JOB_CLIENTS: usize = 64;

/// Outcome of the judging of a group.
pub(crate) type JudgingOutcome = Result<Arc<Judged>, Problem>;

/// Stage of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GroupStage {
    /// In the queue.
    Queued,
    /// At the judge.
    Judging(GroupProgress),
    /// Judged, failed or cancelled.
    Over(JudgingOutcome),
}

impl GroupStage {
    /// Approximate size in memory.
    pub(crate) fn n_bytes(&self) -> usize {
        match self {
            Self::Over(Ok(judged)) => judged.n_bytes(),
            _ => 0,
        }
    }
}

/// A group that is in flight or cached.
pub(crate) enum GroupLookup {
    /// Its result.
    Cached(Arc<Judged>),
    /// The receiver of its outcome.
    InFlight(oneshot::Receiver<JudgingOutcome>),
}

struct InFlightGroup {
    waiting: Vec<oneshot::Sender<JudgingOutcome>>,
    /// Tenant whose group it is.
    tenant: String,
    /// Clients with a job of this group.
    job_clients: BTreeSet<Client>,
    stage: watch::Sender<GroupStage>,
}

struct CachedOutcome {
    tenant: String,
    outcome: JudgingOutcome,
    until: Duration,
    n_bytes: usize,
}

/// All groups in flight or cached.
pub(crate) struct Results {
    ttl: Duration,
    max_bytes: usize,
    in_flight: BTreeMap<GroupKey, InFlightGroup>,
    cached: BTreeMap<GroupKey, CachedOutcome>,
    /// Cached groups by expiry.
    by_expiry: BTreeSet<(Duration, GroupKey)>,
    n_bytes: usize,
}

impl Results {
    /// Without any group. Outcomes are cached for `ttl`; beyond `max_bytes` the oldest are evicted.
    pub(crate) fn new(ttl: Duration, max_bytes: usize) -> Self {
        Self {
            ttl,
            max_bytes,
            in_flight: BTreeMap::new(),
            cached: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            n_bytes: 0,
        }
    }

    /// Looks a group up; `None` if it must be judged.
    pub(crate) fn look_up(&mut self, now: Duration, key: GroupKey) -> Option<GroupLookup> {
        self.evict(now);
        if let Some(group) = self.in_flight.get_mut(&key) {
            let (send, receive) = oneshot::channel();
            group.waiting.retain(|waiting| !waiting.is_closed());
            group.waiting.push(send);
            return Some(GroupLookup::InFlight(receive));
        }
        match &self.cached.get(&key)?.outcome {
            Ok(judged)
                if judged.result.why_all_failed().is_none()
                    && !judged.result.lost_members().contains(&true) =>
            {
                Some(GroupLookup::Cached(Arc::clone(judged)))
            }
            _ => None,
        }
    }

    /// Adds a group that is queued for the judge, and returns the receiver of its outcome.
    pub(crate) fn begin(
        &mut self,
        key: GroupKey,
        tenant: &str,
    ) -> oneshot::Receiver<JudgingOutcome> {
        self.remove_cached(key);
        let (send, receive) = oneshot::channel();
        let (stage, _) = watch::channel(GroupStage::Queued);
        let (tenant, job_clients) = (tenant.to_owned(), BTreeSet::new());
        let group = InFlightGroup { waiting: vec![send], tenant, job_clients, stage };
        self.in_flight.insert(key, group);
        receive
    }

    /// Removes a group that could not be queued.
    pub(crate) fn withdraw(&mut self, key: GroupKey) {
        self.in_flight.remove(&key);
    }

    /// Records the progress of a group.
    pub(crate) fn record_progress(&mut self, key: GroupKey, progress: GroupProgress) {
        if let Some(group) = self.in_flight.get_mut(&key) {
            group.stage.send_if_modified(|stage| {
                let next = GroupStage::Judging(progress);
                let is_new = *stage != next;
                *stage = next;
                is_new
            });
        }
    }

    /// Sends the outcome of a group to every waiting request, and caches it.
    pub(crate) fn finish(&mut self, now: Duration, key: GroupKey, outcome: JudgingOutcome) {
        let mut tenant = outcome.as_ref().map_or(String::new(), |judged| judged.tenant.clone());
        if let Some(group) = self.in_flight.remove(&key) {
            tenant = group.tenant;
            for waiting in group.waiting {
                // the client may have disconnected
                let _ = waiting.send(outcome.clone());
            }
            group.stage.send_replace(GroupStage::Over(outcome.clone()));
        }
        self.insert_cached(now, (now + self.ttl, key), tenant, outcome);
    }

    /// Caches a result of an earlier start for the rest of its TTL.
    pub(crate) fn restore(&mut self, now: Duration, age: Duration, judged: Arc<Judged>) {
        let until = (now + self.ttl).saturating_sub(age);
        let tenant = judged.tenant.clone();
        self.insert_cached(now, (until, judged.key), tenant, Ok(judged));
    }

    fn insert_cached(
        &mut self,
        now: Duration,
        (until, key): (Duration, GroupKey),
        tenant: String,
        outcome: JudgingOutcome,
    ) {
        self.remove_cached(key);
        let n_bytes = outcome.as_ref().map_or(100, |judged| judged.n_bytes());
        self.n_bytes += n_bytes;
        self.cached.insert(key, CachedOutcome { tenant, outcome, until, n_bytes });
        self.by_expiry.insert((until, key));
        self.evict(now);
    }

    fn remove_cached(&mut self, key: GroupKey) {
        if let Some(cached) = self.cached.remove(&key) {
            self.n_bytes -= cached.n_bytes;
            self.by_expiry.remove(&(cached.until, key));
        }
    }

    /// Removes expired outcomes, and the oldest ones beyond the limit of memory.
    fn evict(&mut self, now: Duration) {
        while let Some(&(until, key)) = self.by_expiry.first()
            && (until <= now || self.n_bytes > self.max_bytes)
        {
            self.remove_cached(key);
        }
    }

    /// Stage of a tenant's group; `None` if it is neither in flight nor cached. Those of an earlier
    /// version have no tenant, and are shown to whoever knows the key.
    pub(crate) fn stage(
        &mut self,
        now: Duration,
        tenant: &str,
        key: GroupKey,
    ) -> Option<GroupStage> {
        self.evict(now);
        let is_shown = |owner: &String| owner.is_empty() || owner == tenant;
        match self.in_flight.get(&key) {
            Some(group) => is_shown(&group.tenant).then(|| group.stage.borrow().clone()),
            None => {
                let cached = self.cached.get(&key)?;
                is_shown(&cached.tenant).then(|| GroupStage::Over(cached.outcome.clone()))
            }
        }
    }

    /// Receives every stage of a group in flight.
    pub(crate) fn watch(&self, key: GroupKey) -> Option<watch::Receiver<GroupStage>> {
        self.in_flight.get(&key).map(|group| group.stage.subscribe())
    }

    /// Adds a client's job of a group in flight; false if the client has one already, or the group
    /// is over.
    ///
    /// # Errors
    /// The limit, if as many clients have a job of the group already.
    pub(crate) fn add_job(&mut self, key: GroupKey, client: &Client) -> Result<bool, usize> {
        match self.in_flight.get_mut(&key) {
            Some(group) if !group.job_clients.contains(client) => {
                if group.job_clients.len() >= MAX_JOB_CLIENTS {
                    return Err(MAX_JOB_CLIENTS);
                }
                Ok(group.job_clients.insert(client.clone()))
            }
            _ => Ok(false),
        }
    }

    /// Removes a client's job of a group. Returns the number of waiting requests and other jobs
    /// that want the group; `None` if it is not in flight.
    pub(crate) fn withdraw_job(&mut self, key: GroupKey, client: &Client) -> Option<usize> {
        let group = self.in_flight.get_mut(&key)?;
        group.job_clients.remove(client);
        let waiting = group.waiting.iter().filter(|waiting| !waiting.is_closed());
        Some(waiting.count() + group.job_clients.len())
    }

    /// Drops all groups in flight: every waiting request sees its channel closed.
    pub(crate) fn stop(&mut self) {
        self.in_flight.clear();
    }

    /// Number and bytes of cached outcomes.
    pub(crate) fn n_cached(&self) -> (usize, usize) {
        (self.cached.len(), self.n_bytes)
    }
}

#[cfg(test)]
mod tests;
