//! Memory that is aligned to pages: a vector that crosses a cache line costs two reads, and the
//! processor does not prefetch across the end of a page. It knows nothing of the values.

use std::ops::{Deref, DerefMut};

/// Number of bytes per page.
const PAGE: usize = 4_096;

/// A fixed number of values; the first is at the start of a page.
pub(super) struct PageAligned<T> {
    memory: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> PageAligned<T> {
    /// `len` zeros. Untouched pages take no memory.
    pub(super) fn zeros(len: usize) -> Self {
        let memory = vec![T::default(); len + PAGE / size_of::<T>()];
        let start = memory.as_ptr().align_offset(PAGE).min(memory.len() - len);
        Self { memory, start, len }
    }
}

impl<T> Deref for PageAligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for PageAligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..self.start + self.len]
    }
}
