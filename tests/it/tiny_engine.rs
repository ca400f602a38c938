//! An engine with a tiny model, its samples by request, and draws for requests.

use std::collections::BTreeMap;

use joust_engine::{Engine, EngineConfig, RequestId, Sample};
use joust_schema::seed::Seed;

use crate::golden;

/// Samples by request and index.
pub(crate) type SamplesById = BTreeMap<(RequestId, u32), Sample>;

/// Opens the engine.
pub(crate) fn open(config: &EngineConfig) -> Engine {
    Engine::open(&golden::path("models/tiny-qwen2"), config).unwrap()
}

pub(crate) fn by_id(samples: Vec<Sample>) -> SamplesById {
    samples.into_iter().map(|sample| ((sample.request_id, sample.index), sample)).collect()
}

/// Steps until no work is left, and returns all samples.
pub(crate) fn finish(engine: &mut Engine) -> Vec<Sample> {
    let mut samples = Vec::new();
    while engine.has_work() {
        samples.extend(engine.step().unwrap());
    }
    samples
}

/// A number below `below`, by the request's id and what it is for.
pub(crate) fn draw(id: u64, what: &str, below: u64) -> u64 {
    Seed::new(5).child_str("load", what).child("request", id).0 % below
}
