//! Config files and overrides of `joust train`, `sft`, `dpo` and `serve`: their merge and their
//! checks.

use std::path::PathBuf;
use std::slice::from_ref;

use joust_run::config::dpo::DpoRun;
use joust_run::config::merge::Merged;
use joust_run::config::sft::SftRun;
use joust_run::config::train::TrainRun;
use joust_server::ServeConfig;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::refusal;
use super::scratch::ScratchFile;

/// Line between the text of a file and the overrides, one a line.
const OVERRIDES: &str = "\n--- overrides\n";

/// A config with the server's section alone.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ServeRun {
    serve: ServeConfig,
}

/// Merges a file with overrides, alone and over a shipped config, and checks the result.
pub fn check(bytes: &[u8]) {
    let at = bytes.windows(OVERRIDES.len()).position(|window| window == OVERRIDES.as_bytes());
    let (file, rest) = match at {
        Some(at) => (&bytes[..at], &bytes[at + OVERRIDES.len()..]),
        None => (bytes, &[][..]),
    };
    let rest = String::from_utf8_lossy(rest);
    let overrides: Vec<String> = rest.lines().map(str::to_owned).collect();
    let file = ScratchFile::new("config.toml", file);
    let shipped = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/quickstart.toml"));
    let train = |config: &TrainRun| config.validate();
    read(from_ref(&file.path), &overrides, train);
    read(&[shipped.clone(), file.path.clone()], &overrides, train);
    read(&[file.path.clone(), shipped], &overrides, train);
    read(from_ref(&file.path), &overrides, SftRun::validate);
    read(from_ref(&file.path), &overrides, DpoRun::validate);
    let serve = |config: &ServeRun| joust_run::config::refuse(config.serve.validate());
    read(from_ref(&file.path), &overrides, serve);
}

fn read<T: Default + Serialize + DeserializeOwned + JsonSchema>(
    files: &[PathBuf],
    overrides: &[String],
    validate: impl Fn(&T) -> Result<(), joust_run::Error>,
) {
    let merged = Merged::read(files, overrides);
    let config = merged.and_then(|merged| merged.into_config::<T>(|_| Vec::new()));
    if let Err(error) = config.and_then(|config| validate(&config)) {
        refusal::check(&error);
    }
}
