//! The metrics of a training step, by name.

/// Values of one step by their name in `metrics.jsonl`; docs/metrics.md explains each.
pub type Metrics = std::collections::BTreeMap<String, f64>;

/// Prefix of the metrics of held-out samples.
const HELD_OUT: &str = "eval/";

/// The metrics of held-out samples: the loss and those of the objective, named as such.
pub(crate) fn held_out_metrics(loss: f64, of_objective: Metrics, n_skipped: usize) -> Metrics {
    let more = [("loss".to_owned(), loss), ("skipped_examples".to_owned(), n_skipped as f64)];
    let all = of_objective.into_iter().chain(more);
    all.map(|(name, value)| (format!("{HELD_OUT}{name}"), value)).collect()
}
