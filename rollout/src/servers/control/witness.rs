//! The texts that show which weights a server computes with, and the judgement of its numbers.
//!
//! Pure: it knows no servers and no models, only log-probabilities.

use joust_schema::seed::Seed;

/// Number of tokens of the text of which every log-probability is compared.
const TEXT_TOKENS: usize = 96;

/// Number of tokens of the prompt that is cached before the weights change.
const PROMPT_TOKENS: usize = 283;

/// Number of tokens that are sampled behind the prompt.
pub(super) const SAMPLED_TOKENS: usize = 16;

/// Difference per token that rounding in f32 may make on other hardware.
const LEAST_NOISE: f64 = 3e-4;

/// Noises of the first comparison that later ones may have.
const NOISES: f64 = 4.0;

/// Movement of the policy, in noises, from which on it is judged whether servers follow it.
const JUDGED_NOISES: f64 = 4.0;

/// Share of a movement that a server must follow at least.
const LEAST_SHARE: f64 = 0.5;

/// Fixed texts of random tokens.
#[derive(Clone, Debug)]
pub(super) struct WitnessTexts {
    /// Its log-probabilities show all weights; servers do not read cached prefixes for them.
    pub(super) text: Vec<u32>,
    /// A long prompt: what is sampled behind it shows whether its cached prefix is of old weights.
    pub(super) prompt: Vec<u32>,
}

impl WitnessTexts {
    /// For a vocabulary of this size and a context of so many tokens.
    pub(super) fn new(vocab_size: usize, max_context: usize) -> Self {
        let seed = Seed::new(0).child("policy server", 0);
        let drawn = |label: &str, n_tokens: usize| -> Vec<u32> {
            let token = |idx| (seed.child(label, idx as u64).unit() * vocab_size as f64) as u32;
            (0..n_tokens).map(token).collect()
        };
        let room = max_context.saturating_sub(SAMPLED_TOKENS).max(2);
        Self {
            text: drawn("text", TEXT_TOKENS.min(room)),
            prompt: drawn("prompt", PROMPT_TOKENS.min(room)),
        }
    }
}

/// Mean of absolute differences; infinite where one is no number, or the lengths differ.
pub(super) fn difference(seen: &[f32], wanted: &[f32]) -> f64 {
    if seen.len() != wanted.len() || seen.is_empty() {
        return f64::INFINITY;
    }
    let sum: f64 = seen.iter().zip(wanted).map(|(a, b)| f64::from(a - b).abs()).sum();
    if sum.is_finite() { sum / seen.len() as f64 } else { f64::INFINITY }
}

/// What a server may differ by from the trainer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Allowance {
    /// `max_logprob_difference`.
    pub(super) max: f64,
    /// Difference per token with weights that the server surely holds.
    pub(super) noise: f64,
}

impl Allowance {
    /// Maximum difference after a change of weights.
    pub(super) fn after_change(self) -> f64 {
        (NOISES * self.noise).max(LEAST_NOISE).min(self.max)
    }
}

/// What a server's numbers are after a change of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Held {
    /// Those of the new weights.
    New,
    /// Those of the weights before.
    Old {
        /// Difference from the new ones.
        seen: f64,
        /// Difference from the old ones.
        before: f64,
    },
    /// Neither.
    Neither {
        /// Difference from the new ones.
        seen: f64,
        /// Difference from the old ones.
        before: f64,
        /// Maximum difference.
        allowed: f64,
    },
}

/// Which weights a server holds, by its log-probabilities and the trainer's with the new and the
/// old weights.
pub(super) fn held(seen: &[f32], new: &[f32], old: &[f32], allowance: Allowance) -> Held {
    let allowed = allowance.after_change();
    let (to_new, to_old) = (difference(seen, new), difference(seen, old));
    match (to_new <= allowed, to_old <= allowed) {
        (true, _) => Held::New,
        (false, true) => Held::Old { seen: to_new, before: to_old },
        (false, false) => Held::Neither { seen: to_new, before: to_old, allowed },
    }
}

/// Numbers of a version that a server was seen to hold.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) version: i64,
    pub(super) server: Vec<f32>,
    pub(super) trainer: Vec<f32>,
}

/// Share of the trainer's movement since `since` that a server's numbers have followed: the
/// projection of its movement on the trainer's. None while the movement is too small for the noise.
pub(super) fn share_followed(since: &Seen, now: &Seen, noise: f64) -> Option<f64> {
    let moved = |now: &[f32], since: &[f32]| -> Vec<f64> {
        now.iter().zip(since).map(|(now, since)| f64::from(now - since)).collect()
    };
    let trainer = moved(&now.trainer, &since.trainer);
    let server = moved(&now.server, &since.server);
    let squares: f64 = trainer.iter().map(|value| value * value).sum();
    let size = (squares / trainer.len().max(1) as f64).sqrt();
    if size < JUDGED_NOISES * noise.max(LEAST_NOISE / 10.0) {
        return None;
    }
    Some(trainer.iter().zip(&server).map(|(a, b)| a * b).sum::<f64>() / squares)
}

/// Whether a share means that updates get lost.
pub(super) fn is_lost(share: f64) -> bool {
    share < LEAST_SHARE
}

#[cfg(test)]
mod tests;
