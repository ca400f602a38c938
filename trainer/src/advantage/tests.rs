//! Advantages against TRL's, recorded in tests/golden/grpo.json.

use joust_schema::group_rows::GroupRows;
use serde_json::Value;

use super::{ScaleRewards, advantages, deviation};
use crate::golden::golden;

fn rewards(value: &Value) -> Vec<Option<f64>> {
    value.as_array().unwrap().iter().map(Value::as_f64).collect()
}

fn check(rewards: &[Option<f64>], group_size: usize, scale: ScaleRewards, wanted: &Value) {
    let groups: GroupRows = rewards.chunks(group_size).map(<[_]>::len).collect();
    let seen = advantages(rewards, &groups, scale);
    for (idx, (seen, wanted)) in seen.iter().zip(wanted.as_array().unwrap()).enumerate() {
        // TRL turns a missing reward into an advantage of 0; here it stays missing
        let seen = seen.unwrap_or(0.0);
        let wanted = wanted.as_f64().unwrap();
        assert!((seen - wanted).abs() < 2e-6, "{scale:?} {idx}: {seen}, TRL says {wanted}");
    }
}

#[test]
fn advantages_equal_trl() {
    let golden = &golden("grpo.json")["trl_advantages_f32"];
    let all = rewards(&golden["rewards"][0]);
    check(&all, 4, ScaleRewards::Group, &golden["group"]);
    check(&all, 4, ScaleRewards::Batch, &golden["batch"]);
    check(&all, 4, ScaleRewards::None, &golden["none"]);
    for case in ["with_nan_row0", "one_scorable", "elo_like"] {
        let case = &golden[case];
        let group = rewards(&case["rewards"]);
        check(&group, group.len(), ScaleRewards::Group, &case["group"]);
    }
}

#[test]
fn advantages_are_missing_where_rewards_are() {
    let groups: GroupRows = [3, 0].into_iter().collect();
    let rewards = [None, Some(1.0), Some(0.0)];
    let advantages = advantages(&rewards, &groups, ScaleRewards::Group);
    assert_eq!(advantages.len(), 3);
    assert_eq!(advantages[0], None);
    assert!(advantages[1].unwrap() > 0.7);
}

#[test]
fn advantages_of_equal_rewards_are_exactly_zero() {
    // the mean of three times 0.1 is not 0.1 in floating point
    for reward in [0.1, 0.3, 1.0 / 3.0, 0.7, 1217.3] {
        for n in 2..17 {
            // a second group with a spread, for the deviation of the batch
            let groups: GroupRows = [n, 2].into_iter().collect();
            let mut rewards = vec![Some(reward); n];
            rewards.extend([Some(0.0), Some(reward)]);
            for scale in [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None] {
                let advantages = advantages(&rewards, &groups, scale);
                assert!(advantages[..n].iter().all(|a| *a == Some(0.0)), "{n} times {reward}");
                assert!(advantages[n + 1].unwrap() > 0.0);
            }
            assert_eq!(deviation(&vec![reward; n]), 0.0);
        }
    }
}
