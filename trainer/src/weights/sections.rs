//! The sections of a model during passes: weights in parts become whole before a section is read,
//! and its gradients go into parts once it has them all. Where nothing is in parts, nothing is
//! done.
//!
//! Ranks with parts make the same passes, some of them with nothing to compute. What is computed is
//! not known here.

use joust_dist::{Collectives, Work};
use joust_engine::model::Section;

use super::parts::BucketParts;
use crate::error::Error;

/// The sections of a model during the passes of an update.
pub(crate) struct Sections<'a> {
    ranks: &'a Collectives,
    weights: Option<Gathering<'a>>,
    gradients: Option<Scattering<'a>>,
}

impl<'a> Sections<'a> {
    /// Takes what is in parts.
    pub(crate) fn new(
        ranks: &'a Collectives,
        weights: Option<&'a BucketParts>,
        gradients: Option<&'a BucketParts>,
    ) -> Self {
        Self {
            ranks,
            weights: weights.map(|it| Gathering::new(ranks, it)),
            gradients: gradients.map(|it| Scattering::new(ranks, it)),
        }
    }

    /// Whether the ranks make the same passes.
    fn in_step(&self) -> bool {
        self.weights.is_some() || self.gradients.is_some()
    }

    /// The number of passes of all ranks, where this one has something to compute in `own` of them.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn n_passes(&self, own: usize) -> Result<usize, Error> {
        let mut most = [own as f64];
        if self.in_step() {
            self.ranks.max_f64(&mut most)?;
        }
        Ok(most[0] as usize)
    }

    /// Whether a pass goes on, which ranks with parts decide together.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn all(&self, yes: bool) -> Result<bool, Error> {
        match self.in_step() {
            true => Ok(self.ranks.all(yes)?),
            false => Ok(yes),
        }
    }

    /// Waits until the weights of a section are whole, and begins with those that are `next`.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn open(&mut self, section: Section, next: Option<Section>) -> Result<(), Error> {
        let Some(weights) = &mut self.weights else { return Ok(()) };
        weights.start(section)?;
        weights.wait(section)?;
        next.map_or(Ok(()), |next| weights.start(next))
    }

    /// Makes the sums of a section's gradients whole zeros, where they are in parts.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn begin_sums(&mut self, section: Section) -> Result<(), Error> {
        self.gradients.as_mut().map_or(Ok(()), |it| it.begin(section))
    }

    /// Begins to add each rank's part of a section's gradients to its sums.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn end_sums(&mut self, section: Section) -> Result<(), Error> {
        self.gradients.as_mut().map_or(Ok(()), |it| it.end(section))
    }

    /// Waits until all sums are there.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(crate) fn finish(self) -> Result<(), Error> {
        self.gradients.map_or(Ok(()), Scattering::finish)
    }
}

/// Weights on their way to all ranks.
struct Gathering<'a> {
    ranks: &'a Collectives,
    parts: &'a BucketParts,
    /// The bucket in each buffer.
    held: Vec<Option<usize>>,
    under_way: Vec<Option<Work<'a>>>,
}

impl<'a> Gathering<'a> {
    fn new(ranks: &'a Collectives, parts: &'a BucketParts) -> Self {
        let n = parts.n_buffers();
        Self { ranks, parts, held: vec![None; n], under_way: (0..n).map(|_| None).collect() }
    }

    fn start(&mut self, section: Section) -> Result<(), Error> {
        let Some((idx, part)) = self.parts.of(section) else { return Ok(()) };
        let buffer = part.buffer();
        if self.held[buffer] == Some(idx) {
            return Ok(());
        }
        self.settle(buffer)?;
        let _guard = tch::no_grad_guard();
        let mut own = part.own_of_whole();
        own.f_copy_(part.values())?;
        self.held[buffer] = Some(idx);
        self.under_way[buffer] = Some(self.ranks.all_gather_of(part.whole(), &own)?);
        Ok(())
    }

    fn wait(&mut self, section: Section) -> Result<(), Error> {
        match self.parts.of(section) {
            Some((_, part)) => self.settle(part.buffer()),
            None => Ok(()),
        }
    }

    fn settle(&mut self, buffer: usize) -> Result<(), Error> {
        match self.under_way[buffer].take() {
            Some(work) => Ok(work.wait()?),
            None => Ok(()),
        }
    }
}

/// Gradients on their way to the ranks that they belong to.
struct Scattering<'a> {
    ranks: &'a Collectives,
    parts: &'a BucketParts,
    /// Of each buffer, its bucket.
    under_way: Vec<Option<(usize, Work<'a>)>>,
}

impl<'a> Scattering<'a> {
    fn new(ranks: &'a Collectives, parts: &'a BucketParts) -> Self {
        Self { ranks, parts, under_way: (0..parts.n_buffers()).map(|_| None).collect() }
    }

    fn begin(&mut self, section: Section) -> Result<(), Error> {
        let Some((_, part)) = self.parts.of(section) else { return Ok(()) };
        self.settle(part.buffer())?;
        let _guard = tch::no_grad_guard();
        let _ = part.whole().shallow_clone().f_zero_()?;
        Ok(())
    }

    fn end(&mut self, section: Section) -> Result<(), Error> {
        let Some((idx, part)) = self.parts.of(section) else { return Ok(()) };
        let work = self.ranks.reduce_scatter_sum_of(part.whole(), &part.own_of_whole())?;
        self.under_way[part.buffer()] = Some((idx, work));
        Ok(())
    }

    fn settle(&mut self, buffer: usize) -> Result<(), Error> {
        let Some((idx, work)) = self.under_way[buffer].take() else { return Ok(()) };
        work.wait()?;
        let _guard = tch::no_grad_guard();
        let part = self.parts.at(idx);
        let _ = part.values().shallow_clone().f_add_(&part.own_of_whole())?;
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        (0..self.under_way.len()).try_for_each(|buffer| self.settle(buffer))
    }
}
