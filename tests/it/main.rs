//! Integration tests, one binary: models against transformers, commands as users type them, whole
//! runs on the shipped models, servers as clients see them, and the workspace's own order.

mod batching;
mod binary;
mod configs;
mod contracts;
mod corpora;
mod data_files;
mod doctor;
mod dumps;
mod earlier_dumps;
mod engine_memory;
mod errors;
mod examples;
mod fp8;
mod full_disk;
mod golden;
mod gone;
mod held_judge;
mod http;
mod judge_servers;
mod killed;
mod nano;
mod parity;
mod prefix_sharing;
mod quantize;
mod rate;
mod serve;
mod serving;
mod smollm2;
mod soak;
mod stopped;
mod streams;
mod structure;
mod tiny_engine;
mod train;
mod wire;
