//! The contracts between the stages: ids, Arrow tables, Parquet, IPC and JSON Lines, seeds, the
//! keys of configs.
//!
//! Stages exchange these types only. It does not know tensors, sockets or models.

#![forbid(unsafe_code)]

pub mod atomic;
pub mod column;
pub mod config;
pub mod control_tokens;
mod error;
pub mod group_rows;
pub mod ids;
pub mod ipc;
pub mod jsonl;
pub mod known;
pub mod manifest;
pub mod ordered_json;
pub mod parquet;
pub mod prompt;
pub mod rows;
pub mod seed;
pub mod table;
pub mod tables;

pub use error::Error;
