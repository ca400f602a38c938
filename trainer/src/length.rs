//! How long a run on given texts is: a number of updates, or of passes over its examples.

/// Length of a run on given texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TuningLength {
    /// Number of updates.
    Steps(u64),
    /// Number of passes over the examples; it may have a fraction.
    Epochs(f64),
}

impl TuningLength {
    /// The length that two keys give, of which exactly one is set.
    ///
    /// # Errors
    /// Says that both are set, or none.
    pub(crate) fn of(steps: Option<u64>, epochs: Option<f64>) -> Result<Self, String> {
        match (steps, epochs) {
            (Some(steps), None) => Ok(Self::Steps(steps)),
            (None, Some(epochs)) => Ok(Self::Epochs(epochs)),
            (None, None) => Err("steps and epochs are missing, wanted one of them".to_owned()),
            (Some(_), Some(_)) => Err("steps and epochs are both set, wanted one of them".into()),
        }
    }

    /// Number of updates of `batch_size` examples each: ⌈epochs · n_examples / batch_size⌉. The
    /// last update is filled from the epoch that would follow. `n_examples` is `None` for examples
    /// that do not repeat; then epochs have no end, and there is no number.
    pub fn n_steps(self, n_examples: Option<u64>, batch_size: usize) -> Option<u64> {
        match self {
            Self::Steps(steps) => Some(steps),
            Self::Epochs(epochs) => {
                let n_uses = epochs * n_examples? as f64;
                let n_steps = n_uses / batch_size.max(1) as f64;
                // a product such as 1.1 · 10 is a little more than 11
                Some(((n_steps * (1.0 - 1e-12)).ceil() as u64).max(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TuningLength::{self, Epochs, Steps};

    #[test]
    fn n_steps_counts_a_last_update_that_is_not_full() {
        for (epochs, n_examples, batch_size, wanted) in [
            (1.0, 96, 16, 6),
            (1.0, 97, 16, 7),
            (2.5, 96, 16, 15),
            (1.1, 10, 1, 11),
            (0.7, 10, 1, 7),
            (3.0, 10, 64, 1),
            (1e-9, 10, 64, 1),
        ] {
            let seen = Epochs(epochs).n_steps(Some(n_examples), batch_size);
            assert_eq!(seen, Some(wanted), "{epochs} · {n_examples} / {batch_size}");
        }
        assert_eq!(Epochs(1.0).n_steps(None, 16), None);
        assert_eq!(Steps(7).n_steps(None, 16), Some(7));
        assert_eq!(TuningLength::of(None, Some(1.5)), Ok(Epochs(1.5)));
        assert!(
            TuningLength::of(Some(1), Some(1.5)).is_err() && TuningLength::of(None, None).is_err()
        );
    }
}
