//! Results on disk: the journal, and the sets of Parquet tables made from it.

pub(crate) mod journal;
pub(crate) mod recorder;
pub(crate) mod sets;
