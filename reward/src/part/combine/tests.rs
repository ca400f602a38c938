//! Sums of parts, and what becomes of a part without a number.

use super::*;

fn given(values: &[Option<f64>]) -> PartOutcome {
    PartOutcome::Given(values.to_vec())
}

fn combined(parts: &[(f64, bool, PartOutcome)], how: Combine) -> Vec<Option<f64>> {
    let weighted = parts.iter().map(|(weight, is_optional, outcome)| WeightedPart {
        weight: *weight,
        is_optional: *is_optional,
        outcome,
    });
    let parts: Vec<WeightedPart<'_>> = weighted.collect();
    rewards(&parts, 3, how)
}

#[test]
fn sum_weighs_each_part_and_a_missing_number_takes_the_reward() {
    let all = given(&[Some(1.0), Some(0.5), Some(0.0)]);
    let some = given(&[Some(2.0), None, Some(4.0)]);
    let sum = |is_optional| {
        combined(&[(1.0, false, all.clone()), (0.25, is_optional, some.clone())], Combine::Sum)
    };
    assert_eq!(sum(false), [Some(1.5), None, Some(1.0)]);
    assert_eq!(sum(true), [Some(1.5), Some(0.5), Some(1.0)], "as nansum");
}

#[test]
fn parts_of_weight_0_have_no_influence() {
    let all = given(&[Some(1.0), Some(0.5), Some(0.0)]);
    for other in [given(&[None; 3]), PartOutcome::Failed("it died".to_owned()), all.clone()] {
        let parts = [(1.0, false, all.clone()), (0.0, false, other)];
        assert_eq!(combined(&parts, Combine::Sum), [Some(1.0), Some(0.5), Some(0.0)]);
    }
    assert_eq!(combined(&[(0.0, false, all)], Combine::Sum), [None; 3]);
}

#[test]
fn are_silent_where_optional_parts_have_no_number_and_none_has_failed() {
    let silent = |parts: &[(f64, bool, PartOutcome)]| {
        let weighted = parts.iter().map(|(weight, is_optional, outcome)| WeightedPart {
            weight: *weight,
            is_optional: *is_optional,
            outcome,
        });
        are_silent(&weighted.collect::<Vec<_>>(), 2)
    };
    let (none, judge) = (given(&[None, None]), (1.0, false, PartOutcome::NotAsked));
    let failed = PartOutcome::Failed("it died".to_owned());
    assert!(silent(&[(1.0, true, none.clone()), judge.clone()]));
    assert!(silent(&[(1.0, true, none.clone()), (0.0, false, failed.clone()), judge.clone()]));
    assert!(!silent(&[(1.0, false, none.clone()), judge.clone()]));
    assert!(!silent(&[(1.0, true, failed), judge.clone()]));
    assert!(!silent(&[(1.0, true, given(&[None, Some(0.0)])), judge]));
}

#[test]
fn sum_leaves_parts_out_that_were_not_asked_and_invents_no_number() {
    let all = given(&[Some(1.0), Some(0.5), Some(0.0)]);
    let failed = PartOutcome::Failed("it died".to_owned());
    let sum = |parts: &[(f64, bool, PartOutcome)]| combined(parts, Combine::Sum);
    let not_asked = (9.0, false, PartOutcome::NotAsked);
    assert_eq!(sum(&[not_asked.clone(), (1.0, false, all.clone())])[1], Some(0.5));
    assert_eq!(sum(&[(1.0, false, all.clone()), (1.0, false, failed.clone())]), [None; 3]);
    assert_eq!(sum(&[(1.0, false, all), (1.0, true, failed.clone())])[0], Some(1.0));
    // where nobody says anything, nothing is a reward of 0
    assert_eq!(sum(&[(1.0, true, failed)]), [None; 3]);
    assert_eq!(sum(&[not_asked]), [None; 3]);
}

#[test]
fn gdpo_normalises_each_part_within_the_group() {
    // numpy 2: (r - r.mean()) / (r.std(ddof=1) + 1e-4), summed with the weights 1 and 0.5
    let parts = [
        (1.0, false, given(&[Some(1.0), Some(0.0), Some(0.0)])),
        (0.5, false, given(&[Some(100.0), Some(300.0), Some(200.0)])),
    ];
    let wanted = [0.654_501_073_013_8, -0.077_250_786_506_6, -0.577_250_286_507_1];
    for (reward, wanted) in combined(&parts, Combine::Gdpo).iter().zip(wanted) {
        assert!((reward.unwrap() - wanted).abs() < 1e-9, "{reward:?} {wanted}");
    }
    // equal numbers say nothing, whatever they are
    let flat = [(1.0, false, given(&[Some(0.1); 3])), parts[0].clone()];
    let alone = combined(&parts[..1], Combine::Gdpo);
    assert_eq!(combined(&flat, Combine::Gdpo), alone);
    // a member without a number has no part in mean and deviation
    let some = [(1.0, true, given(&[Some(1.0), None, Some(3.0)])), parts[0].clone()];
    let of_two = std::f64::consts::FRAC_1_SQRT_2 * (1.0 - 1e-4 / (2f64.sqrt() + 1e-4));
    let both = combined(&some, Combine::Gdpo);
    assert!((both[2].unwrap() - alone[2].unwrap() - of_two).abs() < 1e-9);
    assert_eq!(both[1], alone[1]);
}

#[test]
fn are_tied_is_true_for_equal_rewards_of_two_members_at_least() {
    assert!(are_tied(&[Some(0.5), None, Some(0.5)]));
    assert!(!are_tied(&[Some(0.5), Some(0.5), Some(0.4)]));
    assert!(!are_tied(&[Some(0.5), None, None]));
    assert!(!are_tied(&[None, None]));
}
