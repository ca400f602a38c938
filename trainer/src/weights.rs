//! The weights of a model in training, in flat buckets: working weights that the passes compute
//! with, master weights that the optimiser changes, and the sums of their gradients.
//!
//! Working weights are the master weights themselves, or their copy in another number format
//! (Micikevicius et al., "Mixed Precision Training", arXiv 1710.03740). Among several ranks each
//! has all working weights, and owns the master weights of one part of each bucket (Rajbhandari et
//! al., "ZeRO", arXiv 1910.02054, stage 1). No update is known here.

use std::ops::Range;

use joust_dist::Collectives;
use joust_engine::Decoder;
use joust_engine::model::Bucket;
use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::optim::Parameters;

/// Number of values that each rank's part of a bucket is a multiple of.
const ALIGNMENT: usize = 16;

/// A bucket of trained parameters.
#[derive(Debug)]
pub(crate) struct WeightBucket {
    pub(crate) layout: Bucket,
    /// What the passes compute with, of all ranks' parts.
    working: Tensor,
    /// What the optimiser changes: this rank's part, the memory of `working` in its number format.
    pub(crate) master: Tensor,
    /// Sums of gradients of all parts, in the number format of the master weights.
    gradient: Tensor,
    /// This rank's part of the bucket.
    pub(crate) own: Range<usize>,
}

fn part(flat: &Tensor, range: &Range<usize>) -> Tensor {
    flat.narrow(0, range.start as i64, range.len() as i64)
}

impl WeightBucket {
    /// What the optimiser sees of the bucket.
    pub(crate) fn parameters(&self) -> Parameters {
        Parameters {
            pieces: self.layout.pieces.iter().filter_map(|it| it.within(&self.own)).collect(),
            values: self.master.shallow_clone(),
            gradients: part(&self.gradient, &self.own),
        }
    }

    /// The whole of what ranks have in parts.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn whole(&self, own: &Tensor, ranks: &Collectives) -> Result<Tensor, Error> {
        if ranks.world().size == 1 {
            return Ok(own.shallow_clone());
        }
        let n_values = self.layout.n_values as i64;
        let mut whole = Tensor::f_zeros([n_values], (own.kind(), own.device()))?;
        ranks.all_gather(&mut whole, own)?;
        Ok(whole)
    }
}

/// A model in training.
pub(crate) struct Weights {
    /// The model with its working weights. It shares memory with the buckets.
    pub(crate) model: Decoder,
    /// The sums of gradients in the shape of the model.
    pub(crate) gradients: Decoder,
    pub(crate) buckets: Vec<WeightBucket>,
}

impl Weights {
    /// Takes a model with its master weights, the same on all ranks. Gradients come before any
    /// activation, so that they leave no holes in the memory of activations.
    ///
    /// # Errors
    /// [`Error::Engine`] for lack of memory.
    pub(crate) fn new(model: Decoder, working: Kind, ranks: &Collectives) -> Result<Self, Error> {
        let _guard = tch::no_grad_guard();
        let (rank, size) = (ranks.world().rank, ranks.world().size);
        let device = model.device();
        let trained = model.trained_parameters();
        let wide = trained.first().map_or(model.kind(), |(_, parameter)| parameter.kind());
        let layouts = model.buckets(ALIGNMENT * size);
        let zeros = |kind: Kind| {
            let flats = layouts.iter().map(|layout| layout.zeros(kind, device));
            flats.collect::<Result<Vec<Tensor>, _>>()
        };
        let flats = model.move_into_buckets(&layouts, wide)?;
        let gradients = zeros(wide)?;
        let sums = model.on_buckets(&layouts, &gradients);
        let is_rounded = working != wide;
        let (model, working) = match is_rounded {
            false => (model, flats.iter().map(Tensor::shallow_clone).collect()),
            true => {
                let working = zeros(working)?;
                (model.on_buckets(&layouts, &working), working)
            }
        };
        model.set_requires_grad(true);
        let parts = layouts.into_iter().zip(working).zip(flats).zip(gradients);
        let bucket = |(((layout, mut working), flat), gradient): (((Bucket, Tensor), _), _)| {
            let n_own = layout.n_values / size;
            let own = rank * n_own..(rank + 1) * n_own;
            let mut master = part(&flat, &own);
            if is_rounded {
                working.copy_(&flat);
                // the other parts are not kept
                master = if size > 1 { master.copy() } else { master };
            }
            WeightBucket { layout, working, master, gradient, own }
        };
        Ok(Self { model, gradients: sums, buckets: parts.map(bucket).collect() })
    }

    /// Sums the gradients of all ranks, each in its own part.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn reduce_gradients(&self, ranks: &Collectives) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        for WeightBucket { gradient, own, .. } in &self.buckets {
            ranks.reduce_scatter_sum(gradient, &mut part(gradient, own))?;
        }
        Ok(())
    }

    /// Copies the master weights into the working weights where these are others, and gives every
    /// rank the parts of all.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn share(&self, ranks: &Collectives) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        for bucket in &self.buckets {
            let mut own = part(&bucket.working, &bucket.own);
            if own.kind() != bucket.master.kind() {
                own.copy_(&bucket.master);
            }
            ranks.all_gather(&mut bucket.working.shallow_clone(), &own)?;
        }
        Ok(())
    }

    /// The model with its master weights. It shares their memory where this rank has them all;
    /// otherwise they are gathered on the CPU, a bucket at a time.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn master(&self, ranks: &Collectives) -> Result<Decoder, Error> {
        let _guard = tch::no_grad_guard();
        if self.buckets.iter().all(|it| it.working.kind() == it.master.kind()) {
            return Ok(self.model.shared());
        }
        let is_alone = ranks.world().size == 1;
        let whole = |bucket: &WeightBucket| {
            let whole = bucket.whole(&bucket.master, ranks)?;
            Ok(if is_alone { whole } else { whole.to_device(Device::Cpu) })
        };
        let wholes = self.buckets.iter().map(whole).collect::<Result<Vec<Tensor>, Error>>()?;
        let layouts: Vec<Bucket> = self.buckets.iter().map(|it| it.layout.clone()).collect();
        Ok(self.model.on_buckets(&layouts, &wholes))
    }

    /// Sets all sums of gradients to 0.
    pub(crate) fn clear_gradients(&self) {
        let _guard = tch::no_grad_guard();
        for bucket in &self.buckets {
            let _ = bucket.gradient.shallow_clone().zero_();
        }
    }
}
