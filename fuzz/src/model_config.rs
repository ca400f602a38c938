//! The `config.json` of a model folder.

use std::path::Path;

use joust_engine::ModelConfig;
use serde_json::Value;
use tch::Kind;

use super::refusal;

/// Reads a config; what is written back reads as the same config.
pub fn check(bytes: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Value>(bytes) else { return };
    let path = Path::new("model/config.json");
    match ModelConfig::from_json(path, &json) {
        Ok(config) => {
            let written = config.to_json(config.torch_dtype.unwrap_or(Kind::Float));
            if let Err(error) = ModelConfig::from_json(path, &written) {
                panic!("{error}, in what was written for {json}");
            }
        }
        Err(error) => refusal::check(&error),
    }
}
