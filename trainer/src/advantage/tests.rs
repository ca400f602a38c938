//! Advantages against TRL's, recorded in tests/golden/grpo.json.

use joust_schema::group_rows::GroupRows;
use serde_json::Value;

use super::{Baseline, ScaleRewards, advantages, deviation};
use crate::golden::golden;

fn rewards(value: &Value) -> Vec<Option<f64>> {
    value.as_array().unwrap().iter().map(Value::as_f64).collect()
}

fn check(rewards: &[Option<f64>], group_size: usize, scale: ScaleRewards, wanted: &Value) {
    let groups: GroupRows = rewards.chunks(group_size).map(<[_]>::len).collect();
    let seen = advantages(rewards, &groups, Baseline::GroupMean, scale);
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
    let advantages = advantages(&rewards, &groups, Baseline::GroupMean, ScaleRewards::Group);
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
            let scales = [
                ScaleRewards::Group,
                ScaleRewards::Batch,
                ScaleRewards::None,
                ScaleRewards::LeaveOneOut,
            ];
            let baselines = [Baseline::GroupMean, Baseline::LeaveOneOut];
            let both = scales.into_iter().flat_map(|scale| baselines.map(|base| (base, scale)));
            for (baseline, scale) in both {
                let advantages = advantages(&rewards, &groups, baseline, scale);
                assert!(advantages[..n].iter().all(|a| *a == Some(0.0)), "{n} times {reward}");
                assert!(advantages[n + 1].unwrap() > 0.0);
            }
            assert_eq!(deviation(&vec![reward; n]), 0.0);
        }
    }
}

#[test]
fn leave_one_out_advantages_equal_those_of_verl_openrlhf_and_nemo_rl() {
    let golden = golden("grpo.json");
    let check = |rewards: &[f64], sizes: &[usize], scale: ScaleRewards, wanted: &[f64]| {
        let groups: GroupRows = sizes.iter().copied().collect();
        let rewards: Vec<Option<f64>> = rewards.iter().copied().map(Some).collect();
        let seen = advantages(&rewards, &groups, Baseline::LeaveOneOut, scale);
        for (seen, wanted) in seen.into_iter().zip(wanted) {
            // NeMo-RL adds 1e-6 to the deviation, where 1e-4 is added here
            let gap = (seen.unwrap() - wanted).abs();
            assert!(gap < 2e-6 + 2e-4 * wanted.abs(), "{scale:?}: {seen:?}, wanted {wanted}");
        }
    };
    let numbers = |value: &Value| -> Vec<f64> { serde_json::from_value(value.clone()).unwrap() };
    let verl = &golden["verl_advantages_f32"];
    let rows = verl["rloo"].as_array().unwrap();
    let first: Vec<f64> = rows.iter().map(|row| row[0].as_f64().unwrap()).collect();
    check(&numbers(&verl["rewards"]), &[4, 2], ScaleRewards::None, &first);
    let four = [1.0, 2.0, 3.0, 6.0];
    let openrlhf = numbers(&golden["openrlhf_adv(1,2,3,6)"]["rloo"]);
    check(&four, &[4], ScaleRewards::None, &openrlhf);
    let nemo = numbers(&golden["nemo_rl_grpo"]["loo"]["adv"]);
    check(&four, &[4], ScaleRewards::LeaveOneOut, &nemo);
}

#[test]
fn leave_one_out_with_equal_others_has_no_divisor() {
    let groups: GroupRows = [3].into_iter().collect();
    let rewards = [Some(1.0), Some(0.0), None];
    let seen = advantages(&rewards, &groups, Baseline::LeaveOneOut, ScaleRewards::LeaveOneOut);
    assert_eq!(seen, [Some(1.0), Some(-1.0), None]);
}
