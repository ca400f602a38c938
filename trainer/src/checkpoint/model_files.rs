//! The weights of a model that is trained as a whole, in f32: written bucket by bucket, each by one
//! of the ranks, so that no rank has them all in memory.
//!
//! It does not know the other files of a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use joust_engine::folder;
use joust_engine::model::{BucketPiece, CheckpointPart};
use joust_engine::weights::{TensorEntry, TensorFile};
use tch::Kind;

use crate::error::Error;
use crate::learner::Learner;

/// The format of weights in checkpoints: no bit is lost.
pub(super) const KIND: Kind = Kind::Float;

/// The tensors of each weight file, in their order.
struct Layout<'a> {
    learner: &'a Learner,
    n_files: usize,
}

impl Layout<'_> {
    fn of(learner: &Learner) -> Layout<'_> {
        let n_files = learner.ranks.world().size.min(learner.weights.buckets.len()).max(1);
        Layout { learner, n_files }
    }

    /// The tensors of checkpoints that a parameter is.
    fn parts(&self, piece: &BucketPiece) -> Vec<CheckpointPart> {
        self.learner.model().config().checkpoint_parts(&piece.name, piece.shape[0])
    }

    /// The tensors of a file, which has every `n_files`-th bucket.
    fn entries(&self, file: usize) -> Vec<TensorEntry> {
        let buckets = self.learner.weights.buckets.iter().skip(file).step_by(self.n_files);
        let pieces = buckets.flat_map(|bucket| &bucket.layout.pieces);
        let entries = pieces.flat_map(|piece| {
            self.parts(piece).into_iter().map(|CheckpointPart { name, n_rows, .. }| {
                let mut shape = piece.shape.clone();
                shape[0] = n_rows;
                TensorEntry { name, shape, kind: KIND }
            })
        });
        entries.collect()
    }
}

/// Writes this rank's weight files, and the first rank their index where there are several. All
/// ranks call it together.
///
/// # Errors
/// [`Error::Engine`] for a file that cannot be written; [`Error::Ranks`].
pub(super) fn write(dir: &Path, learner: &Learner) -> Result<(), Error> {
    let _guard = tch::no_grad_guard();
    let (layout, world) = (Layout::of(learner), learner.ranks.world());
    let path = |file: usize| dir.join(folder::weight_file_name(file, layout.n_files));
    let texts = BTreeMap::from([("format", "pt".to_owned())]);
    let create = |file| TensorFile::create(&path(file), &texts, layout.entries(file));
    let mut file = (world.rank < layout.n_files).then(|| create(world.rank)).transpose()?;
    for (idx, bucket) in learner.weights.buckets.iter().enumerate() {
        let whole = bucket.whole(&bucket.master, &learner.ranks)?;
        let Some(file) = file.as_mut().filter(|_| idx % layout.n_files == world.rank) else {
            continue;
        };
        for (piece, values) in bucket.layout.pieces.iter().zip(bucket.layout.views(&whole)) {
            for CheckpointPart { start, n_rows, .. } in layout.parts(piece) {
                file.write(&values.narrow(0, start, n_rows))?;
            }
        }
    }
    file.map_or(Ok(()), TensorFile::finish)?;
    if world.is_first() && layout.n_files > 1 {
        write_index(dir, &layout)?;
    }
    Ok(())
}

fn write_index(dir: &Path, layout: &Layout<'_>) -> Result<(), Error> {
    let mut file_of = BTreeMap::new();
    let mut n_bytes = 0;
    for file in 0..layout.n_files {
        for TensorEntry { name, shape, kind } in layout.entries(file) {
            file_of.insert(name, folder::weight_file_name(file, layout.n_files));
            n_bytes += shape.iter().product::<i64>() as usize * kind.elt_size_in_bytes();
        }
    }
    Ok(folder::save_index(dir, &file_of, n_bytes)?)
}
