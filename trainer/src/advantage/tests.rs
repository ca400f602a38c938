//! Advantages against TRL's, recorded in tests/golden/grpo.json.

use serde_json::Value;

use super::{ScaleRewards, advantages};

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/grpo.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn rewards(value: &Value) -> Vec<Option<f64>> {
    value.as_array().unwrap().iter().map(Value::as_f64).collect()
}

fn check(groups: &[Vec<Option<f64>>], scale: ScaleRewards, wanted: &Value) {
    let seen: Vec<Option<f64>> = advantages(groups, scale).concat();
    for (idx, (seen, wanted)) in seen.iter().zip(wanted.as_array().unwrap()).enumerate() {
        // TRL turns a missing reward into an advantage of 0; here it stays missing
        let seen = seen.unwrap_or(0.0);
        let wanted = wanted.as_f64().unwrap();
        assert!((seen - wanted).abs() < 2e-6, "{scale:?} {idx}: {seen}, TRL says {wanted}");
    }
}

#[test]
fn equal_to_trl() {
    let golden = &golden()["trl_advantages_f32"];
    let all = rewards(&golden["rewards"][0]);
    let groups: Vec<Vec<Option<f64>>> = all.chunks(4).map(<[_]>::to_vec).collect();
    check(&groups, ScaleRewards::Group, &golden["group"]);
    check(&groups, ScaleRewards::Batch, &golden["batch"]);
    check(&groups, ScaleRewards::None, &golden["none"]);
    for case in ["with_nan_row0", "one_scorable", "elo_like"] {
        let case = &golden[case];
        check(&[rewards(&case["rewards"])], ScaleRewards::Group, &case["group"]);
    }
}

#[test]
fn a_missing_reward_has_no_advantage() {
    let advantages = advantages(&[vec![None, Some(1.0), Some(0.0)], vec![]], ScaleRewards::Group);
    assert_eq!(advantages[0][0], None);
    assert!(advantages[0][1].unwrap() > 0.7);
    assert!(advantages[1].is_empty());
}
