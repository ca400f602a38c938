//! Results on disk: the journal, and the sets of Parquet tables made from it.

mod backlog;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod health;
pub(crate) mod journal;
pub(crate) mod recorder;
pub(crate) mod sets;
