//! Memory that starts where a page starts: a vector that lies across two cache lines is read twice,
//! and the processor does not read ahead over the end of a page.

use std::ops::{Deref, DerefMut};

/// Bytes of a page.
const PAGE: usize = 4_096;

/// Values of a fixed number, the first at the start of a page.
pub(super) struct Aligned<T> {
    memory: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// `len` zeros. Pages that nobody touches cost nothing.
    pub(super) fn zeros(len: usize) -> Self {
        let memory = vec![T::default(); len + PAGE / size_of::<T>()];
        let start = memory.as_ptr().align_offset(PAGE).min(memory.len() - len);
        Self { memory, start, len }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..self.start + self.len]
    }
}
