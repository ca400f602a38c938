//! Keyed seeds: every random draw of a run comes from the run's seed and the key of the draw.
//!
//! A draw depends on its key only, so neither the order of work nor the number of workers changes
//! it. Keys are hashed with BLAKE3; the stream behind a seed is ChaCha8.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// A point in the tree of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Seed(pub u64);

impl Seed {
    /// The root of a run's tree.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The child of this seed named by a label and a number.
    pub fn child(self, label: &str, idx: u64) -> Self {
        self.hashed(label, &idx.to_le_bytes())
    }

    /// The child of this seed named by a label and a text.
    pub fn child_str(self, label: &str, key: &str) -> Self {
        self.hashed(label, key.as_bytes())
    }

    fn hashed(self, label: &str, key: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0.to_le_bytes());
        hasher.update(&(label.len() as u64).to_le_bytes());
        hasher.update(label.as_bytes());
        hasher.update(key);
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self(u64::from_le_bytes(first))
    }

    /// The stream of random numbers of this seed.
    pub fn rng(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.0)
    }

    /// One draw, uniform in [0, 1).
    pub fn unit(self) -> f64 {
        // one round of SplitMix64, so that small seeds give values far apart
        let mut z = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A keyed permutation of 0..n: Fisher–Yates with this seed's children.
    pub fn permutation(self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            let drawn = (self.child("swap", last as u64).unit() * (last + 1) as f64) as usize;
            order.swap(last, drawn);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::Seed;

    #[test]
    fn child_seeds_differ_by_label_and_key() {
        let seed = Seed::new(7);
        assert_ne!(seed.child("a", 1), seed.child("a", 2));
        assert_ne!(seed.child_str("a", "bc"), seed.child_str("ab", "c"));
        // another value would change every recorded run
        assert_eq!(Seed::new(0).child("step", 3), Seed(0x0cf4_c83c_5c0a_434b));
        let unit = Seed::new(42).unit();
        assert!((0.0..1.0).contains(&unit));
    }

    #[test]
    fn permutation_holds_every_index_once() {
        let mut order = Seed::new(1).permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn unit_draws_are_uniform() {
        let n = 20_000;
        let mean = (0..n).map(|i| Seed::new(3).child("x", i).unit()).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }
}
