//! Correctness in dumps: found once, by the rule that scored, or else when the dump is written.

use joust_schema::ids::GroupId;
use joust_schema::seed::Seed;

use super::*;
use crate::config::{RewardConfig, RewardKind};
use crate::rule::Correctness;
use crate::scorer::Scorer;

fn group(reference: Option<&str>) -> GroupRequest {
    GroupRequest {
        step: 0,
        group_id: GroupId("g".to_owned()),
        question: "6*7?".to_owned(),
        completions: ["42", "The answer is 42, 7 times 6.", "43", "\\boxed{???}", "I don't know"]
            .map(str::to_owned)
            .to_vec(),
        reference: reference.map(str::to_owned),
        seed: Seed::new(1),
        tournament: None,
    }
}

/// What the rows of the dump say.
fn written(group: &GroupRequest, result: &GroupResult) -> Vec<Option<bool>> {
    completion_rows(group, result).map(|row| row.correct).collect()
}

#[test]
fn dump_takes_the_correctness_that_the_rule_found_when_it_scored() {
    let config = RewardConfig { kind: RewardKind::Correct, ..RewardConfig::default() };
    let mut scorer = Scorer::with_judge(&config, None, false);
    let known = group(Some("42"));
    let mut result = scorer.score_all(vec![known.clone()], &mut || {}).unwrap().remove(0);
    let found = [
        Correctness::Correct,
        Correctness::Correct,
        Correctness::Wrong,
        Correctness::NotUnderstood,
        Correctness::NoAnswer,
    ];
    assert_eq!(result.correctness, found);
    let rewards: Vec<Option<f64>> = result.rewards.iter().map(|row| row.reward).collect();
    assert_eq!(rewards, [1.0, 1.0, 0.0, 0.0, 0.0].map(Some));
    let is_correct = [true, true, false, false, false];
    assert_eq!(written(&known, &result), is_correct.map(Some));
    // nothing is compared again ...
    result.correctness = vec![Correctness::Wrong; 5];
    assert_eq!(written(&known, &result), [Some(false); 5]);
    // ... unless nobody has compared
    result.correctness.clear();
    assert_eq!(written(&known, &result), is_correct.map(Some));
    let unknown = group(None);
    let result = scorer.score_all(vec![unknown.clone()], &mut || {}).unwrap().remove(0);
    assert_eq!((result.correctness.len(), result.is_refused), (0, true));
    assert_eq!(written(&unknown, &result), [None; 5]);
}
