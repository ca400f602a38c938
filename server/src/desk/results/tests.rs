//! What is known, what is under way, what is forgotten.

use joust_schema::ids::{GroupId, Member};
use joust_schema::seed::Seed;
use joust_schema::tables::{Reward, Status, Vote};

use super::*;
use joust_reward::arena::{GroupRequest, GroupResult};

fn key_of(group: &GroupRequest) -> GroupKey {
    GroupKey::of(group).0
}

const SECOND: Duration = Duration::from_secs(1);

fn group(question: &str) -> GroupRequest {
    GroupRequest {
        step: 0,
        group_id: GroupId("g".to_owned()),
        question: question.to_owned(),
        completions: vec!["a".to_owned(), "b".to_owned()],
        reference: None,
        seed: Seed::new(1),
        tournament: None,
    }
}

fn judged(question: &str, status: Status) -> Arc<Judged> {
    let group = group(question);
    let row = |member| Reward {
        group_id: group.group_id.clone(),
        member: Member(member),
        status,
        reward: (status == Status::Scored).then_some(0.5),
        win_rate: None,
        rating: None,
        rating_stderr: None,
        wins: 0,
        losses: 0,
        rank: None,
        advantage: None,
    };
    let result = GroupResult {
        group_id: group.group_id.clone(),
        rewards: vec![row(0), row(1)],
        matches: Vec::new(),
        votes: Vec::<Vote>::new(),
        winner: None,
        position_bias: None,
        is_refused: false,
    };
    Arc::new(Judged { key: key_of(&group), group, result, cohort: None })
}

#[test]
fn a_key_is_all_of_a_group_and_survives_being_written() {
    let key = key_of(&group("q"));
    assert_eq!(key.to_string().parse(), Ok(key));
    assert!("12".parse::<GroupKey>().is_err());
    let mut other = group("q");
    other.seed = Seed::new(2);
    assert_ne!(key_of(&other), key);
    assert_ne!(key_of(&group("r")), key);
    let text = serde_json::to_string(&judged("q", Status::Scored).as_ref()).unwrap();
    let read: Judged = serde_json::from_str(&text).unwrap();
    assert_eq!((read.key, key_of(&read.group)), (key, key), "written groups keep their key");
}

#[test]
fn who_asks_for_what_is_under_way_waits_for_it_and_later_gets_it_at_once() {
    let mut results = Results::new(10 * SECOND, 1 << 20);
    let done = judged("q", Status::Scored);
    assert!(results.find(SECOND, done.key).is_none());
    let mut first = results.begin(done.key);
    let Some(Found::Running(mut second)) = results.find(SECOND, done.key) else { panic!() };
    assert_eq!(results.stage(Duration::ZERO, done.key), Some(Stage::Queued));
    results.advance(done.key, Progress { matches_over: 1, matches_begun: 2, votes: 3 });
    let Some(Stage::Running(progress)) = results.stage(Duration::ZERO, done.key) else { panic!() };
    assert_eq!(progress.votes, 3);
    results.finish(SECOND, done.key, Ok(Arc::clone(&done)));
    assert_eq!(first.try_recv().unwrap(), Ok(Arc::clone(&done)));
    assert_eq!(second.try_recv().unwrap(), Ok(Arc::clone(&done)));
    assert!(matches!(results.find(11 * SECOND / 2, done.key), Some(Found::Over(_))));
    assert!(results.find(11 * SECOND, done.key).is_none(), "kept for ten seconds");
    assert_eq!(results.n_kept(), (0, 0));
}

#[test]
fn a_result_without_any_vote_and_a_cancelled_group_are_asked_for_again() {
    let mut results = Results::new(10 * SECOND, 1 << 20);
    let failed = judged("q", Status::JudgeFailed);
    drop(results.begin(failed.key));
    results.finish(SECOND, failed.key, Ok(Arc::clone(&failed)));
    assert!(results.find(SECOND, failed.key).is_none());
    assert_eq!(
        results.stage(Duration::ZERO, failed.key),
        Some(Stage::Over(Ok(failed))),
        "but it can be looked at"
    );
    let key = key_of(&group("r"));
    let mut waiting = results.begin(key);
    results.finish(SECOND, key, Err(Problem::Cancelled));
    assert_eq!(waiting.try_recv().unwrap(), Err(Problem::Cancelled));
    assert!(results.find(SECOND, key).is_none());
}

#[test]
fn memory_is_bounded_and_the_oldest_go_first() {
    let one = judged("q0", Status::Scored).n_bytes();
    let mut results = Results::new(1000 * SECOND, 3 * one);
    let all: Vec<_> = (0..5).map(|number| judged(&format!("q{number}"), Status::Scored)).collect();
    for (number, judged) in all.iter().enumerate() {
        drop(results.begin(judged.key));
        results.finish(SECOND * number as u32, judged.key, Ok(Arc::clone(judged)));
    }
    assert_eq!(results.n_kept(), (3, 3 * one));
    let known = all.iter().map(|judged| results.find(5 * SECOND, judged.key).is_some());
    assert_eq!(known.collect::<Vec<_>>(), [false, false, true, true, true]);
    // what a restart finds is kept no longer than it would have been
    let old = judged("old", Status::Scored);
    results.restore(Duration::ZERO, 999 * SECOND, Arc::clone(&old));
    assert!(results.find(SECOND / 2, old.key).is_none(), "there is no room for the oldest");
}

#[test]
fn journal_line_with_the_hashed_json_reads_as_the_entry() {
    use crate::dump::journal::{Entry, Line};
    let judged = judged("q", Status::Scored);
    let (_, json) = GroupKey::of(&judged.group);
    let line = serde_json::to_string(&Line::judged(1.5, "rule", &judged, &json)).unwrap();
    let entry = Entry::Judged { at: 1.5, by: "rule".to_owned(), judged };
    assert_eq!(line, serde_json::to_string(&entry).unwrap());
    assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry);
}
