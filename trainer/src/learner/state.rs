//! The optimiser's state as whole tensors by name, whatever the number of ranks that have it in
//! parts: a checkpoint of one number of ranks goes on with another.

use joust_engine::Decoder;
use joust_engine::weights::WeightMap;
use tch::{Device, Tensor};

use super::Learner;
use crate::error::Error;
use crate::weights::frozen::FrozenModel;

impl Learner {
    /// The model with the weights that the optimiser changes. All ranks call it together.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn master(&self) -> Result<Decoder, Error> {
        self.weights.master(&self.ranks)
    }

    /// What this rank has of the weights that the optimiser changes, in the shapes of a reference.
    /// All ranks call it together.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn own_values(&self, reference: &FrozenModel) -> Result<Vec<Tensor>, Error> {
        match reference.is_in_parts() {
            true => Ok(self.weights.buckets.iter().map(|it| it.master.shallow_clone()).collect()),
            false => Ok(self.master()?.named_parameters().into_iter().map(|(_, it)| it).collect()),
        }
    }

    /// The optimiser's running means by name, on the first rank; nothing on the others. All ranks
    /// call it together.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn optimizer_state(&self) -> Result<WeightMap, Error> {
        let _guard = tch::no_grad_guard();
        let mut state = WeightMap::new();
        for (bucket, means) in self.weights.buckets.iter().zip(self.optimizer.means()) {
            for (kind, own) in means {
                let whole = bucket.whole(&own, &self.ranks)?;
                if self.ranks.world().is_first() {
                    let whole = whole.to_device(Device::Cpu);
                    let pieces = bucket.layout.pieces.iter().zip(bucket.layout.views(&whole));
                    state.extend(pieces.map(|(it, view)| (format!("{kind}.{}", it.name), view)));
                }
            }
        }
        Ok(state)
    }

    /// Restores the running means of [`Learner::optimizer_state`] after `n_updates` updates.
    ///
    /// # Errors
    /// The name of the first tensor that is missing or has another shape.
    pub(crate) fn restore_optimizer(
        &mut self,
        n_updates: u64,
        find: impl Fn(&str) -> Option<Tensor>,
    ) -> Result<(), String> {
        let _guard = tch::no_grad_guard();
        for (bucket, means) in self.weights.buckets.iter().zip(self.optimizer.means()) {
            for (kind, own) in means {
                for (piece, range) in bucket.layout.pieces.iter().map(|it| (it, it.range())) {
                    let name = format!("{kind}.{}", piece.name);
                    let saved = find(&name).ok_or_else(|| format!("tensor {name} is missing"))?;
                    if saved.size() != piece.shape {
                        return Err(format!("tensor {name} has shape {:?}", saved.size()));
                    }
                    let (start, end) =
                        (range.start.max(bucket.own.start), range.end.min(bucket.own.end));
                    if start >= end {
                        continue;
                    }
                    let n_values = (end - start) as i64;
                    let saved = saved.view([-1]).narrow(0, (start - range.start) as i64, n_values);
                    own.narrow(0, (start - bucket.own.start) as i64, n_values).copy_(&saved);
                }
            }
        }
        self.optimizer.set_n_updates(n_updates);
        Ok(())
    }
}
