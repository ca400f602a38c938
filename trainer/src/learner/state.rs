//! The optimiser's state of this rank, as flat pieces of tensors by name: those of all ranks are
//! the whole, so that a checkpoint of one number of ranks goes on with another.

use joust_engine::Decoder;
use joust_engine::weights::{Piece, Shards};
use tch::Tensor;

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

    /// This rank's pieces of the optimiser's running means. They share memory with the optimiser.
    pub(crate) fn optimizer_pieces(&self) -> Vec<Piece> {
        let _guard = tch::no_grad_guard();
        let mut pieces = Vec::new();
        for (bucket, means) in self.weights.buckets.iter().zip(self.optimizer.means()) {
            for (kind, own) in &means {
                for parameter in &bucket.layout.pieces {
                    let Some(part) = parameter.within(&bucket.own) else { continue };
                    pieces.push(Piece {
                        name: format!("{kind}.{}", parameter.name),
                        start: bucket.own.start + part.start - parameter.start,
                        values: own.narrow(0, part.start as i64, part.n_values as i64),
                    });
                }
            }
        }
        pieces
    }

    /// Restores this rank's pieces of the running means after `n_updates` updates. No more than
    /// these are read.
    ///
    /// # Errors
    /// [`Error::Engine`] for a tensor that is missing, incomplete or of another length.
    pub(crate) fn restore_optimizer(
        &mut self,
        n_updates: u64,
        saved: &Shards,
    ) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        for (bucket, means) in self.weights.buckets.iter().zip(self.optimizer.means()) {
            for (kind, own) in &means {
                for parameter in &bucket.layout.pieces {
                    let name = format!("{kind}.{}", parameter.name);
                    // those of other ranks are checked, too
                    let (start, n_values) = match parameter.within(&bucket.own) {
                        Some(part) => (part.start, part.n_values),
                        None => (0, 0),
                    };
                    let first = (bucket.own.start + start).saturating_sub(parameter.start);
                    let values = own.narrow(0, start as i64, n_values as i64);
                    let range = first..first + n_values;
                    saved.read(&name, parameter.n_values, range, &values)?;
                }
            }
        }
        self.optimizer.set_n_updates(n_updates);
        Ok(())
    }
}
