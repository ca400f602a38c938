//! Several processes as one run: collectives between them, on PyTorch's c10d.
//!
//! In: tensors and numbers of this process. Out: sums, parts and copies of those of all processes.
//! The crate does not know what they mean: no models, prompts or rewards.
//!
//! # Ranks
//!
//! A process is a *rank*, and has one device. A launcher starts the processes and tells each its
//! place by environment variables, those of `torchrun`:
//!
//! ```text
//! torchrun --no-python --standalone --nproc-per-node 8 joust train config.toml
//! ```
//!
//! [`World::from_env`] reads them, [`Collectives::join`] connects the ranks: on the CPU by Gloo, on
//! GPUs by NCCL, with Gloo for what is small. Without the variables there is one rank. Then every
//! collective returns at once, nothing is started, and callers need no second path.
//!
//! A launcher with names of its own is translated, as SLURM (`MASTER_ADDR` and `MASTER_PORT` are
//! those of the first node, any free port):
//!
//! ```text
//! srun bash -c 'RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID \
//!   LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE exec joust train config.toml'
//! ```
//!
//! Gloo listens at the address from which a host reaches `MASTER_ADDR`; where that is the wrong
//! network, set `GLOO_SOCKET_IFNAME` (and `NCCL_SOCKET_IFNAME`) to the interface. `torchrun` sets
//! `OMP_NUM_THREADS=1`, which is slow for ranks that compute on the CPU. Give each rank all GPUs
//! of its host and the one at `local_rank` as its device; do not hide the others with
//! `CUDA_VISIBLE_DEVICES`, because NCCL needs to see them. Sums by NCCL repeat to the bit only with
//! `NCCL_ALGO=Ring`.
//!
//! # The one rule
//!
//! **All ranks make the same collectives in the same order.** A rank that returns early from a loop
//! of collectives leaves the others waiting: decide by [`Collectives::all`] or
//! [`Collectives::any`], together. Ranks tell each other what they are about to do (256 bytes,
//! before every collective), so a rank that does something else is an [`Error::OutOfStep`] on every
//! rank at once. A rank that fails alone calls [`Collectives::fail`], wherever it is: the others'
//! next collective is then an [`Error::RankFailed`] with its reason, and all may still save what
//! they have together.
//!
//! # Failures
//!
//! A rank that dies is an [`Error::PeerLost`] on the others within milliseconds, which names it
//! where the system tells whose a connection was (Linux, up to 256 ranks); one that hangs is an
//! [`Error::TimedOut`] after the time limit. After either the collectives are of no more use: all
//! further ones fail at once with [`Error::Unusable`], which names the first failure. End the
//! process then; the launcher starts all ranks again (`torchrun --max-restarts`). What was wrong
//! with a call before anything was sent is an [`Error::Refused`], and breaks nothing. On a GPU a
//! rank that dies in the middle of a collective is not seen by waiting, which only orders the
//! stream: NCCL's watchdog ends the process after the time limit, and the next collective that is
//! announced fails before.
//!
//! c10d's words are in the errors. Its logs are off while ranks join, and of level ERROR
//! afterwards, unless `TORCH_CPP_LOG_LEVEL` is set.
//!
//! # Same bytes
//!
//! For one number of ranks, every collective gives the same bits on all ranks and in every
//! repetition. Where a sum is cut into parts depends on the length of the tensor: buckets are to be
//! made from the model alone. Another number of ranks gives other last bits. Sums in bf16 are
//! rounded at every addition; reduce gradients in f32.

#![deny(unsafe_code)]

mod bytes;
mod collectives;
mod error;
mod fault;
#[expect(unsafe_code, reason = "c10d is C++; this module alone calls it")]
mod ffi;
mod join;
mod peers;
mod planned_call;
mod rank_group;
mod tensors;
#[cfg(test)]
mod tests;
mod values;
mod work;
mod world;

pub use collectives::Collectives;
pub use error::Error;
pub use join::JoinOptions;
pub use work::Work;
pub use world::World;
