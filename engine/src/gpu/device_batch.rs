//! A batch's integers on the device, packed into one buffer, so that one copy uploads them.

use tch::{Device, Kind, Tensor};

use super::batch::GpuBatch;
use super::cascade::{BUNDLE_ROWS, CascadePlan, most_bundles};
use super::ops::{CascadeBundles, DecodeContexts};
use super::tuning::n_splits;
use crate::error::Error;

/// Sizes that give the offset of each array in the packed buffer. Steps with the same layout have
/// the same offsets, which recorded graphs rely on.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLayout {
    /// Number of tokens of the step, padding included.
    pub(super) n_tokens: usize,
    /// Number of decoding rows, which come first, padding included.
    pub(super) n_rows: usize,
    /// Whether some decoding rows share a prefix.
    pub(super) is_shared: bool,
}

/// The packed buffer: `[capacity]` i32.
pub(super) struct DeviceBatch {
    all: Tensor,
    /// Number of spans reserved per decoding row.
    n_spans: usize,
}

/// Number of integers of a layout.
pub(super) fn count(n_tokens: usize, n_rows: usize, n_spans: usize) -> usize {
    3 * n_tokens + n_rows * (2 + n_spans) + most_bundles(n_rows) * (BUNDLE_ROWS + 1)
}

impl DeviceBatch {
    pub(super) fn new(
        n_tokens: usize,
        n_rows: usize,
        n_spans: usize,
        device: Device,
    ) -> Result<Self, Error> {
        let n = count(n_tokens, n_rows, n_spans) as i64;
        Ok(Self { all: Tensor::f_zeros([n], (Kind::Int, device))?, n_spans })
    }

    /// Copies a batch to the device, padded to the layout's tokens and rows.
    pub(super) fn load(
        &self,
        layout: BatchLayout,
        table: &GpuBatch,
        sharing: Option<&CascadePlan>,
    ) -> Result<(), Error> {
        let BatchLayout { n_tokens, n_rows, is_shared } = layout;
        debug_assert_eq!(is_shared, sharing.is_some(), "the layout is that of the batch");
        let n_bundles = most_bundles(n_rows);
        let mut all = Vec::with_capacity(count(n_tokens, n_rows, self.n_spans));
        let mut push = |values: &[i32], n: usize, with: i32| {
            all.extend_from_slice(values);
            all.extend(std::iter::repeat_n(with, n - values.len()));
        };
        push(&table.tokens, n_tokens, 0);
        push(&table.positions, n_tokens, 0);
        push(&table.slots, n_tokens, -1);
        let n_spans: Vec<i32> = table.decoding.iter().map(|spans| spans.len() as i32).collect();
        push(&n_spans, n_rows, 0);
        if let Some(sharing) = sharing {
            // padding bundles have no spans: the kernel does not read their rows
            push(&sharing.n_shared, n_rows, 0);
            push(sharing.rows.as_flattened(), n_bundles * BUNDLE_ROWS, 0);
            push(&sharing.n_spans, n_bundles, 0);
        }
        for context in &table.decoding {
            push(context, self.n_spans, 0);
        }
        let from = Tensor::f_from_slice(&all)?;
        Ok(self.all.f_narrow(0, 0, all.len() as i64)?.f_copy_(&from)?)
    }

    fn part(&self, start: usize, n: usize) -> Result<Tensor, Error> {
        Ok(self.all.f_narrow(0, start as i64, n as i64)?)
    }

    /// One of the layout's arrays: `[n]` i32.
    pub(super) fn tokens(&self, layout: BatchLayout) -> Result<Tensor, Error> {
        self.part(0, layout.n_tokens)
    }

    /// One of the layout's arrays: `[n]` i32.
    pub(super) fn positions(&self, layout: BatchLayout) -> Result<Tensor, Error> {
        self.part(layout.n_tokens, layout.n_tokens)
    }

    /// Slot per token, `[n]` i32: block · BLOCK_TOKENS + offset, negative for padding.
    pub(super) fn slots(&self, layout: BatchLayout) -> Result<Tensor, Error> {
        self.part(2 * layout.n_tokens, layout.n_tokens)
    }

    /// Contexts of the decoding rows, with bundles where rows share a prefix.
    pub(super) fn contexts(&self, layout: BatchLayout) -> Result<DecodeContexts, Error> {
        let BatchLayout { n_tokens, n_rows, is_shared } = layout;
        let (n_splits, n_bundles) = (n_splits(n_rows) as i64, most_bundles(n_rows));
        let mut at = 3 * n_tokens;
        let mut next = |n: usize| {
            at += n;
            self.part(at - n, n)
        };
        let n_spans = next(n_rows)?;
        let shared = match is_shared {
            true => Some(CascadeBundles {
                n_shared: next(n_rows)?,
                rows: next(n_bundles * BUNDLE_ROWS)?.f_view([-1, BUNDLE_ROWS as i64])?,
                n_spans: next(n_bundles)?,
                n_splits,
            }),
            false => None,
        };
        let spans = next(n_rows * self.n_spans)?.f_view([n_rows as i64, self.n_spans as i64])?;
        Ok(DecodeContexts { spans, n_spans, n_splits, cascade: shared })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tensor: &Tensor) -> Vec<i32> {
        Vec::try_from(tensor.f_view([-1]).unwrap()).unwrap()
    }

    #[test]
    fn device_batch_load_pads_and_hides_the_previous_batch() {
        let numbers = DeviceBatch::new(4, 4, 3, Device::Cpu).unwrap();
        let table = GpuBatch {
            tokens: vec![5, 6, 7],
            positions: vec![1, 2, 3],
            slots: vec![10, 20, 30],
            decoding: vec![vec![33, 65], vec![33, 65, 97], vec![129]],
            ..GpuBatch::default()
        };
        let mut sharing = CascadePlan::none(3);
        sharing.add(&[0, 1], 2);
        for is_shared in [false, true, false] {
            let _ = numbers.all.shallow_clone().fill_(77);
            let layout = BatchLayout { n_tokens: 4, n_rows: 4, is_shared };
            numbers.load(layout, &table, is_shared.then_some(&sharing)).unwrap();
            assert_eq!(read(&numbers.tokens(layout).unwrap()), [5, 6, 7, 0]);
            assert_eq!(read(&numbers.positions(layout).unwrap()), [1, 2, 3, 0]);
            assert_eq!(read(&numbers.slots(layout).unwrap()), [10, 20, 30, -1]);
            let contexts = numbers.contexts(layout).unwrap();
            assert_eq!(read(&contexts.n_spans), [2, 3, 1, 0]);
            // kernels do not read beyond a row's spans
            let spans = read(&contexts.spans);
            assert_eq!(spans[..9], [33, 65, 0, 33, 65, 97, 129, 0, 0]);
            assert_eq!(contexts.spans.size(), [4, 3]);
            let Some(shared) = contexts.cascade else {
                assert!(!is_shared);
                continue;
            };
            assert_eq!(read(&shared.n_shared), [2, 2, 0, 0]);
            assert_eq!(read(&shared.n_spans), [2, 0]);
            assert_eq!(read(&shared.rows)[..3], [0, 1, -1]);
            assert_eq!(shared.rows.size(), [2, BUNDLE_ROWS as i64]);
        }
    }
}
