//! In-flight and cached results by group key, with TTL and byte limit: single flight for identical
//! groups. Pure: the caller passes the time.
//!
//! A result in which the judge failed for every member is shown to jobs only: a further request has
//! the group judged anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::judged::{GroupKey, Judged};
use crate::problem::Problem;
use joust_reward::arena::Progress;

/// Outcome of the judging of a group.
pub(crate) type Outcome = Result<Arc<Judged>, Problem>;

/// Stage of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stage {
    /// Queued.
    Queued,
    /// At the judge.
    Running(Progress),
    /// It is over.
    Over(Outcome),
}

/// A group found by its key.
pub(crate) enum Found {
    /// Its cached result.
    Over(Arc<Judged>),
    /// The receiver of its outcome.
    Running(oneshot::Receiver<Outcome>),
}

struct Running {
    waiting: Vec<oneshot::Sender<Outcome>>,
    /// Clients with a job of this group.
    jobs_of: BTreeSet<String>,
    stage: watch::Sender<Stage>,
}

struct Kept {
    outcome: Outcome,
    until: Duration,
    n_bytes: usize,
}

/// All groups in flight or cached.
pub(crate) struct Results {
    keep: Duration,
    max_bytes: usize,
    running: BTreeMap<GroupKey, Running>,
    kept: BTreeMap<GroupKey, Kept>,
    /// Cached groups by expiry.
    by_age: BTreeSet<(Duration, GroupKey)>,
    n_bytes: usize,
}

impl Results {
    /// None. Results are kept for `keep`, the oldest less long where they need more than
    /// `max_bytes`.
    pub(crate) fn new(keep: Duration, max_bytes: usize) -> Self {
        Self {
            keep,
            max_bytes,
            running: BTreeMap::new(),
            kept: BTreeMap::new(),
            by_age: BTreeSet::new(),
            n_bytes: 0,
        }
    }

    /// The way to the outcome of a group that is known; none where it is to be judged.
    pub(crate) fn find(&mut self, now: Duration, key: GroupKey) -> Option<Found> {
        self.forget_old(now);
        if let Some(running) = self.running.get_mut(&key) {
            let (send, receive) = oneshot::channel();
            running.waiting.retain(|waiting| !waiting.is_closed());
            running.waiting.push(send);
            return Some(Found::Running(receive));
        }
        match &self.kept.get(&key)?.outcome {
            Ok(judged) if judged.result.why_all_failed().is_none() => {
                Some(Found::Over(Arc::clone(judged)))
            }
            _ => None,
        }
    }

    /// A group is on its way to the judge.
    pub(crate) fn begin(&mut self, key: GroupKey) -> oneshot::Receiver<Outcome> {
        self.drop_kept(key);
        let (send, receive) = oneshot::channel();
        let (stage, _) = watch::channel(Stage::Queued);
        self.running.insert(key, Running { waiting: vec![send], jobs_of: BTreeSet::new(), stage });
        receive
    }

    /// A group that had begun is not judged after all, as if it had never come.
    pub(crate) fn withdraw(&mut self, key: GroupKey) {
        self.running.remove(&key);
    }

    /// Records progress.
    pub(crate) fn advance(&mut self, key: GroupKey, progress: Progress) {
        if let Some(running) = self.running.get_mut(&key) {
            running.stage.send_if_modified(|stage| {
                let next = Stage::Running(progress);
                let is_new = *stage != next;
                *stage = next;
                is_new
            });
        }
    }

    /// A group is over: tells all who wait, and keeps the outcome.
    pub(crate) fn finish(&mut self, now: Duration, key: GroupKey, outcome: Outcome) {
        if let Some(running) = self.running.remove(&key) {
            for waiting in running.waiting {
                // a client that has gone away needs no answer
                let _ = waiting.send(outcome.clone());
            }
            running.stage.send_replace(Stage::Over(outcome.clone()));
        }
        self.keep(now, now + self.keep, key, outcome);
    }

    /// Keeps an outcome that is known from before, for so long as it would have been kept.
    pub(crate) fn restore(&mut self, now: Duration, age: Duration, judged: Arc<Judged>) {
        let until = (now + self.keep).saturating_sub(age);
        self.keep(now, until, judged.key, Ok(judged));
    }

    fn keep(&mut self, now: Duration, until: Duration, key: GroupKey, outcome: Outcome) {
        self.drop_kept(key);
        let n_bytes = outcome.as_ref().map_or(100, |judged| judged.n_bytes());
        self.n_bytes += n_bytes;
        self.kept.insert(key, Kept { outcome, until, n_bytes });
        self.by_age.insert((until, key));
        self.forget_old(now);
    }

    fn drop_kept(&mut self, key: GroupKey) {
        if let Some(kept) = self.kept.remove(&key) {
            self.n_bytes -= kept.n_bytes;
            self.by_age.remove(&(kept.until, key));
        }
    }

    fn forget_old(&mut self, now: Duration) {
        while let Some(&(until, key)) = self.by_age.first()
            && (until <= now || self.n_bytes > self.max_bytes)
        {
            self.drop_kept(key);
        }
    }

    /// How far a group is; none where it is not known.
    pub(crate) fn stage(&mut self, now: Duration, key: GroupKey) -> Option<Stage> {
        self.forget_old(now);
        match self.running.get(&key) {
            Some(running) => Some(running.stage.borrow().clone()),
            None => Some(Stage::Over(self.kept.get(&key)?.outcome.clone())),
        }
    }

    /// Hears of every stage of a group that is under way.
    pub(crate) fn watch(&self, key: GroupKey) -> Option<watch::Receiver<Stage>> {
        self.running.get(&key).map(|running| running.stage.subscribe())
    }

    /// A client has a job of a group that is under way.
    pub(crate) fn hold(&mut self, key: GroupKey, client: &str) {
        if let Some(running) = self.running.get_mut(&key) {
            running.jobs_of.insert(client.to_owned());
        }
    }

    /// Takes a client's job away, and counts the requests that wait for the group and the clients
    /// that have a job of it; none where it is not under way.
    pub(crate) fn n_wanting(&mut self, key: GroupKey, client: &str) -> Option<usize> {
        let running = self.running.get_mut(&key)?;
        running.jobs_of.remove(client);
        let waiting = running.waiting.iter().filter(|waiting| !waiting.is_closed());
        Some(waiting.count() + running.jobs_of.len())
    }

    /// Nothing will be finished any more: who waits is told so by the end of the way.
    pub(crate) fn stop(&mut self) {
        self.running.clear();
    }

    /// Groups that are kept, and their size in bytes.
    pub(crate) fn n_kept(&self) -> (usize, usize) {
        (self.kept.len(), self.n_bytes)
    }
}

#[cfg(test)]
mod tests;
