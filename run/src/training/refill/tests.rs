//! Rounds of groups that are made up of their rewards.

use joust_rollout::{DroppedPrompt, RolloutBatch};
use joust_schema::ids::Member;
use joust_schema::tables::{Reward, Status};

use super::*;

fn group(rewards: &[Option<f64>]) -> GroupResult {
    let row = |(member, reward): (usize, &Option<f64>)| Reward {
        group_id: "g".into(),
        member: Member(member as u32),
        status: Status::Scored,
        reward: *reward,
        win_rate: None,
        rating: None,
        rating_stderr: None,
        wins: 0,
        losses: 0,
        rank: None,
        advantage: None,
    };
    GroupResult {
        group_id: "g".into(),
        rewards: rewards.iter().enumerate().map(row).collect(),
        matches: Vec::new(),
        votes: Vec::new(),
        winner: None,
        position_bias: None,
        position_bias_stderr: None,
        length_slope: None,
        length_slope_stderr: None,
        is_refused: false,
        correctness: Vec::new(),
        parts: Vec::new(),
    }
}

/// Groups with spread (`+`) and without (`=`).
fn groups(marks: &str) -> Vec<GroupResult> {
    let of_mark = |mark| group(&[Some(1.0), Some(if mark == '+' { 0.0 } else { 1.0 })]);
    marks.chars().map(of_mark).collect()
}

fn step(max_refills: u64, rounds: &[&str]) -> StepGroups {
    let mut step = StepGroups::new(max_refills);
    for marks in rounds {
        let batch = RolloutBatch { n_tokens: 10, ..RolloutBatch::default() };
        step.add_round(marks.len(), batch, groups(marks));
    }
    step
}

#[test]
fn spread_is_a_difference_between_known_rewards() {
    for (rewards, wanted) in [
        (&[Some(0.5), Some(0.5), Some(0.5)][..], false),
        (&[Some(0.5), Some(0.5), Some(0.25)], true),
        (&[Some(0.5), None, Some(0.5)], false),
        (&[Some(0.5), None, Some(0.0)], true),
        (&[Some(0.5), None], false),
        (&[None, None], false),
    ] {
        assert_eq!(has_spread(&group(rewards)), wanted, "{rewards:?}");
    }
}

#[test]
fn refill_asks_for_as_many_groups_as_have_no_spread_up_to_its_limit() {
    for (rounds, max_refills, wanted) in [
        (&["+=+="][..], 0, 0),
        (&["+=+="], 1, 2),
        (&["++++"], 9, 0),
        (&["===="], 9, 4),
        (&["+=+=", "=+"], 1, 0),
        (&["+=+=", "=+"], 2, 1),
        (&["+=+=", "=+", "+"], 3, 0),
        (&["+=+=", "=="], 3, 2),
        // no prompt of the first round could be sampled from
        (&[""], 3, 0),
    ] {
        assert_eq!(step(max_refills, rounds).n_refill(), wanted, "{rounds:?} {max_refills}");
    }
}

#[test]
fn groups_with_spread_are_trained_on_in_their_order() {
    assert_eq!(step(1, &["+=+=", "=+"]).trained(), Some(vec![0, 2, 5]));
    assert_eq!(step(1, &["++", "+"]).trained(), None, "all of them");
    assert_eq!(step(1, &["==", "=="]).trained(), None, "nothing to choose from");
    assert_eq!(step(0, &["+=+="]).trained(), None, "nothing is replaced");
}

#[test]
fn metrics_count_what_was_replaced() {
    let metrics = step(2, &["+=+=", "=+", "="]).metrics();
    let number = |name: &str| metrics[&format!("groups/{name}")];
    assert_eq!((number("refill_rounds"), number("refilled")), (2.0, 3.0));
    assert_eq!(number("no_spread_ratio_before_refill"), 0.5);
    let metrics = step(2, &["++"]).metrics();
    assert_eq!(metrics["groups/refill_rounds"] + metrics["groups/refilled"], 0.0);
    assert!(step(0, &["+="]).metrics().is_empty());
}

#[test]
fn prompts_that_were_dropped_count_as_prompts_and_their_places_are_filled() {
    let mut step = step(2, &["+="]);
    let dropped = DroppedPrompt { prompt_id: "p".into(), reason: "too long".to_owned() };
    step.add_round(1, RolloutBatch { dropped: vec![dropped], ..RolloutBatch::default() }, vec![]);
    assert_eq!((step.n_prompts(), step.n_refill()), (3, 1));
    assert_eq!((step.batch.dropped.len(), step.batch.n_tokens), (1, 10));
}
