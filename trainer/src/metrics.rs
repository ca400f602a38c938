//! The metrics of a training step, by name.

/// Values of one step by their name in `metrics.jsonl`; docs/metrics.md explains each.
pub type Metrics = std::collections::BTreeMap<String, f64>;
