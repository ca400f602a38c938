//! Parts with a judge and without, and what becomes of members without a number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use joust_schema::tables::Status;

use super::*;
use crate::config::part::JudgeWhen;
use crate::judge::{Judge, RuleJudge, VoteId, VoteOutcome, VoteRequest};
use crate::part::fixture::group;
use crate::part::group::PartGroup;
use crate::part::open::{OpenKind, OpenPart};
use crate::part::outcome::PartOutcome;
use crate::part::source::{PartQuestions, PartSource};

/// Numbers by the id of a group.
type Numbers = fn(&str) -> PartOutcome;

struct Scripted(Numbers);

impl PartSource for Scripted {
    fn score(&mut self, questions: PartQuestions) {
        questions.answer_each(|group| (self.0)(&group.request.group_id.0));
    }
}

fn open(name: &str, is_optional: bool, of: OpenKind) -> OpenPart {
    OpenPart { name: name.to_owned(), weight: 1.0, is_optional, of }
}

fn scripted(name: &str, is_optional: bool, numbers: Numbers) -> OpenPart {
    open(name, is_optional, OpenKind::Source(Box::new(Scripted(numbers))))
}

/// Scores groups that all come at once; `progress` is told of those that the judge has finished.
fn score_all(
    scorer: &mut PartScorer,
    groups: &[PartGroup],
    progress: &mut dyn FnMut(),
) -> Vec<GroupResult> {
    let size = StepSize { n_groups: groups.len(), group_size: 2 };
    let feed = |scoring: &mut Scoring<'_>| {
        for (place, group) in groups.iter().enumerate() {
            scoring.add(place, group.clone())?;
        }
        scoring.close()?;
        while !scoring.is_done() {
            (0..scoring.poll(Duration::from_secs(60))?).for_each(|_| progress());
        }
        Ok::<_, Error>(())
    };
    scorer.score(size, feed).unwrap().1
}

/// A judge by the known answer 2, who is asked for these groups.
fn scorer(parts: Vec<OpenPart>) -> PartScorer {
    let config: RewardConfig = toml::from_str("judge.kind = 'rule'").unwrap();
    let scorer = Scorer::open(&config, false).unwrap();
    PartScorer { parts, combine: Combine::Sum, scorer: Some(scorer), pool: Arc::new(Alone) }
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
    let groups = [group("a", &RIGHT_AND_WRONG)];
    let mut n_finished = 0;
    let results = score_all(&mut scorer(vec![judge, tenth]), &groups, &mut || n_finished += 1);
    let result = &results[0];
    let rates: Vec<f64> = result.rewards.iter().map(|row| row.win_rate.unwrap()).collect();
    assert!(rates[0] > 0.5 && rates[1] < 0.5 && !result.votes.is_empty());
    let wanted = [0, 1].map(|at| (Some(rates[at] + [0.25, 0.125][at]), Status::Scored));
    assert_eq!(rewards(result), wanted);
    assert_eq!(result.rewards[0].rank, Some(1));
    let names: Vec<&str> = result.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["judge", "tenth"]);
    assert_eq!(result.parts[0].outcome, given(&rates));
    assert_eq!(n_finished, 1);
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
    let groups = ids.map(|id| group(id, &RIGHT_AND_WRONG));
    let mut scorer = scorer(vec![scripted("other", false, others), judge]);
    let results = score_all(&mut scorer, &groups, &mut || {});
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
        let mut scorer =
            PartScorer { parts, combine: Combine::Sum, scorer: None, pool: Arc::new(Alone) };
        let results = score_all(&mut scorer, &[group("a", &RIGHT_AND_WRONG)], &mut || {});
        assert_eq!(rewards(&results[0]), wanted);
        assert_eq!((scorer.judge_name(), results[0].rewards[0].win_rate), (None, None));
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
    let results = score_all(&mut scorer, &[group], &mut || {});
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
    let mut scorer = PartScorer::open(&config).unwrap();
    let by_parts = score_all(&mut scorer, std::slice::from_ref(&group), &mut || {});
    let plain = Scorer::open(&config, false).unwrap().score_all(vec![group.request], &mut || {});
    assert_eq!(by_parts, plain.unwrap());
}

#[test]
fn parts_work_at_the_same_time() {
    // each part waits for the other: one after the other, neither would end
    let meeting = Arc::new(std::sync::Barrier::new(2));
    struct Meets(Arc<std::sync::Barrier>);
    impl PartSource for Meets {
        fn score(&mut self, questions: PartQuestions) {
            self.0.wait();
            questions.answer_each(|_| given(&[1.0, 0.0]));
        }
    }
    let part = |name| open(name, false, OpenKind::Source(Box::new(Meets(Arc::clone(&meeting)))));
    let parts = vec![part("a"), part("b")];
    let mut scorer =
        PartScorer { parts, combine: Combine::Sum, scorer: None, pool: Arc::new(Alone) };
    let results = score_all(&mut scorer, &[group("a", &RIGHT_AND_WRONG)], &mut || {});
    assert_eq!(results[0].rewards[0].reward, Some(2.0));
}

/// Notes the groups that it is asked about, and how many these were. The reward is without it.
struct Remembers {
    asked: Arc<Mutex<Vec<String>>>,
    needs_order: bool,
}

impl PartSource for Remembers {
    fn score(&mut self, questions: PartQuestions) {
        questions.answer_each(|group| {
            let mut asked = self.asked.lock().unwrap();
            asked.push(group.request.group_id.0.clone());
            given(&[asked.len() as f64, 0.0])
        });
    }

    fn needs_order(&self) -> bool {
        self.needs_order
    }
}

fn remembers(needs_order: bool) -> (OpenPart, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let source = Remembers { asked: Arc::clone(&asked), needs_order };
    let part = open("remembers", false, OpenKind::Source(Box::new(source)));
    (OpenPart { weight: 0.0, ..part }, asked)
}

/// The rule as a judge whose replies depend on its batches; counts the votes that it is asked for.
struct InBatches(RuleJudge, Arc<AtomicUsize>);

impl Judge for InBatches {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn submit(&mut self, request: VoteRequest) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.submit(request);
    }

    fn cancel(&mut self, id: VoteId) {
        self.0.cancel(id);
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        self.0.poll()
    }

    fn is_batch_dependent(&self) -> bool {
        true
    }
}

#[test]
fn results_do_not_depend_on_when_groups_come() {
    let others: Numbers = |id| match id {
        "g1" | "g4" => given(&[1.0, 1.0]),
        _ => given(&[1.0, 0.0]),
    };
    for when in [JudgeWhen::Always, JudgeWhen::Tied] {
        for waits in [false, true] {
            let score = |order: [usize; 5]| {
                let judge = open("judge", false, OpenKind::Judge(when));
                let (remembers, asked) = remembers(true);
                let mut scorer = scorer(vec![scripted("other", false, others), judge, remembers]);
                if waits {
                    let config = scorer.scorer.as_ref().unwrap().config().clone();
                    let judge = InBatches(RuleJudge::default(), Arc::default());
                    scorer.scorer = Some(Scorer::with_judge(&config, Some(Box::new(judge)), false));
                }
                let feed = |scoring: &mut Scoring<'_>| {
                    for place in order {
                        match place {
                            2 => scoring.skip(2)?,
                            _ => {
                                let group = group(&format!("g{place}"), &RIGHT_AND_WRONG);
                                scoring.add(place, group)?;
                            }
                        }
                        scoring.poll(Duration::from_millis(1))?;
                    }
                    Ok::<_, Error>(())
                };
                let size = StepSize { n_groups: 5, group_size: 2 };
                let ((), results) = scorer.score(size, feed).unwrap();
                assert_eq!(*asked.lock().unwrap(), ["g0", "g1", "g3", "g4"], "{order:?}");
                results
            };
            let wanted = score([0, 1, 2, 3, 4]);
            let ids: Vec<&str> = wanted.iter().map(|result| &result.group_id.0[..]).collect();
            assert_eq!(ids, ["g0", "g1", "g3", "g4"]);
            let n_judged = wanted.iter().filter(|result| !result.votes.is_empty()).count();
            assert_eq!(n_judged, if when == JudgeWhen::Always { 4 } else { 2 });
            for order in [[4, 3, 2, 1, 0], [1, 4, 0, 3, 2], [2, 0, 4, 1, 3]] {
                assert_eq!(score(order), wanted, "{when:?} {waits} {order:?}");
            }
        }
    }
}

#[test]
fn group_is_scored_while_others_are_still_to_come() {
    let judge = || open("judge", false, OpenKind::Judge(JudgeWhen::Always));
    let (remembers, asked) = remembers(false);
    let mut scorer = scorer(vec![judge(), remembers]);
    let size = StepSize { n_groups: 2, group_size: 2 };
    let feed = |scoring: &mut Scoring<'_>| {
        assert!(!scoring.has_begun());
        scoring.add(1, group("later", &RIGHT_AND_WRONG))?;
        let mut n_finished = 0;
        while n_finished == 0 || asked.lock().unwrap().is_empty() {
            n_finished += scoring.poll(Duration::from_secs(60))?;
        }
        assert!(scoring.has_begun() && !scoring.is_done());
        assert_eq!(*asked.lock().unwrap(), ["later"]);
        scoring.add(0, group("first", &RIGHT_AND_WRONG))
    };
    let ((), results) = scorer.score(size, feed).unwrap();
    assert_eq!(results[0].group_id.0, "first");
    assert_eq!(results[1].group_id.0, "later");
}

/// A scorer by one judge whose replies depend on its batches, and the number of votes it was asked
/// for.
fn in_batches(groups_at_once: usize) -> (PartScorer, Arc<AtomicUsize>) {
    let n_asked = Arc::new(AtomicUsize::new(0));
    let mut config: RewardConfig = toml::from_str("judge.kind = 'rule'").unwrap();
    config.judge.groups_at_once = groups_at_once;
    let judge = InBatches(RuleJudge::default(), Arc::clone(&n_asked));
    let scorer = Some(Scorer::with_judge(&config, Some(Box::new(judge)), false));
    let parts = Vec::new();
    (PartScorer { parts, combine: Combine::Sum, scorer, pool: Arc::new(Alone) }, n_asked)
}

#[test]
fn judge_whose_replies_depend_on_batches_gets_all_groups_at_once() {
    let (mut scorer, n_asked) = in_batches(0);
    let size = StepSize { n_groups: 3, group_size: 2 };
    let feed = |scoring: &mut Scoring<'_>| {
        for place in [1, 0] {
            scoring.add(place, group(&format!("g{place}"), &RIGHT_AND_WRONG))?;
            scoring.poll(Duration::ZERO)?;
            assert!(n_asked.load(Ordering::Relaxed) == 0 && !scoring.has_begun());
        }
        scoring.close()?;
        assert!(scoring.has_begun() && scoring.is_judging());
        Ok::<_, Error>(())
    };
    assert_eq!(scorer.score(size, feed).unwrap().1.len(), 2);
    assert!(n_asked.load(Ordering::Relaxed) > 0);
}

#[test]
fn judge_begins_with_a_portion_of_the_groups_while_others_are_to_come() {
    let (mut scorer, n_asked) = in_batches(2);
    let size = StepSize { n_groups: 5, group_size: 2 };
    let n_votes_of = |n_groups: usize| {
        let (mut scorer, n_asked) = in_batches(0);
        let ids: Vec<String> = (0..n_groups).map(|idx| format!("g{idx}")).collect();
        let groups: Vec<_> = ids.iter().map(|id| group(id, &RIGHT_AND_WRONG)).collect();
        score_all(&mut scorer, &groups, &mut || {});
        n_asked.load(Ordering::Relaxed)
    };
    let feed = |scoring: &mut Scoring<'_>| {
        let add = |scoring: &mut Scoring<'_>, place: usize| {
            scoring.add(place, group(&format!("g{place}"), &RIGHT_AND_WRONG))?;
            while scoring.is_judging() {
                scoring.poll(Duration::ZERO)?;
            }
            Ok::<_, Error>(n_asked.load(Ordering::Relaxed))
        };
        assert_eq!(add(scoring, 4)?, 0);
        assert_eq!(add(scoring, 2)?, 0);
        assert_eq!(add(scoring, 0)?, 0, "its portion lacks place 1");
        assert_eq!(add(scoring, 1)?, n_votes_of(2));
        assert!(!scoring.is_done());
        assert_eq!(add(scoring, 3)?, n_votes_of(5), "the portions of 2 and 3, and of 4");
        Ok::<_, Error>(())
    };
    assert_eq!(scorer.score(size, feed).unwrap().1.len(), 5);
}

#[test]
fn step_that_is_given_up_leaves_nothing_to_the_next_one() {
    let judge = open("judge", false, OpenKind::Judge(JudgeWhen::Always));
    let mut scorer = scorer(vec![judge, scripted("other", false, |_| given(&[0.5, 0.0]))]);
    let groups = ["a", "b"].map(|id| group(id, &RIGHT_AND_WRONG));
    let wanted = score_all(&mut scorer, &groups, &mut || {});
    let given_up = scorer.score(StepSize { n_groups: 2, group_size: 2 }, |scoring| {
        scoring.add(0, group("c", &RIGHT_AND_WRONG))?;
        Err::<(), _>(Error::Config("no more".to_owned()))
    });
    assert!(matches!(given_up, Err(Error::Config(_))));
    assert_eq!(score_all(&mut scorer, &groups, &mut || {}), wanted);
}
