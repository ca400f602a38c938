//! One file per protocol: request body in, result or [`crate::problem::Problem`] out.

pub(crate) mod chat;
pub(crate) mod chat_request;
pub(crate) mod chat_text;
pub(crate) mod comparable;
pub(crate) mod flight;
pub(crate) mod group_stream;
pub(crate) mod grpc_body;
pub(crate) mod ipc;
pub(crate) mod jobs;
pub(crate) mod lines;
pub(crate) mod native;
pub(crate) mod nemo_gym;
pub(crate) mod openrlhf;
pub(crate) mod per_completion;
pub(crate) mod query_split;
pub(crate) mod raw_object;
pub(crate) mod rerank;
pub(crate) mod responses;
pub(crate) mod slime;
pub(crate) mod streams;
pub(crate) mod system;
pub(crate) mod table;
pub(crate) mod vllm;
