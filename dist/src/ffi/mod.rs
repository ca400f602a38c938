//! The only unsafe code of this crate: calls of `c10d/shim.cpp`. Each function is small and safe to
//! call, and fails with c10d's words. It knows nothing of ranks' duties or kinds of errors.

mod call;
mod group;
mod logs;
mod store;

pub(crate) use call::Words;
pub(crate) use group::{PendingWork, ProcessGroup};
pub(crate) use logs::{init_logs, log_errors};
pub(crate) use store::Store;

#[cfg(test)]
pub(crate) use group::nccl_constructors;
