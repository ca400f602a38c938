//! The weights of a model in training, in flat buckets: working weights that the passes compute
//! with, master weights that the optimiser changes, and the sums of their gradients.
//!
//! Working weights are the master weights themselves, or their copy in another number format
//! (Micikevicius et al., "Mixed Precision Training", arXiv 1710.03740). No update is known here.

use joust_engine::Decoder;
use joust_engine::model::Bucket;
use tch::{Kind, Tensor};

use crate::error::Error;
use crate::optim::Parameters;

/// A bucket of trained parameters: flat tensors of equal length.
#[derive(Debug)]
pub(crate) struct WeightBucket {
    pub(crate) layout: Bucket,
    /// What the passes compute with.
    working: Tensor,
    /// What the optimiser changes; the same memory as `working` in the same number format.
    pub(crate) master: Tensor,
    /// Sums of gradients, in the number format of the master weights.
    pub(crate) gradient: Tensor,
}

impl WeightBucket {
    /// What the optimiser sees of the bucket.
    pub(crate) fn parameters(&self) -> Parameters {
        Parameters {
            layout: self.layout.clone(),
            values: self.master.shallow_clone(),
            gradients: self.gradient.shallow_clone(),
        }
    }
}

/// A model in training.
pub(crate) struct Weights {
    /// The model with its working weights. It shares memory with the buckets.
    pub(crate) model: Decoder,
    /// The sums of gradients in the shape of the model.
    pub(crate) gradients: Decoder,
    /// The model with its master weights.
    pub(crate) master: Decoder,
    pub(crate) buckets: Vec<WeightBucket>,
}

impl Weights {
    /// Takes a model with its master weights. Gradients come before any activation, so that they
    /// leave no holes in the memory of activations.
    ///
    /// # Errors
    /// [`Error::Engine`] for lack of memory.
    pub(crate) fn new(master: Decoder, working: Kind) -> Result<Self, Error> {
        let _guard = tch::no_grad_guard();
        let layouts = master.buckets(1);
        let device = master.device();
        let trained = master.trained_parameters();
        let wide = trained.first().map_or(master.kind(), |(_, parameter)| parameter.kind());
        let zeros = |kind: Kind| {
            let flats = layouts.iter().map(|layout| layout.zeros(kind, device));
            flats.collect::<Result<Vec<Tensor>, _>>()
        };
        let flats = master.move_into_buckets(&layouts, wide)?;
        let gradients = zeros(wide)?;
        let (model, working) = match working == wide {
            true => (master.shared(), flats.iter().map(Tensor::shallow_clone).collect()),
            false => {
                let working = zeros(working)?;
                (master.on_buckets(&layouts, &working), working)
            }
        };
        model.set_requires_grad(true);
        let sums = master.on_buckets(&layouts, &gradients);
        let parts = layouts.into_iter().zip(working).zip(flats).zip(gradients);
        let bucket = |(((layout, working), master), gradient)| WeightBucket {
            layout,
            working,
            master,
            gradient,
        };
        let weights = Self { model, gradients: sums, master, buckets: parts.map(bucket).collect() };
        weights.round();
        Ok(weights)
    }

    /// Copies the master weights into the working weights where these are others.
    pub(crate) fn round(&self) {
        let _guard = tch::no_grad_guard();
        for bucket in &self.buckets {
            if bucket.working.kind() != bucket.master.kind() {
                bucket.working.shallow_clone().copy_(&bucket.master);
            }
        }
    }

    /// Sets all sums of gradients to 0.
    pub(crate) fn clear_gradients(&self) {
        let _guard = tch::no_grad_guard();
        for bucket in &self.buckets {
            let _ = bucket.gradient.shallow_clone().zero_();
        }
    }
}
