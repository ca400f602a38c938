//! Advantages against those of TRL, verl, OpenRLHF and NeMo-RL, recorded in
//! `tests/golden/grpo.json` and, in f64, in `advantages.json` by `make_advantages.py`.

use joust_schema::group_rows::GroupRows;
use serde_json::Value;

use super::*;
use crate::golden::golden;
use crate::objective::{KlTerm, LossConfig};

fn rewards(value: &Value) -> Vec<Option<f64>> {
    value.as_array().unwrap().iter().map(Value::as_f64).collect()
}

/// Advantages of rows of one token each.
fn of(
    rewards: &[Option<f64>],
    groups: &GroupRows,
    baseline: Baseline,
    scale: ScaleRewards,
) -> Vec<Option<f64>> {
    let n_tokens = vec![1; rewards.len()];
    advantages(rewards, &n_tokens, groups, AdvantageRule { baseline, scale })
}

fn check(rewards: &[Option<f64>], group_size: usize, scale: ScaleRewards, wanted: &Value) {
    let groups: GroupRows = rewards.chunks(group_size).map(<[_]>::len).collect();
    let seen = of(rewards, &groups, Baseline::GroupMean, scale);
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
    let advantages = of(&rewards, &groups, Baseline::GroupMean, ScaleRewards::Group);
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
                let advantages = of(&rewards, &groups, baseline, scale);
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
        let seen = of(&rewards, &groups, Baseline::LeaveOneOut, scale);
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
    let seen = of(&rewards, &groups, Baseline::LeaveOneOut, ScaleRewards::LeaveOneOut);
    assert_eq!(seen, [Some(1.0), Some(-1.0), None]);
}

/// The rule of a preset by its name in a config.
fn rule(preset: &str) -> AdvantageRule {
    let config: LossConfig = serde_json::from_value(serde_json::json!({"preset": preset})).unwrap();
    config.preset.advantage_rule()
}

#[test]
fn advantages_of_presets_equal_those_of_trl_and_verl_in_f64() {
    let golden = golden("advantages.json");
    let all = rewards(&golden["rewards"]);
    let lengths: Vec<usize> = serde_json::from_value(golden["lengths"].clone()).unwrap();
    let size = golden["group_size"].as_u64().unwrap() as usize;
    let groups: GroupRows = all.chunks(size).map(<[_]>::len).collect();
    let check = |rewards: &[Option<f64>], preset: &str, tolerance: f64, wanted: &Value| {
        let seen = advantages(rewards, &lengths, &groups, rule(preset));
        for (row, wanted) in wanted.as_array().unwrap().iter().enumerate() {
            // TRL turns a missing reward into an advantage of 0; here it stays missing
            assert_eq!(seen[row].is_some(), rewards[row].is_some());
            let (seen, wanted) = (seen[row].unwrap_or(0.0), wanted.as_f64().unwrap());
            assert!((seen - wanted).abs() < tolerance, "{preset} {row}: {seen}, wanted {wanted}");
        }
    };
    let verl = &golden["verl"];
    check(&all, "rloo", 1e-12, &verl["rloo"]);
    // verl adds 1e-8 to the number of tokens that it divides by
    check(&all, "reinforce++", 1e-8, &verl["reinforce_plus_plus"]);
    check(&all, "reinforce++_baseline", 1e-8, &verl["reinforce_plus_plus_baseline"]);
    check(&all, "rloo", 1e-12, &golden["trl"]["rloo"]);
    check(&rewards(&golden["missing_rewards"]), "rloo", 1e-12, &golden["trl"]["rloo_missing"]);
}

#[test]
fn advantages_with_the_divergence_in_the_reward_equal_those_of_trl_and_verl() {
    let golden = golden("advantages.json");
    let all = rewards(&golden["rewards"]);
    let size = golden["group_size"].as_u64().unwrap() as usize;
    let groups: GroupRows = all.chunks(size).map(<[_]>::len).collect();
    let lengths: Vec<usize> = serde_json::from_value(golden["lengths"].clone()).unwrap();
    let golden = &golden["kl_in_reward"];
    let lists = |value: &Value| -> Vec<Vec<f32>> { serde_json::from_value(value.clone()).unwrap() };
    let (old, reference) = (lists(&golden["old"]), lists(&golden["reference"]));
    for (estimator, wanted) in golden["verl"].as_object().unwrap() {
        let term = serde_json::json!({
            "weight": golden["weight"], "estimator": estimator, "place": "reward",
        });
        let term: KlTerm = serde_json::from_value(term).unwrap();
        let rows = old.iter().zip(&reference);
        let penalties: Vec<Vec<f64>> =
            rows.map(|(old, reference)| term.penalties(old, reference)).collect();
        let penalized: Vec<Option<f64>> = all
            .iter()
            .zip(&penalties)
            .map(|(reward, penalties)| Some(reward.unwrap() - penalties.iter().sum::<f64>()))
            .collect();
        let check = |rule: AdvantageRule, wanted: &Value| {
            let seen = advantages(&penalized, &lengths, &groups, rule);
            for (seen, wanted) in seen.iter().zip(wanted.as_array().unwrap()) {
                let gap = (seen.unwrap() - wanted.as_f64().unwrap()).abs();
                assert!(gap < 1e-6, "{estimator} {rule:?}: {seen:?}, wanted {wanted}");
            }
        };
        let centred = AdvantageRule { baseline: Baseline::GroupMean, scale: ScaleRewards::None };
        check(centred, &wanted["grpo_without_std"]);
        check(rule("rloo"), &wanted["rloo"]);
        if estimator == "k1" {
            check(rule("rloo"), &golden["trl_rloo"]);
        }
        let of_tokens = token_advantages(&all, &penalties);
        for (seen, wanted) in of_tokens.iter().zip(lists(&wanted["reinforce_plus_plus"])) {
            let seen = seen.as_ref().unwrap();
            assert_eq!(seen.len(), wanted.len());
            for (seen, wanted) in seen.iter().zip(wanted) {
                let gap = (seen - f64::from(wanted)).abs();
                assert!(gap < 1e-6, "{estimator}: {seen}, wanted {wanted}");
            }
        }
    }
    // a missing reward has no advantages and takes no part in mean and deviation
    let penalties = [vec![0.25, 0.5], vec![0.1], vec![0.0]];
    let seen = token_advantages(&[Some(1.0), None, Some(0.0)], &penalties);
    let without = token_advantages(&[Some(1.0), Some(0.0)], &[vec![0.25, 0.5], vec![0.0]]);
    assert_eq!([&seen[0], &seen[1], &seen[2]], [&without[0], &None, &without[1]]);
}

#[test]
fn max_rl_divides_by_the_share_of_right_completions() {
    let groups: GroupRows = [4, 4, 4, 3].into_iter().collect();
    let rewards = [1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0].map(|reward| Some(f64::from(reward)));
    let rewards = [&rewards[..], &[Some(1.0), None, Some(0.0)]].concat();
    let AdvantageRule { baseline, scale } = rule("max_rl");
    let seen = of(&rewards, &groups, baseline, scale);
    let wanted = [3.0, -1.0, -1.0, -1.0].map(Some);
    assert_eq!(seen[..4], wanted);
    let third = 1.0 / 3.0;
    for (seen, wanted) in seen[4..8].iter().zip([third, third, -1.0, third]) {
        assert!((seen.unwrap() - wanted).abs() < 1e-12);
    }
    assert_eq!(seen[8..12], [Some(0.0); 4]);
    assert_eq!(seen[12..], [Some(1.0), None, Some(-1.0)]);
    let rule = AdvantageRule { baseline, scale };
    assert_eq!(negative_reward(&rewards, rule), None);
    assert_eq!(negative_reward(&[Some(0.5), None, Some(-0.25)], rule), Some(-0.25));
    assert_eq!(negative_reward(&[Some(-0.25)], AdvantageRule::default()), None);
}

#[test]
fn whitened_advantages_weigh_rows_by_their_tokens_and_are_zero_without_a_difference() {
    let whiten = AdvantageRule { baseline: Baseline::None, scale: ScaleRewards::Whiten };
    let groups: GroupRows = [2, 2].into_iter().collect();
    let whitened = |rewards: [Option<f64>; 4], n_tokens: [usize; 4]| {
        advantages(&rewards, &n_tokens, &groups, whiten)
    };
    // mean of the tokens 0.25, unbiased variance 3/15
    let seen = whitened([Some(1.0), Some(0.0), None, Some(0.0)], [4, 10, 7, 2]);
    let deviation = (3.0f64 / 15.0 + 1e-8).sqrt();
    for (seen, wanted) in seen.iter().zip([Some(0.75), Some(-0.25), None, Some(-0.25)]) {
        assert_eq!(seen.is_some(), wanted.is_some());
        let wanted = wanted.unwrap_or(0.0) / deviation;
        assert!((seen.unwrap_or(0.0) - wanted).abs() < 1e-12, "{seen:?} {wanted}");
    }
    for (rewards, n_tokens) in [
        ([Some(0.1); 4], [4, 10, 7, 2]),
        ([Some(1.0), None, None, None], [9; 4]),
        // a masked completion has no token
        ([Some(1.0), Some(0.5), Some(0.5), None], [0, 3, 2, 4]),
        ([Some(1.0), Some(0.5), None, None], [0, 1, 1, 1]),
    ] {
        let seen = whitened(rewards, n_tokens);
        assert!(seen.iter().flatten().all(|advantage| *advantage == 0.0), "{seen:?}");
    }
}

#[test]
fn baseline_none_is_refused_with_a_divisor_of_its_own() {
    for (baseline, scale, is_refused) in [
        (Baseline::None, ScaleRewards::Whiten, false),
        (Baseline::None, ScaleRewards::None, false),
        (Baseline::None, ScaleRewards::Group, true),
        (Baseline::None, ScaleRewards::Batch, true),
        (Baseline::None, ScaleRewards::LeaveOneOut, true),
        (Baseline::LeaveOneOut, ScaleRewards::Batch, false),
    ] {
        let rule = AdvantageRule { baseline, scale };
        assert_eq!(rule.contradiction().is_some(), is_refused, "{rule:?}");
    }
}
