//! Parts with a judge and without, and what becomes of members without a number.

use std::sync::{Arc, Mutex};

use super::*;
use crate::part::fixture::group;
use crate::part::open::{OpenKind, OpenPart};
use crate::part::source::PartSource;

/// Numbers by the id of a group.
type Numbers = fn(&str) -> PartOutcome;

struct Scripted(Numbers);

impl PartSource for Scripted {
    fn score(&mut self, groups: &[PartGroup]) -> Vec<PartOutcome> {
        groups.iter().map(|group| (self.0)(&group.request.group_id.0)).collect()
    }
}

fn open(name: &str, is_optional: bool, of: OpenKind) -> OpenPart {
    OpenPart { name: name.to_owned(), weight: 1.0, is_optional, of }
}

fn scripted(name: &str, is_optional: bool, numbers: Numbers) -> OpenPart {
    open(name, is_optional, OpenKind::Source(Box::new(Scripted(numbers))))
}

/// A judge by the known answer 2, who is asked for these groups.
fn scorer(parts: Vec<OpenPart>) -> PartScorer {
    let config: RewardConfig = toml::from_str("judge.kind = 'rule'").unwrap();
    let scorer = Scorer::open(&config, false).unwrap();
    PartScorer { parts, combine: Combine::Sum, scorer: Some(scorer) }
}

fn given(values: &[f64]) -> PartOutcome {
    PartOutcome::Given(values.iter().map(|value| Some(*value)).collect())
}

fn rewards(result: &GroupResult) -> Vec<(Option<f64>, Status)> {
    result.rewards.iter().map(|row| (row.reward, row.status)).collect()
}

const RIGHT_AND_WRONG: [&str; 2] = ["It is 2.", "It is 3."];

#[test]
fn parts_add_to_the_judges_reward_which_stays_in_its_columns() {
    let judge = open("judge", false, OpenKind::Judge(JudgeWhen::Always));
    let tenth = scripted("tenth", false, |_| given(&[0.25, 0.125]));
    let groups = vec![group("a", &RIGHT_AND_WRONG)];
    let progress = Mutex::new(0);
    let results = scorer(vec![judge, tenth])
        .score_all(groups, &mut || *progress.lock().unwrap() += 1)
        .unwrap();
    let result = &results[0];
    let rates: Vec<f64> = result.rewards.iter().map(|row| row.win_rate.unwrap()).collect();
    assert!(rates[0] > 0.5 && rates[1] < 0.5 && !result.votes.is_empty());
    let wanted = [0, 1].map(|at| (Some(rates[at] + [0.25, 0.125][at]), Status::Scored));
    assert_eq!(rewards(result), wanted);
    assert_eq!(result.rewards[0].rank, Some(1));
    let names: Vec<&str> = result.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["judge", "tenth"]);
    assert_eq!(result.parts[0].outcome, given(&rates));
    assert_eq!(*progress.lock().unwrap(), 1);
}

#[test]
fn judge_for_tied_groups_is_asked_for_no_other() {
    let others: Numbers = |id| match id {
        "tied" => given(&[1.0, 1.0]),
        "decided" => given(&[1.0, 0.0]),
        "half" => PartOutcome::Given(vec![Some(1.0), None]),
        _ => PartOutcome::Failed("it died".to_owned()),
    };
    let judge = open("judge", false, OpenKind::Judge(JudgeWhen::Tied));
    let ids = ["decided", "tied", "half", "dead"];
    let groups = ids.map(|id| group(id, &RIGHT_AND_WRONG)).to_vec();
    let results = scorer(vec![scripted("other", false, others), judge])
        .score_all(groups, &mut || {})
        .unwrap();
    let judged: Vec<&str> = results
        .iter()
        .filter(|result| !result.votes.is_empty())
        .map(|result| result.group_id.0.as_str())
        .collect();
    assert_eq!(judged, ["tied"]);
    let scored = |reward| (Some(reward), Status::Scored);
    let none = (None, Status::PartFailed);
    assert_eq!(rewards(&results[0]), [scored(1.0), scored(0.0)]);
    let tied = rewards(&results[1]);
    assert!(tied[0].0.unwrap() > 1.5 && tied[1].0.unwrap() < 1.5, "{tied:?}");
    assert_eq!(rewards(&results[2]), [scored(1.0), none]);
    assert_eq!(rewards(&results[3]), [none, none]);
    assert_eq!(results[0].parts[1].outcome, PartOutcome::NotAsked);
}

#[test]
fn member_without_a_number_has_no_reward_unless_the_part_is_optional() {
    let some: Numbers = |_| PartOutcome::Given(vec![Some(1.0), None]);
    for (is_optional, wanted) in [
        (false, [(Some(1.5), Status::Scored), (None, Status::PartFailed)]),
        (true, [(Some(1.5), Status::Scored), (Some(0.5), Status::Scored)]),
    ] {
        let parts = vec![
            scripted("half", false, |_| given(&[0.5, 0.5])),
            scripted("some", is_optional, some),
        ];
        let mut scorer = PartScorer { parts, combine: Combine::Sum, scorer: None };
        let results = scorer.score_all(vec![group("a", &RIGHT_AND_WRONG)], &mut || {}).unwrap();
        assert_eq!(rewards(&results[0]), wanted);
        assert_eq!((scorer.judge_name(), results[0].rewards[0].win_rate), ("none", None));
    }
}

#[test]
fn parts_of_a_config_score_as_their_kinds_say() {
    let config: RewardConfig = toml::from_str(
        "parts = [{ kind = 'correct', weight = 2 }, \
         { kind = 'length', max_tokens = 20, buffer_tokens = 10 }, \
         { kind = 'format', name = 'short', pattern = 'It is \\d\\.', weight = 0.5 }]",
    )
    .unwrap();
    let mut scorer = PartScorer::open(&config).unwrap();
    let group = group("a", &["It is 2.", "It is 3.", "So it is 2."]);
    let results = scorer.score_all(vec![group], &mut || {}).unwrap();
    let values: Vec<Vec<Option<f64>>> = results[0]
        .parts
        .iter()
        .map(|part| (0..3).map(|member| part.outcome.value(member)).collect())
        .collect();
    let wanted = [[1.0, 0.0, 1.0], [0.0, -1.0, -1.0], [1.0, 1.0, 0.0]];
    assert_eq!(values, wanted.map(|values| values.map(Some).to_vec()));
    let combined: Vec<Option<f64>> = results[0].rewards.iter().map(|row| row.reward).collect();
    assert_eq!(combined, [2.5, -0.5, 1.0].map(Some));
}

#[test]
fn reward_without_parts_is_that_of_the_scorer() {
    let config: RewardConfig = toml::from_str("judge.kind = 'rule'").unwrap();
    let group = group("a", &RIGHT_AND_WRONG);
    let by_parts =
        PartScorer::open(&config).unwrap().score_all(vec![group.clone()], &mut || {}).unwrap();
    let plain = Scorer::open(&config, false).unwrap().score_all(vec![group.request], &mut || {});
    assert_eq!(by_parts, plain.unwrap());
}

#[test]
fn parts_work_at_the_same_time() {
    // each part waits for the other: one after the other, neither would end
    let meeting = Arc::new(std::sync::Barrier::new(2));
    struct Meets(Arc<std::sync::Barrier>);
    impl PartSource for Meets {
        fn score(&mut self, groups: &[PartGroup]) -> Vec<PartOutcome> {
            self.0.wait();
            groups.iter().map(|_| given(&[1.0, 0.0])).collect()
        }
    }
    let part = |name| open(name, false, OpenKind::Source(Box::new(Meets(Arc::clone(&meeting)))));
    let parts = vec![part("a"), part("b")];
    let mut scorer = PartScorer { parts, combine: Combine::Sum, scorer: None };
    let results = scorer.score_all(vec![group("a", &RIGHT_AND_WRONG)], &mut || {}).unwrap();
    assert_eq!(results[0].rewards[0].reward, Some(2.0));
}
