//! The lines of steps.

use joust_trainer::Metrics;

use super::training_line;

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

#[test]
fn training_line_shows_what_a_step_was_within_110_columns() {
    let line = training_line(&step(), Some(0.5));
    assert_eq!(
        line,
        "reward 0.500 acc 62 % updates 1 spread 13/16 length 1031 entropy 0.41 sample 1.2 judge \
         134 train 10 s"
    );
    assert!(format!("120/120 {line}").len() <= 110);
}

#[test]
fn training_line_shows_failures_where_there_are_some() {
    let with = |share| {
        let mut metrics = step();
        metrics.insert("frac_reward_missing".to_owned(), share);
        training_line(&metrics, None)
    };
    assert!(!with(0.0).contains("failed"));
    assert!(with(0.002).contains(" spread 13/16 failed <1 % length"), "{}", with(0.002));
    assert!(with(0.26).contains(" failed 26 % "));
}

#[test]
fn training_line_leaves_out_what_a_step_does_not_have() {
    let line = training_line(&metrics(&[("updates", 0.0), ("time/train_s", 0.0)]), None);
    assert_eq!(line, "updates 0 train 0.0 s");
}
