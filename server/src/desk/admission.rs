//! Admission control: work before the judge, its measured pace, and the limits. Pure: the caller
//! passes the time.
//!
//! Work is estimated in tokens before judging: the prompts of all votes of the group's matches, and
//! a thought per vote. The estimate may be off by a factor, since the pace is measured in the same
//! unit.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::problem::Problem;
use crate::share_counts::ShareCounts;

use joust_reward::arena::{GroupRequest, GroupWork};
use joust_reward::prompt;

/// Approximate bytes of text per token.
const BYTES_PER_TOKEN: u64 = 4;

/// Decay of the moving average of the pace, per group.
const PACE_EMA_DECAY: f64 = 0.95;

/// Number of groups after which the pace is used.
const MIN_GROUPS_FOR_PACE: u32 = 8;

/// Limits of the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Maximum number of queued and judged groups.
    pub(crate) groups: usize,
    /// Maximum number of estimated tokens of those groups; 0 for as many as can be judged within
    /// `time`.
    pub(crate) tokens: u64,
    /// Maximum size of the texts of those groups.
    pub(crate) bytes: usize,
    /// Maximum time that a request waits for its result.
    pub(crate) time: Duration,
}

/// The work of a group or a conversation, as far as it is known before judging.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Workload {
    /// Estimated judge tokens.
    pub(crate) tokens: u64,
    /// Size of the texts.
    pub(crate) bytes: usize,
}

/// Admitted work.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    n_groups: usize,
    n_tokens: u64,
    /// Size of the texts of those groups.
    bytes: ShareCounts,
    /// Number of groups per tenant, or per address where there are no tokens.
    of_shares: BTreeMap<String, usize>,
    /// Tokens of finished groups and the seconds they took, as decaying sums.
    done: (f64, f64),
    n_done: u32,
    /// Time since which the judge has worked on the next group to finish.
    since: Duration,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            of_shares: BTreeMap::new(),
            n_groups: 0,
            n_tokens: 0,
            bytes: ShareCounts::default(),
            done: (0.0, 0.0),
            n_done: 0,
            since: Duration::ZERO,
        }
    }

    /// Number of groups that wait or are judged.
    pub(crate) fn n_groups(&self) -> usize {
        self.n_groups
    }

    /// Estimated tokens of those groups.
    pub(crate) fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    /// Admits the work of a group.
    ///
    /// # Errors
    /// [`Problem::QueueFull`]; nothing has changed then. While no group is admitted, a group of any
    /// size is. A tenant (without tokens: an address) without an admitted group may exceed the
    /// limit of groups, by up to a quarter of the limit for all of those together; one with little
    /// text that of the texts, likewise.
    pub(crate) fn try_admit(
        &mut self,
        now: Duration,
        share: &str,
        work: Workload,
    ) -> Result<(), Problem> {
        let Limits { groups, tokens: most, bytes, time } = self.limits;
        let full = |reason: String| Err(Problem::QueueFull { reason, after: self.retry_after() });
        let beside = if self.of_shares.contains_key(share) { 0 } else { groups.div_ceil(4) };
        if self.n_groups >= groups + beside {
            return full(format!("the queue of {groups} groups is full"));
        }
        if self.n_groups > 0 && !self.bytes.has_room(share, work.bytes, bytes) {
            return full(format!(
                "the groups that are queued or judged take {} MiB, and {} may (serve.body_mib)",
                self.bytes.n() >> 20,
                bytes >> 20
            ));
        }
        let with = self.n_tokens.saturating_add(work.tokens);
        if most > 0 && with > most && self.n_groups > 0 {
            let waiting = self.n_tokens;
            return full(format!(
                "about {waiting} tokens wait for the judge, and {most} may (serve.queue_tokens)"
            ));
        }
        if most == 0
            && self.n_groups > 0
            && let Some(pace) = self.pace()
            && with as f64 / pace > time.as_secs_f64()
        {
            let wait = with as f64 / pace;
            return full(format!(
                "at its pace the judge would need {wait:.0} s, and a request waits {time:?} at most"
            ));
        }
        self.admit_unchecked(now, share, work);
        Ok(())
    }

    /// Admits a group regardless of the limits.
    pub(crate) fn admit_unchecked(&mut self, now: Duration, share: &str, work: Workload) {
        // time without work for the judge is not its own
        if self.n_tokens == 0 {
            self.since = now;
        }
        self.n_groups += 1;
        self.n_tokens = self.n_tokens.saturating_add(work.tokens);
        self.bytes.add(share, work.bytes);
        *self.of_shares.entry(share.to_owned()).or_default() += 1;
    }

    /// Releases a judged group, and measures the pace. A group without work for the judge tells
    /// nothing of its pace: the time until then belongs to the next group that has some.
    pub(crate) fn finished(&mut self, now: Duration, share: &str, work: Workload) {
        self.release(share, work);
        if work.tokens == 0 {
            return;
        }
        let seconds = now.saturating_sub(self.since).as_secs_f64();
        self.since = now;
        self.done = (
            self.done.0 * PACE_EMA_DECAY + work.tokens as f64,
            self.done.1 * PACE_EMA_DECAY + seconds,
        );
        self.n_done = self.n_done.saturating_add(1);
    }

    /// Releases a group that was not judged.
    pub(crate) fn release(&mut self, share: &str, work: Workload) {
        self.n_groups -= 1;
        self.n_tokens = self.n_tokens.saturating_sub(work.tokens);
        self.bytes.remove(share, work.bytes);
        if let Some(own) = self.of_shares.get_mut(share) {
            *own -= 1;
            if *own == 0 {
                self.of_shares.remove(share);
            }
        }
    }

    /// Estimated tokens per second, once enough groups with work were judged: a positive number.
    pub(crate) fn pace(&self) -> Option<f64> {
        let (tokens, seconds) = self.done;
        let is_known = self.n_done >= MIN_GROUPS_FOR_PACE && tokens > 0.0 && seconds > 0.0;
        is_known.then(|| tokens / seconds)
    }

    /// Estimated time per group: after it, the queue has room again.
    fn retry_after(&self) -> Duration {
        let tokens_per_group = self.n_tokens as f64 / self.n_groups.max(1) as f64;
        let seconds = self.pace().map_or(1.0, |pace| tokens_per_group / pace);
        Duration::from_secs_f64(seconds.clamp(1.0, 60.0))
    }
}

/// Size of a group's texts.
pub(crate) fn text_bytes(group: &GroupRequest) -> usize {
    group.question.len() + group.completions.iter().map(String::len).sum::<usize>()
}

/// Estimated judge tokens of a group: the prompts of all votes, and `thought` tokens per vote.
pub(crate) fn estimate(work: &GroupWork, thought: usize) -> u64 {
    let frame: usize = prompt::messages("", "", "").iter().map(|part| part.content.len()).sum();
    let frames = work.max_votes.saturating_mul(frame as u64);
    let prompts = frames.saturating_add(work.max_text_bytes) / BYTES_PER_TOKEN;
    prompts.saturating_add(work.max_votes.saturating_mul(thought as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused(admitted: Result<(), Problem>) -> (String, Duration) {
        match admitted {
            Err(Problem::QueueFull { reason, after }) => (reason, after),
            other => panic!("{other:?}"),
        }
    }

    fn limited_to(groups: usize, tokens: u64, time: u64) -> Admission {
        Admission::new(Limits { groups, tokens, bytes: 1000, time: SECOND * time as u32 })
    }

    fn tokens(tokens: u64) -> Workload {
        Workload { tokens, bytes: 0 }
    }

    #[test]
    fn admission_bounds_the_texts_of_groups_but_takes_any_first_group() {
        let mut admission = limited_to(100, 0, 1000);
        let bytes = |bytes| Workload { tokens: 1, bytes };
        admission.try_admit(SECOND, "a", bytes(5000)).unwrap();
        let (reason, _) = refused(admission.try_admit(SECOND, "b", bytes(1)));
        assert!(reason.contains("serve.body_mib"), "{reason}");
        admission.release("a", bytes(5000));
        admission.try_admit(SECOND, "a", bytes(600)).unwrap();
        admission.try_admit(SECOND, "b", bytes(400)).unwrap();
        refused(admission.try_admit(SECOND, "b", bytes(1)));
        // who holds little has a quarter more
        admission.try_admit(SECOND, "c", bytes(250)).unwrap();
        refused(admission.try_admit(SECOND, "d", bytes(1)));
        assert_eq!(admission.bytes.n(), 1250);
    }

    #[test]
    fn admission_bounds_groups_and_tokens_but_takes_any_first_group() {
        let mut admission = limited_to(3, 100, 10);
        admission.try_admit(SECOND, "a", tokens(1000)).unwrap();
        let (reason, after) = refused(admission.try_admit(SECOND, "a", tokens(1)));
        assert!(reason.contains("about 1000 tokens wait"), "{reason}");
        assert_eq!(after, SECOND);
        admission.release("a", tokens(1000));
        for _ in 0..3 {
            admission.try_admit(SECOND, "a", tokens(30)).unwrap();
        }
        assert!(
            refused(admission.try_admit(SECOND, "a", tokens(1)))
                .0
                .contains("queue of 3 groups is full")
        );
        assert_eq!((admission.n_groups(), admission.n_tokens()), (3, 90));
    }

    #[test]
    fn admission_has_room_for_a_client_without_groups_in_a_full_queue() {
        let mut admission = limited_to(8, 0, 10);
        for _ in 0..8 {
            admission.try_admit(SECOND, "a", tokens(1)).unwrap();
        }
        let full = |admission: &mut Admission, client| {
            refused(admission.try_admit(SECOND, client, tokens(1)))
                .0
                .contains("queue of 8 groups is full")
        };
        assert!(full(&mut admission, "a"));
        admission.try_admit(SECOND, "b", tokens(1)).unwrap();
        assert!(full(&mut admission, "b"));
        admission.try_admit(SECOND, "c", tokens(1)).unwrap();
        assert!(full(&mut admission, "d"), "a quarter more is the limit");
        admission.release("a", tokens(1));
        assert!(full(&mut admission, "a"));
        admission.try_admit(SECOND, "d", tokens(1)).unwrap();
        assert_eq!(admission.n_groups(), 10);
    }

    #[test]
    fn admission_refuses_a_group_that_could_not_be_judged_in_time() {
        let mut admission = limited_to(100, 0, 11);
        // 50 tokens per second; the time without admitted work does not count
        for at in 0..10 {
            let now = SECOND * (10 * at);
            admission.try_admit(now, "a", tokens(100)).unwrap();
            admission.finished(now + 2 * SECOND, "a", tokens(100));
        }
        let pace = admission.pace().unwrap();
        assert!((pace - 50.0).abs() < 1e-9, "{pace}");
        let now = SECOND * 1000;
        for _ in 0..5 {
            admission.try_admit(now, "a", tokens(100)).unwrap();
        }
        let (reason, after) = refused(admission.try_admit(now, "a", tokens(100)));
        assert!(reason.contains("would need 12 s"), "{reason}");
        assert_eq!(after, 2 * SECOND);
    }

    #[test]
    fn groups_without_work_tell_nothing_of_the_pace() {
        let mut admission = limited_to(100, 0, 11);
        // groups of one member, or of equal ones, as the first of a run
        for at in 0..20 {
            admission.try_admit(SECOND * at, "a", tokens(0)).unwrap();
            admission.finished(SECOND * at + SECOND / 10, "a", tokens(0));
        }
        assert_eq!(admission.pace(), None);
        for _ in 0..50 {
            admission.try_admit(SECOND * 30, "a", tokens(0)).unwrap();
        }
        admission.try_admit(SECOND * 30, "a", tokens(1_000_000)).unwrap();
        // a full queue of them names a time after which to try again
        for _ in 51..100 {
            admission.try_admit(SECOND * 30, "a", tokens(0)).unwrap();
        }
        assert_eq!(refused(admission.try_admit(SECOND * 30, "a", tokens(0))).1, SECOND);
        // 50 tokens per second, whatever ends between two groups with work
        let mut admission = limited_to(100, 0, 1000);
        for at in 0..10 {
            let now = SECOND * (10 * at);
            admission.try_admit(now, "a", tokens(100)).unwrap();
            admission.try_admit(now + SECOND, "a", tokens(0)).unwrap();
            admission.finished(now + SECOND, "a", tokens(0));
            admission.finished(now + 2 * SECOND, "a", tokens(100));
        }
        let pace = admission.pace().unwrap();
        assert!((pace - 50.0).abs() < 1e-9, "{pace}");
    }
}
