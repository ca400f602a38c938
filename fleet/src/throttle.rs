//! Throttle: fewer calls at once, and a pause, for a server that asks for slower calls. A pure
//! state machine; the caller has the clock.
//!
//! Additive increase, multiplicative decrease (Chiu and Jain 1989): a refusal halves the number of
//! slots, and answers to as many calls as there are slots add one.

use std::time::Duration;

/// Pause after the first refusal; it doubles with each further one without an answer in between.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Maximum pause that a server does not ask for itself.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Limits of the calls to one server that it set itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Throttle {
    /// Maximum number of slots, with the fraction that answers have added.
    slots: f64,
    max_slots: f64,
    /// Refusals without an answer to a later call.
    n_in_row: u32,
    /// Last refusal that counted.
    cut_at: Option<Duration>,
    /// End of the pause.
    pauses_until: Duration,
}

impl Throttle {
    /// A server that has not refused a call, with at most `max_slots` slots.
    pub(super) fn new(max_slots: usize) -> Self {
        let slots = max_slots as f64;
        Self { slots, max_slots: slots, n_in_row: 0, cut_at: None, pauses_until: Duration::ZERO }
    }

    /// Whether a call for `n_slots` fits beside calls for `n_used`. A single call always does.
    pub(super) fn has_room(&self, n_used: usize, n_slots: usize) -> bool {
        n_used == 0 || (n_used + n_slots) as f64 <= self.slots
    }

    /// End of the pause: time from which a call may be sent; a past time means now.
    pub(super) fn ready_at(&self) -> Duration {
        self.pauses_until
    }

    /// Records that a call, which was `sent` at that time, was refused as one too many. `asked` is
    /// the pause that the server wants. Calls of one burst count as one refusal.
    pub(super) fn record_busy(&mut self, sent: Duration, now: Duration, asked: Option<Duration>) {
        if self.cut_at.is_none_or(|cut_at| sent > cut_at) {
            self.slots = (self.slots / 2.0).max(1.0);
            let own = FIRST_PAUSE * (1 << self.n_in_row.min(16));
            self.pauses_until = self.pauses_until.max(now + own.min(MAX_PAUSE));
            self.n_in_row = self.n_in_row.saturating_add(1);
            self.cut_at = Some(now);
        }
        // a server may ask for a longer pause, but for no shorter one
        self.pauses_until = self.pauses_until.max(now + asked.unwrap_or_default());
    }

    /// Records that a call, which was `sent` at that time, was answered.
    pub(super) fn record_answer(&mut self, sent: Duration) {
        if self.cut_at.is_some_and(|cut_at| sent > cut_at) {
            self.n_in_row = 0;
            self.slots = (self.slots + 1.0 / self.slots).min(self.max_slots);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn throttle_halves_the_slots_once_a_burst_and_answers_bring_them_back() {
        let mut throttle = Throttle::new(64);
        assert!(throttle.has_room(63, 1) && !throttle.has_room(64, 1));
        for _ in 0..60 {
            throttle.record_busy(second(0), second(1), None);
        }
        assert!(throttle.has_room(31, 1) && !throttle.has_room(32, 1));
        assert_eq!(throttle.ready_at(), second(1) + FIRST_PAUSE);
        // an answer to a call of the burst shows no room
        throttle.record_answer(second(0));
        assert!(!throttle.has_room(32, 1));
        (0..32).for_each(|_| throttle.record_answer(second(2)));
        assert!(!throttle.has_room(33, 1));
        throttle.record_answer(second(2));
        assert!(throttle.has_room(32, 1) && !throttle.has_room(33, 1));
        (0..9_999).for_each(|_| throttle.record_answer(second(2)));
        assert!(throttle.has_room(63, 1) && !throttle.has_room(64, 1));
        // a call for many votes goes alone
        (0..9).for_each(|at| throttle.record_busy(second(5 + at), second(5 + at), None));
        assert!(throttle.has_room(0, 64) && !throttle.has_room(1, 1));
    }

    #[test]
    fn throttle_pauses_for_twice_as_long_each_time_or_as_long_as_the_server_asks() {
        let mut throttle = Throttle::new(4);
        let mut lengths = Vec::new();
        for _ in 0..9 {
            let now = throttle.ready_at();
            throttle.record_busy(now, now, Some(Duration::ZERO));
            lengths.push((throttle.ready_at() - now).as_millis());
        }
        assert_eq!(lengths, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        let now = throttle.ready_at();
        throttle.record_answer(now);
        throttle.record_busy(now, now, Some(second(7)));
        assert_eq!(throttle.ready_at(), now + second(7));
        // the rest of the burst cannot shorten it
        throttle.record_busy(now, now, Some(second(1)));
        assert_eq!(throttle.ready_at(), now + second(7));
    }
}
