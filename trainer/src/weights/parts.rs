//! A model's buckets of which each rank has a part, and the buffers in which they become whole for
//! a moment: two that the layers take turns in, and one or two for what is before and after them.
//!
//! Whether the values are weights or gradients is not known here.

use std::ops::Range;

use joust_dist::Collectives;
use joust_engine::model::{Bucket, Section};
use tch::{Device, Kind, Tensor};

use crate::error::Error;

/// Number of values that each rank's part of a bucket is a multiple of.
const ALIGNMENT: usize = 16;

/// Number of values that a bucket is a multiple of.
pub(crate) fn multiple(ranks: &Collectives) -> usize {
    ALIGNMENT * ranks.world().size
}

/// This rank's part of a bucket.
pub(crate) fn own_range(bucket: &Bucket, ranks: &Collectives) -> Range<usize> {
    let n_own = bucket.n_values / ranks.world().size;
    ranks.world().rank * n_own..(ranks.world().rank + 1) * n_own
}

/// The values in a range of a flat tensor.
pub(crate) fn values_in(flat: &Tensor, range: &Range<usize>) -> Tensor {
    flat.narrow(0, range.start as i64, range.len() as i64)
}

/// Buffers that buckets take turns in.
pub(crate) struct SectionBuffers {
    flats: Vec<Tensor>,
    /// The buffer of each bucket.
    of_buckets: Vec<usize>,
}

/// The buffer of a section. An output head of its own is needed after the embedding and before its
/// gradient, so that both have one buffer; one that is the embedding is needed all the time.
fn buffer_of(section: Section, has_own_head: bool) -> usize {
    match section {
        Section::Layer(layer_idx) => layer_idx % 2,
        Section::Head if !has_own_head => 3,
        Section::Embedding | Section::Head => 2,
    }
}

impl SectionBuffers {
    pub(crate) fn new(buckets: &[Bucket], kind: Kind, device: Device) -> Result<Self, Error> {
        // beside the final norm
        let has_own_head =
            buckets.iter().any(|it| it.section() == Section::Head && it.pieces.len() > 1);
        let of_buckets: Vec<usize> =
            buckets.iter().map(|it| buffer_of(it.section(), has_own_head)).collect();
        let mut lengths = [0; 4];
        for (bucket, &buffer) in buckets.iter().zip(&of_buckets) {
            lengths[buffer] = bucket.n_values.max(lengths[buffer]);
        }
        let flat = |n_values: usize| Tensor::f_zeros([n_values as i64], (kind, device));
        Ok(Self { flats: lengths.into_iter().map(flat).collect::<Result<_, _>>()?, of_buckets })
    }

    /// The memory of each bucket while it is whole.
    pub(crate) fn flats(&self, buckets: &[Bucket]) -> Vec<Tensor> {
        let flat = |(bucket, &buffer): (&Bucket, &usize)| {
            self.flats[buffer].narrow(0, 0, bucket.n_values as i64)
        };
        buckets.iter().zip(&self.of_buckets).map(flat).collect()
    }

    /// The same buffers; they cannot be used at the same time.
    pub(crate) fn shallow_clone(&self) -> Self {
        let flats = self.flats.iter().map(Tensor::shallow_clone).collect();
        Self { flats, of_buckets: self.of_buckets.clone() }
    }

    fn kind(&self) -> Kind {
        self.flats[0].kind()
    }
}

/// What a rank has of a bucket.
pub(crate) struct OwnPart {
    section: Section,
    own: Range<usize>,
    /// The values in `own`.
    values: Tensor,
    /// The bucket while it is whole, in its buffer.
    whole: Tensor,
    buffer: usize,
}

/// All buckets of a model of which each rank has a part.
pub(crate) struct BucketParts {
    parts: Vec<OwnPart>,
    buffers: SectionBuffers,
}

impl OwnPart {
    /// The place of this rank's part in the buffer.
    pub(super) fn own_of_whole(&self) -> Tensor {
        values_in(&self.whole, &self.own)
    }

    pub(super) fn values(&self) -> &Tensor {
        &self.values
    }

    pub(super) fn whole(&self) -> &Tensor {
        &self.whole
    }

    pub(super) fn buffer(&self) -> usize {
        self.buffer
    }
}

impl BucketParts {
    /// Takes each rank's ranges of the buckets, with their values.
    pub(crate) fn new(
        buckets: &[Bucket],
        own: Vec<(Range<usize>, Tensor)>,
        buffers: SectionBuffers,
    ) -> Self {
        let sections = buckets.iter().map(Bucket::section);
        let wholes = buffers.flats(buckets).into_iter().zip(&buffers.of_buckets);
        let mut parts = Vec::new();
        for ((section, (own, values)), (whole, &buffer)) in sections.zip(own).zip(wholes) {
            parts.push(OwnPart { section, own, values, whole, buffer });
        }
        Self { parts, buffers }
    }

    pub(crate) fn n_buffers(&self) -> usize {
        self.buffers.flats.len()
    }

    /// The memory of each bucket while it is whole.
    pub(crate) fn flats(&self, buckets: &[Bucket]) -> Vec<Tensor> {
        self.buffers.flats(buckets)
    }

    /// The buffers, for other parts in the same number format.
    pub(crate) fn buffers(&self, buckets: &[Bucket], kind: Kind) -> Option<SectionBuffers> {
        let wanted = buckets.iter().map(|it| it.n_values);
        let fits =
            kind == self.buffers.kind() && wanted.eq(self.parts.iter().map(|it| it.whole.numel()));
        fits.then(|| self.buffers.shallow_clone())
    }

    /// The bucket of a section; none where nothing of the section is trained.
    pub(super) fn of(&self, section: Section) -> Option<(usize, &OwnPart)> {
        self.parts.iter().enumerate().find(|(_, it)| it.section == section)
    }

    pub(super) fn at(&self, bucket: usize) -> &OwnPart {
        &self.parts[bucket]
    }

    /// Makes one bucket after the other whole, and gives each to `take`. All ranks do it together.
    ///
    /// # Errors
    /// [`Error::Ranks`], and those of `take`.
    pub(crate) fn each_whole(
        &self,
        ranks: &Collectives,
        mut take: impl FnMut(usize, &Tensor) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        for (idx, part) in self.parts.iter().enumerate() {
            let mut own = part.own_of_whole();
            own.f_copy_(&part.values)?;
            ranks.all_gather(&mut part.whole.shallow_clone(), &own)?;
            take(idx, &part.whole)?;
        }
        Ok(())
    }
}
