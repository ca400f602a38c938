//! The parsers that read what strangers write, each as a function of bytes that panics on a fault.
//!
//! A parser may refuse its input, in one line; it may not panic, hang, or use memory out of
//! proportion. `targets/` mutates inputs towards new code; `tests/it/corpora.rs` replays the
//! corpora. Both use this file, so it knows neither of them.

pub mod answer;
pub mod chat_template;
pub mod gguf;
pub mod model_config;
mod refusal;
pub mod request;
pub mod run_config;
pub mod safetensors;
mod scratch;
pub mod verdict;

/// A check of one parser.
pub type ParserCheck = fn(&[u8]);

/// Checks of all parsers, each with the name of its target and corpus.
pub const PARSERS: [(&str, ParserCheck); 9] = [
    ("verdict", verdict::check),
    ("answer", answer::check),
    ("safetensors", safetensors::check),
    ("gguf", gguf::check),
    ("model_config", model_config::check),
    ("run_config", run_config::check),
    ("json_body", request::check_json),
    ("arrow_body", request::check_arrow),
    ("chat_template", chat_template::check),
];
