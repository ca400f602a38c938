//! Small choices from one keyed stream.

use joust_schema::seed::Seed;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;

/// A stream of choices.
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    pub(crate) fn new(seed: Seed) -> Self {
        Self(seed.rng())
    }

    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number in `low..=high`.
    pub(crate) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + (self.unit() * f64::from(high - low + 1)) as u32
    }

    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[(self.unit() * choices.len() as f64) as usize]
    }
}
