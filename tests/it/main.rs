//! Integration tests, one binary: models against transformers, commands as users type them, whole
//! runs on the shipped models.

mod batching;
mod binary;
mod configs;
mod contracts;
mod dumps;
mod engine;
mod errors;
mod examples;
mod fp8;
mod killed;
mod nano;
mod parity;
mod rate;
mod serve;
mod serving;
mod smollm2;
mod structure;
mod train;
