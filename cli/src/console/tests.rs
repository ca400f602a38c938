//! The lines of steps.

use joust_trainer::Metrics;

use super::{dpo_parts, sft_parts, training_parts};

fn metrics(values: &[(&str, f64)]) -> Metrics {
    values.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
}

/// A step with everything that a line may show but failures.
fn step() -> Metrics {
    metrics(&[
        ("reward", 0.5),
        ("accuracy", 0.617),
        ("updates", 1.0),
        ("groups/scored", 16.0),
        ("groups/with_spread", 13.0),
        ("frac_reward_missing", 0.0),
        ("completions/mean_length", 1031.4),
        ("entropy", 0.412),
        ("time/rollout_s", 1.23),
        ("time/reward_s", 134.2),
        ("time/train_s", 9.96),
    ])
}

fn training_line(metrics: &Metrics) -> String {
    training_parts(metrics).join(" ")
}

#[test]
fn training_line_shows_what_a_step_was_within_100_columns() {
    let wanted = "reward 0.500 acc 62% updates 1 spread 13/16 len 1031 ent 0.41 \
                  sample 1.2 score 134 train 10 s";
    assert_eq!(training_line(&step()), wanted);
    assert!(format!("99/120 {wanted}").len() <= 100);
    // at 80 columns the stages are on a line of their own
    let parts = training_parts(&step());
    assert_eq!(parts.last().unwrap(), "sample 1.2 score 134 train 10 s");
    assert!(format!("120/120 {}", parts[..parts.len() - 1].join(" ")).len() <= 80);
}

#[test]
fn training_line_shows_failures_where_there_are_some() {
    let with = |share| {
        let mut metrics = step();
        metrics.insert("frac_reward_missing".to_owned(), share);
        training_line(&metrics)
    };
    assert!(!with(0.0).contains("failed"));
    assert!(with(0.002).contains(" spread 13/16 failed <1% len"), "{}", with(0.002));
    assert!(with(0.26).contains(" failed 26% "));
}

#[test]
fn training_line_leaves_out_what_a_step_does_not_have() {
    let line = training_line(&metrics(&[("updates", 0.0), ("time/train_s", 0.0)]));
    assert_eq!(line, "updates 0 train 0.0 s");
}

#[test]
fn tuning_lines_show_what_was_learned_and_measured() {
    let learned = [
        ("loss", 0.61234),
        ("mean_token_accuracy", 0.98),
        ("rewards/accuracies", 0.75),
        ("rewards/margins", 0.21),
        ("tokens_per_second", 2100.4),
    ];
    assert_eq!(sft_parts(&metrics(&learned)), ["loss 0.6123", "accuracy 0.980", "2100 tokens/s"]);
    let measured = [("eval/loss", 0.7), ("eval/rewards/accuracies", 0.5)];
    let parts = dpo_parts(&metrics(&[&learned[..], &measured].concat()));
    let wanted = "loss 0.6123 accuracy 0.750 margin 0.210 eval loss 0.7000 accuracy 0.500 \
                  2100 tokens/s";
    assert_eq!(parts.join(" "), wanted);
    for (n, wanted) in [(1.0, "no update, 1 pair left out"), (2.0, "no update, 2 pairs left out")] {
        assert_eq!(dpo_parts(&metrics(&[("skipped_examples", n)])), [wanted]);
    }
}
