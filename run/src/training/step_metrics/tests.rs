//! Metrics and tables of a step of one group: a right and a wrong completion, judged once.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, Float64Array};
use joust_reward::{GroupResult, PartOutcome, PartScores};
use joust_rollout::{RolloutBatch, RolloutGroup};
use joust_schema::ids::{Member, PolicyVersion};
use joust_schema::prompt::Prompt;
use joust_schema::table::Table as _;
use joust_schema::tables::{
    Completion, FinishReason, Match, Reward, Rollout, Status, Verdict, Vote,
};

use super::scored_metrics;
use crate::training::scored::ScoredStep;
use crate::training::tables::StepTables;

fn rollout(member: u32, completion: &str) -> Rollout {
    Rollout {
        step: 3,
        group_id: "g".into(),
        member: Member(member),
        prompt_id: "p".into(),
        policy_version: PolicyVersion(2),
        prompt: "<user>1+1?".to_owned(),
        completion: completion.to_owned(),
        prompt_token_ids: vec![1],
        completion_token_ids: vec![2; member as usize + 1],
        completion_logprobs: vec![-0.5; member as usize + 1],
        behaviour_logprobs: None,
        finish_reason: FinishReason::Stop,
        seed: 0,
    }
}

fn batch(answer: Option<&str>) -> RolloutBatch {
    let group = RolloutGroup {
        group_id: "g".into(),
        prompt_id: "p".into(),
        prompt: Prompt::Text("1+1?".to_owned()),
        columns: None,
        question: "1+1?".to_owned(),
        answer: answer.map(str::to_owned),
        completions: vec![rollout(0, "It is 2."), rollout(1, "It is 3.")],
    };
    RolloutBatch { groups: vec![group], dropped: Vec::new(), n_tokens: 3 }
}

fn reward(member: u32, status: Status) -> Reward {
    Reward {
        group_id: "g".into(),
        member: Member(member),
        status,
        reward: (status == Status::Scored).then_some(0.5),
        win_rate: None,
        rating: None,
        rating_stderr: None,
        wins: 1,
        losses: 0,
        rank: None,
        advantage: None,
    }
}

fn vote(verdict: Verdict) -> Vote {
    Vote {
        match_id: "g/1-0-1".into(),
        vote: 0,
        attempt: 0,
        a_shown_first: true,
        verdict,
        text: String::new(),
        prompt_tokens: 5,
        cached_prompt_tokens: 0,
        completion_tokens: 10,
        latency_ms: None,
        seed: 0,
        judge: "j".to_owned(),
        cut_off: Some(verdict == Verdict::Invalid),
    }
}

fn result(winner: Member) -> GroupResult {
    GroupResult {
        group_id: "g".into(),
        rewards: vec![reward(0, Status::Scored), reward(1, Status::JudgeFailed)],
        matches: vec![Match {
            step: 3,
            group_id: "g".into(),
            match_id: "g/1-0-1".into(),
            round: 1,
            member_a: Member(0),
            member_b: Member(1),
            votes_a: 1,
            votes_b: 0,
            votes_invalid: 1,
            decided_early: false,
            winner: Some(winner),
            a_first_votes_a: Some(1),
            a_first_votes_b: Some(0),
            position_bias: Some(0.25),
            position_bias_stderr: Some(0.1),
            copies_a: Some(1),
            copies_b: Some(1),
        }],
        votes: vec![vote(Verdict::First), vote(Verdict::Invalid)],
        winner: Some(winner),
        position_bias: Some(0.25),
        position_bias_stderr: Some(0.1),
        length_slope: Some(-0.5),
        length_slope_stderr: Some(0.2),
        is_refused: false,
        correctness: Vec::new(),
        parts: Vec::new(),
    }
}

#[test]
fn parts_have_metrics_and_columns_of_their_own() {
    let part = |name: &str, outcome| PartScores { name: name.to_owned(), counts: true, outcome };
    let parts = vec![
        part("mine", PartOutcome::Given(vec![Some(3.0), Some(1.0)])),
        part("half", PartOutcome::Given(vec![None, Some(0.5)])),
        part("dead", PartOutcome::Failed("it died".to_owned())),
        part("judge", PartOutcome::NotAsked),
    ];
    let result = GroupResult { parts, ..result(Member(0)) };
    let tables = StepTables::pack(&batch(None), std::slice::from_ref(&result)).unwrap();
    let step = ScoredStep::new(batch(None), vec![result]);
    let metrics = scored_metrics(&step);
    let of_parts: Vec<(&str, f64)> = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("rewards/"))
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let wanted = [
        ("rewards/dead/missing", 2.0),
        ("rewards/half/mean", 0.5),
        ("rewards/half/missing", 1.0),
        ("rewards/half/std", 0.0),
        ("rewards/judge/missing", 0.0),
        ("rewards/mine/mean", 2.0),
        ("rewards/mine/missing", 0.0),
        ("rewards/mine/std", std::f64::consts::SQRT_2),
    ];
    assert_eq!(of_parts, wanted);
    let completions = tables.completions(&step).unwrap();
    for batch in [&tables.rewards, &completions] {
        let column = |name: &str| batch.column_by_name(name).unwrap().clone();
        let numbers = |values: [Option<f64>; 2]| Float64Array::from(values.to_vec());
        assert_eq!(*column("part_mine").as_primitive(), numbers([Some(3.0), Some(1.0)]));
        assert_eq!(*column("part_half").as_primitive(), numbers([None, Some(0.5)]));
        assert_eq!(*column("part_dead").as_primitive(), numbers([None; 2]));
        assert_eq!(batch.num_columns(), batch.schema().fields().len());
    }
    // readers of the tables see their own columns
    assert_eq!(Reward::from_batch(&tables.rewards).unwrap().len(), 2);
    assert_eq!(Completion::from_batch(&completions).unwrap().len(), 2);
}

#[test]
fn scored_metrics_count_votes_and_compare_verdicts_with_known_answers() {
    for (winner, judge_accuracy) in [(Member(0), 1.0), (Member(1), 0.0)] {
        let metrics = scored_metrics(&ScoredStep::new(batch(Some("2")), vec![result(winner)]));
        let wanted = [
            ("accuracy", 0.5),
            ("answers/missing_ratio", 0.0),
            ("answers/not_understood_ratio", 0.0),
            ("completions/clipped_ratio", 0.0),
            ("completions/max_length", 2.0),
            ("completions/mean_length", 1.5),
            ("completions/mean_terminated_length", 1.5),
            ("completions/min_length", 1.0),
            ("dropped_prompts", 0.0),
            ("frac_reward_missing", 0.5),
            ("frac_reward_zero_std", 1.0),
            ("groups/scored", 1.0),
            ("groups/with_spread", 0.0),
            ("judge/accuracy", judge_accuracy),
            ("judge/first_ratio", 1.0),
            ("judge/invalid_ratio", 0.5),
            ("judge/length_slope", -0.5),
            ("judge/length_slope_stderr", 0.2),
            ("judge/no_reply_ratio", 0.0),
            ("judge/cut_off_ratio", 0.5),
            ("judge/position_bias", 0.25),
            ("judge/position_bias_stderr", 0.1),
            ("judge/tokens", 20.0),
            ("judge/tokens_per_vote", 10.0),
            ("judge/votes", 2.0),
            ("reward", 0.5),
            ("reward/judge_failed_ratio", 0.5),
            ("reward/matches", 1.0),
            ("reward_std", 0.0),
        ];
        assert_eq!(metrics, wanted.map(|(name, value)| (name.to_owned(), value)).into());
    }
}

#[test]
fn scored_metrics_leave_out_what_needs_known_answers_or_votes() {
    let metrics = scored_metrics(&ScoredStep::new(batch(None), vec![result(Member(0))]));
    assert!(!metrics.contains_key("accuracy") && !metrics.contains_key("judge/accuracy"));
    let without_votes = GroupResult { votes: Vec::new(), ..result(Member(0)) };
    let metrics = scored_metrics(&ScoredStep::new(batch(Some("2")), vec![without_votes]));
    assert!(metrics.contains_key("accuracy"));
    let of_judge = |name: &&String| name.starts_with("judge/") || *name == "reward/matches";
    assert_eq!(metrics.keys().find(of_judge), None);
}

#[test]
fn scored_metrics_of_nothing_have_no_means() {
    let metrics = scored_metrics(&ScoredStep::new(RolloutBatch::default(), Vec::new()));
    let wanted = [
        ("dropped_prompts", 0.0),
        ("frac_reward_missing", 1.0),
        ("frac_reward_zero_std", 0.0),
        ("groups/scored", 0.0),
        ("groups/with_spread", 0.0),
        ("reward/judge_failed_ratio", 0.0),
    ];
    assert_eq!(metrics, wanted.map(|(name, value)| (name.to_owned(), value)).into());
}

#[test]
fn scored_metrics_are_those_of_all_groups_of_the_step() {
    // a group with spread, which alone is trained on where others are replaced; a group whose
    // reward has failed; a group of equal rewards, one of whose completions was cut off
    let (mut groups, mut results) = (RolloutBatch::default(), Vec::new());
    for rewards in [[Some(1.0), Some(0.0)], [None, None], [Some(0.25), Some(0.25)]] {
        groups.groups.extend(batch(Some("2")).groups);
        let mut result = result(Member(0));
        for (row, reward) in result.rewards.iter_mut().zip(rewards) {
            row.reward = reward;
        }
        results.push(result);
    }
    groups.groups[2].completions[0].finish_reason = FinishReason::Length;
    let metrics = scored_metrics(&ScoredStep::new(groups, results));
    let wanted = [
        ("accuracy", 0.5),
        ("completions/clipped_ratio", 1.0 / 6.0),
        ("completions/mean_length", 1.5),
        ("completions/mean_terminated_length", 8.0 / 5.0),
        ("frac_reward_missing", 2.0 / 6.0),
        ("frac_reward_zero_std", 2.0 / 3.0),
        ("groups/scored", 3.0),
        ("groups/with_spread", 1.0),
        ("reward", 1.5 / 4.0),
        ("reward_std", std::f64::consts::FRAC_1_SQRT_2 / 3.0),
    ];
    for (name, wanted) in wanted {
        assert!((metrics[name] - wanted).abs() < 1e-12, "{name}: {}", metrics[name]);
    }
}

#[test]
fn some_groups_are_selected_and_their_advantages_come_back_to_their_rows() {
    let mut groups = RolloutBatch::default();
    let mut results = Vec::new();
    for name in ["g0", "g1", "g2"] {
        let mut group = batch(None).groups.remove(0);
        group.group_id = name.into();
        group.completions.iter_mut().for_each(|row| row.group_id = name.into());
        groups.groups.push(group);
        let mut result = result(Member(0));
        result.rewards.iter_mut().for_each(|row| row.group_id = name.into());
        results.push(result);
    }
    let mut tables = StepTables::pack(&groups, &results).unwrap();
    let selected = tables.select(&[0, 2]).unwrap();
    let ids: Vec<String> = Rollout::from_batch(&selected.rollouts)
        .unwrap()
        .into_iter()
        .map(|row| row.group_id.0)
        .collect();
    assert_eq!(ids, ["g0", "g0", "g2", "g2"]);
    assert_eq!(Reward::from_batch(&selected.rewards).unwrap().len(), 4);
    assert_eq!(selected.groups.iter().collect::<Vec<_>>(), [0..2, 2..4]);
    let advantages = Float64Array::from(vec![Some(1.0), None, Some(3.0), Some(4.0)]);
    tables.set_advantages_of(&[0, 2], &(Arc::new(advantages) as ArrayRef)).unwrap();
    let rows = Reward::from_batch(&tables.rewards).unwrap();
    let advantages: Vec<Option<f64>> = rows.iter().map(|row| row.advantage).collect();
    assert_eq!(advantages, [Some(1.0), None, None, None, Some(3.0), Some(4.0)]);
}

#[test]
fn completions_join_rollouts_rewards_and_known_answers() {
    let (batch, results) = (batch(Some("2")), vec![result(Member(0))]);
    let tables = StepTables::pack(&batch, &results).unwrap();
    let completions = tables.completions(&ScoredStep::new(batch, results)).unwrap();
    let rows = Completion::from_batch(&completions).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].correct, rows[1].correct), (Some(true), Some(false)));
    assert_eq!((rows[0].completion_tokens, rows[1].completion_tokens), (Some(1), Some(2)));
    assert_eq!((rows[0].status, rows[1].status), (Status::Scored, Status::JudgeFailed));
    assert_eq!((&rows[1].completion[..], rows[1].step), ("It is 3.", 3));
    assert_eq!(rows[1].answer.as_deref(), Some("2"));
    assert_eq!(rows[1].policy_version, Some(PolicyVersion(2)));
}
