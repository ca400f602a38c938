//! The routes as a client sees them: one file per protocol.

mod auth;
mod chat;
mod encoding;
pub(crate) mod fixture;
mod flight;
mod jobs;
mod limits;
mod messages;
mod metrics;
mod native;
mod nemo_gym;
mod openapi;
mod openrlhf;
mod pages;
mod rerank;
mod restart;
mod shutdown;
mod slime;
mod streams;
mod tenants;
mod vllm;
