//! A model that training reads and does not train, whole or in parts. It knows no loss.

use std::ops::Range;

use joust_dist::Collectives;
use joust_engine::Decoder;
use joust_engine::model::Bucket;
use tch::{Device, Kind, Tensor};

use super::first::FirstWeights;
use super::parts::{BucketParts, SectionBuffers, multiple, own_range, values_in};
use super::sections::Sections;
use crate::error::Error;

/// A model that is not trained.
pub(crate) struct FrozenModel {
    /// The model. Where it is in parts, a section has its weights while it is open.
    pub(crate) model: Decoder,
    divided: Option<DividedModel>,
}

struct DividedModel {
    layouts: Vec<Bucket>,
    own: Vec<(Range<usize>, Tensor)>,
    parts: BucketParts,
}

impl FrozenModel {
    /// A model that each rank has the whole of.
    ///
    /// # Errors
    /// [`Error::Engine`] for files that cannot be used.
    pub(crate) fn whole(first: FirstWeights, kind: Kind) -> Result<Self, Error> {
        Ok(Self { model: first.read(kind)?, divided: None })
    }

    /// A model that each rank keeps a part of. A loaded one, and those that share memory with it,
    /// lose their parameters. `buffers`: buffers of another model that fit these buckets.
    ///
    /// # Errors
    /// [`Error::Engine`] for lack of memory and for files that cannot be used.
    pub(super) fn in_parts(
        first: FirstWeights,
        kind: Kind,
        ranks: &Collectives,
        buffers: impl FnOnce(&[Bucket], Kind) -> Option<SectionBuffers>,
    ) -> Result<Self, Error> {
        let kind = match &first {
            FirstWeights::Loaded(model) => model.kind(),
            FirstWeights::Unread(_) => kind,
        };
        let device = first.device();
        let mut own = Vec::new();
        let mut take = |bucket: &Bucket, parameters: &[(String, Tensor)]| {
            let range = own_range(bucket, ranks);
            let values = values_in(&bucket.filled(parameters, kind)?, &range).copy();
            own.push((range, values));
            Ok(())
        };
        let (model, layouts) = first.drain(kind, multiple(ranks), &mut take)?;
        let buffers = match buffers(&layouts, kind) {
            Some(buffers) => buffers,
            None => SectionBuffers::new(&layouts, kind, device)?,
        };
        model.put_on_buckets(&layouts, &buffers.flats(&layouts));
        let handles = own.iter().map(|(range, it)| (range.clone(), it.shallow_clone())).collect();
        let parts = BucketParts::new(&layouts, handles, buffers);
        Ok(Self { model, divided: Some(DividedModel { layouts, own, parts }) })
    }

    /// The sections of the model for passes.
    pub(crate) fn sections<'a>(&'a self, ranks: &'a Collectives) -> Sections<'a> {
        Sections::new(ranks, self.divided.as_ref().map(|it| &it.parts), None)
    }

    /// The parameters that this rank has, in the order of the model: all, or its part of each
    /// bucket.
    pub(crate) fn own_values(&self) -> Vec<Tensor> {
        match &self.divided {
            Some(divided) => divided.own.iter().map(|(_, it)| it.shallow_clone()).collect(),
            None => self.model.named_parameters().into_iter().map(|(_, it)| it).collect(),
        }
    }

    /// Whether each rank has a part.
    pub(crate) fn is_in_parts(&self) -> bool {
        self.divided.is_some()
    }

    /// The whole model, on the CPU where ranks have parts. All ranks call it together.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn gathered(&self, ranks: &Collectives) -> Result<Decoder, Error> {
        let Some(divided) = &self.divided else { return Ok(self.model.shared()) };
        let mut wholes = Vec::new();
        divided.parts.each_whole(ranks, |_, whole| {
            let copy = Tensor::f_zeros([whole.numel() as i64], (whole.kind(), Device::Cpu))?;
            copy.shallow_clone().f_copy_(whole)?;
            wholes.push(copy);
            Ok(())
        })?;
        Ok(self.model.on_buckets(&divided.layouts, &wholes))
    }

    /// Overwrites the parameters with saved ones.
    ///
    /// # Errors
    /// The name of the first parameter that `saved` has not in its shape.
    pub(crate) fn restore(&self, saved: impl Fn(&str) -> Option<Tensor>) -> Result<(), String> {
        let _guard = tch::no_grad_guard();
        let find = |name: &str, shape: &[i64]| {
            saved(name).filter(|it| it.size() == shape).ok_or_else(|| name.to_owned())
        };
        let Some(divided) = &self.divided else {
            for (name, mut mine) in self.model.named_parameters() {
                mine.copy_(&find(&name, &mine.size())?);
            }
            return Ok(());
        };
        for (layout, (range, own)) in divided.layouts.iter().zip(&divided.own) {
            for piece in &layout.pieces {
                let found = find(&piece.name, &piece.shape)?;
                let Some(within) = piece.within(range) else { continue };
                let at = range.start + within.start - piece.start;
                let (at, n_values) = (at as i64, within.n_values as i64);
                let found = found.reshape([-1]).narrow(0, at, n_values);
                own.narrow(0, within.start as i64, n_values).copy_(&found);
            }
        }
        Ok(())
    }
}
