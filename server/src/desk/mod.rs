//! Handle to the judge thread: admission control, single flight, dispatch and cancellation.
//!
//! `ledger ← commands ← thread ← handle`; `admission`, `fair_queue`, `open_groups` and `results`
//! are the pure parts.

pub(crate) mod admission;
pub(crate) mod commands;
pub(crate) mod fair_queue;
pub(crate) mod handle;
pub(crate) mod ledger;
pub(crate) mod open_groups;
pub(crate) mod results;
pub(crate) mod thread;
