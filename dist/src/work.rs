//! A collective under way. Knows not which.

use std::marker::PhantomData;

use tch::Tensor;

use crate::error::Error;
use crate::ffi::PendingWork;
use crate::rank_group::RankGroup;

/// A collective that was started, and borrows its tensors until it has been waited for.
///
/// Dropping it waits, too; a failure is then in the error of the next collective. On a GPU waiting
/// means that what the current stream does next comes after the collective.
#[must_use = "dropping it waits for the collective at once"]
pub struct Work<'a> {
    under_way: Option<(&'a RankGroup, PendingWork)>,
    tensors: PhantomData<&'a mut Tensor>,
}

impl<'a> Work<'a> {
    pub(crate) fn started(group: &'a RankGroup, work: PendingWork) -> Self {
        Self { under_way: Some((group, work)), tensors: PhantomData }
    }

    /// A collective that had nothing to wait for.
    pub(crate) fn done() -> Self {
        Self { under_way: None, tensors: PhantomData }
    }

    /// Waits for the end of the collective.
    ///
    /// # Errors
    /// [`Error::PeerLost`], [`Error::TimedOut`] or [`Error::Backend`].
    pub fn wait(mut self) -> Result<(), Error> {
        self.under_way.take().map_or(Ok(()), |(group, work)| group.finish(work))
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        // After a failure the others may never end. c10d holds on to the tensors' memory.
        if let Some((group, work)) = self.under_way.take()
            && !group.has_failed()
        {
            let _ = group.finish(work);
        }
    }
}
