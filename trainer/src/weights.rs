//! The weights of a model in training, in flat buckets: working weights that the passes compute
//! with, master weights that the optimiser changes, and the sums of their gradients.
//!
//! Working weights are the master weights themselves, or their copy in another number format
//! (Micikevicius et al., "Mixed Precision Training", arXiv 1710.03740). Among several ranks each
//! owns the master weights of one part of each bucket; the stage says what else is in parts
//! (Rajbhandari et al., "ZeRO", arXiv 1910.02054). No update is known here.

pub(crate) mod first;
pub(crate) mod frozen;
pub(crate) mod parts;
pub(crate) mod sections;
pub(crate) mod stage;

use std::ops::Range;

use joust_dist::Collectives;
use joust_engine::model::Bucket;
use joust_engine::{Decoder, Precision};
use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::optim::Parameters;
use first::FirstWeights;
use frozen::FrozenModel;
use parts::{BucketParts, SectionBuffers, multiple, own_range, values_in};
use sections::Sections;
use stage::{InParts, ShardStage};

/// A bucket of trained parameters.
#[derive(Debug)]
pub(crate) struct WeightBucket {
    pub(crate) layout: Bucket,
    /// What the passes compute with, of all ranks' parts; none where it is in parts.
    working: Option<Tensor>,
    /// What the optimiser changes: this rank's part, the memory of `working` in its number format.
    pub(crate) master: Tensor,
    /// Sums of gradients of this rank's part, in the number format of the master weights.
    gradient: Tensor,
    /// Those of all parts; none where they are in parts.
    whole_gradient: Option<Tensor>,
    /// This rank's part of the bucket.
    pub(crate) own: Range<usize>,
}

impl WeightBucket {
    /// What the optimiser sees of the bucket.
    pub(crate) fn parameters(&self) -> Parameters {
        Parameters {
            pieces: self.layout.pieces.iter().filter_map(|it| it.within(&self.own)).collect(),
            values: self.master.shallow_clone(),
            gradients: self.gradient.shallow_clone(),
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
    /// The model with its working weights. It shares memory with the buckets; where these are in
    /// parts, a section has its weights while [`Weights::sections`] has it open.
    pub(crate) model: Decoder,
    /// The sums of gradients in the shape of the model, in the same way.
    pub(crate) gradients: Decoder,
    pub(crate) buckets: Vec<WeightBucket>,
    /// The working weights, where they are in parts.
    weights_in_parts: Option<BucketParts>,
    gradients_in_parts: Option<BucketParts>,
    /// A copy that is whole, for samplers, where the working weights are in parts.
    copy: Option<Decoder>,
}

impl Weights {
    /// Takes a model with its master weights, the same on all ranks. Gradients come before any
    /// activation, so that they leave no holes in the memory of activations.
    ///
    /// # Errors
    /// [`Error::Engine`] for lack of memory and for files that cannot be used.
    pub(crate) fn new(
        first: impl Into<FirstWeights>,
        working: Kind,
        stage: ShardStage,
        ranks: &Collectives,
    ) -> Result<Self, Error> {
        let _guard = tch::no_grad_guard();
        let first = first.into();
        let size = ranks.world().size;
        let device = first.device();
        let wide = match &first {
            FirstWeights::Loaded(model) => {
                model.trained_parameters().first().map_or(model.kind(), |(_, it)| it.kind())
            }
            FirstWeights::Unread(_) => first.kind(),
        };
        let is_rounded = working != wide;
        let InParts { weights: divides_weights, gradients: divides_gradients } =
            stage.in_parts(size);
        let mut taken: Vec<(Option<Tensor>, Tensor)> = Vec::new();
        let mut take = |bucket: &Bucket, parameters: &[(String, Tensor)]| {
            let flat = bucket.filled(parameters, wide)?;
            let own = values_in(&flat, &own_range(bucket, ranks));
            taken.push(match (divides_weights, is_rounded) {
                (true, _) => (None, own.copy()),
                (false, false) => (Some(flat), own),
                // the other parts are not kept
                (false, true) if size > 1 => (Some(flat.to_kind(working)), own.copy()),
                (false, true) => (Some(flat.to_kind(working)), own),
            });
            Ok(())
        };
        let (model, layouts) = first.drain(wide, multiple(ranks), &mut take)?;
        let own = |bucket: &Bucket| own_range(bucket, ranks);

        let mut wholes = Vec::new();
        let mut sums = Vec::new();
        for layout in &layouts {
            let whole = (!divides_gradients).then(|| layout.zeros(wide, device)).transpose()?;
            sums.push(match &whole {
                Some(whole) => values_in(whole, &own(layout)),
                None => Tensor::f_zeros([own(layout).len() as i64], (wide, device))?,
            });
            wholes.push(whole);
        }
        let in_parts = |kind: Kind, values: Vec<Tensor>| {
            let own = layouts.iter().map(own).zip(values).collect();
            Ok::<_, Error>(BucketParts::new(
                &layouts,
                own,
                SectionBuffers::new(&layouts, kind, device)?,
            ))
        };
        let handles = |tensors: &[Tensor]| tensors.iter().map(Tensor::shallow_clone).collect();
        let gradients_in_parts =
            divides_gradients.then(|| in_parts(wide, handles(&sums))).transpose()?;
        let masters: Vec<Tensor> = taken.iter().map(|(_, own)| own.shallow_clone()).collect();
        let weights_in_parts = divides_weights.then(|| in_parts(working, masters)).transpose()?;

        let flats = |parts: &Option<BucketParts>, wholes: Vec<&Option<Tensor>>| match parts {
            Some(parts) => parts.flats(&layouts),
            None => wholes.into_iter().flatten().map(Tensor::shallow_clone).collect(),
        };
        let workings = flats(&weights_in_parts, taken.iter().map(|(whole, _)| whole).collect());
        model.put_on_buckets(&layouts, &workings);
        let whole_sums = flats(&gradients_in_parts, wholes.iter().collect());
        let gradients = model.on_buckets(&layouts, &whole_sums);
        model.set_requires_grad(true);
        let sums = sums.into_iter().zip(wholes);
        let parts = layouts.into_iter().zip(taken).zip(sums);
        let bucket = |((layout, (working, master)), (gradient, whole_gradient))| WeightBucket {
            own: own_range(&layout, ranks),
            layout,
            working,
            master,
            gradient,
            whole_gradient,
        };
        let buckets = parts.map(bucket).collect();
        let copy = None;
        Ok(Self { model, gradients, buckets, weights_in_parts, gradients_in_parts, copy })
    }

    /// The sections of the model for passes with gradients.
    pub(crate) fn sections<'a>(&'a self, ranks: &'a Collectives) -> Sections<'a> {
        Sections::new(ranks, self.weights_in_parts.as_ref(), self.gradients_in_parts.as_ref())
    }

    /// The sections of the model for passes without gradients.
    pub(crate) fn read_sections<'a>(&'a self, ranks: &'a Collectives) -> Sections<'a> {
        Sections::new(ranks, self.weights_in_parts.as_ref(), None)
    }

    /// A model that is not trained, in parts where the working weights are.
    ///
    /// # Errors
    /// [`Error::Engine`] for lack of memory and for files that cannot be used.
    pub(crate) fn frozen(
        &self,
        first: FirstWeights,
        kind: Kind,
        ranks: &Collectives,
    ) -> Result<FrozenModel, Error> {
        let buffers_of = |layouts: &[Bucket], kind| {
            self.weights_in_parts.as_ref().and_then(|parts| parts.buffers(layouts, kind))
        };
        match &self.weights_in_parts {
            None => FrozenModel::whole(first, kind),
            Some(_) => FrozenModel::in_parts(first, kind, ranks, buffers_of),
        }
    }

    /// Sums the gradients of all ranks, each in its own part, where that is not done already.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn reduce_gradients(&self, ranks: &Collectives) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        for WeightBucket { gradient, whole_gradient, .. } in &self.buckets {
            if let Some(whole) = whole_gradient {
                ranks.reduce_scatter_sum(whole, &mut gradient.shallow_clone())?;
            }
        }
        Ok(())
    }

    /// Copies the master weights into the working weights where these are others, and gives every
    /// rank the parts of all where it has them.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn share(&self, ranks: &Collectives) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        for bucket in &self.buckets {
            let Some(working) = &bucket.working else { continue };
            let mut own = values_in(working, &bucket.own);
            if own.kind() != bucket.master.kind() {
                own.copy_(&bucket.master);
            }
            ranks.all_gather(&mut working.shallow_clone(), &own)?;
        }
        Ok(())
    }

    /// The model with all its weights, for samplers that compute in `precision`: the working
    /// weights where they are whole, otherwise a copy, which then follows with each
    /// [`Weights::published`]. All ranks call it together.
    ///
    /// # Errors
    /// [`Error::Engine`] for lack of memory, [`Error::Ranks`].
    pub(crate) fn publish_in(
        &mut self,
        precision: Precision,
        ranks: &Collectives,
    ) -> Result<Decoder, Error> {
        if self.weights_in_parts.is_some() && self.copy.is_none() {
            let (config, device) = (self.model.config(), self.model.device());
            self.copy = Some(Decoder::zeros(config, device, precision)?);
        }
        self.published(ranks)
    }

    /// The model of [`Weights::publish_in`] with the weights of now. All ranks call it together.
    ///
    /// # Errors
    /// [`Error::Engine`] for weights that cannot be quantised, [`Error::Ranks`].
    pub(crate) fn published(&self, ranks: &Collectives) -> Result<Decoder, Error> {
        let (Some(parts), Some(copy)) = (&self.weights_in_parts, &self.copy) else {
            return Ok(self.model.shared());
        };
        parts.each_whole(ranks, |idx, whole| {
            let layout = &self.buckets[idx].layout;
            let names = layout.pieces.iter().map(|piece| piece.name.clone());
            Ok(copy.copy_parameters(&names.zip(layout.views(whole)).collect::<Vec<_>>())?)
        })?;
        Ok(copy.shared())
    }

    /// The model with its master weights. It shares their memory where this rank has them all;
    /// otherwise they are gathered on the CPU, a bucket at a time.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn master(&self, ranks: &Collectives) -> Result<Decoder, Error> {
        let _guard = tch::no_grad_guard();
        let is_master = |bucket: &WeightBucket| {
            bucket.working.as_ref().is_some_and(|it| it.kind() == bucket.master.kind())
        };
        if self.buckets.iter().all(is_master) {
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
            let sums = bucket.whole_gradient.as_ref().unwrap_or(&bucket.gradient);
            let _ = sums.shallow_clone().zero_();
        }
    }
}

#[cfg(test)]
mod tests;
