//! Results in flight, cached and evicted; keys of groups; lines of the journal.

use joust_schema::ids::Member;
use joust_schema::seed::Seed;
use joust_schema::tables::{Reward, Status, Vote};

use super::*;
use crate::group::fixture::pair;
use joust_reward::arena::{GroupRequest, GroupResult};

fn key_of(group: &GroupRequest) -> GroupKey {
    GroupKey::of("", group).0
}

const SECOND: Duration = Duration::from_secs(1);

fn judged(question: &str, status: Status) -> Arc<Judged> {
    let group = pair(question);
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
        position_bias_stderr: None,
        length_slope: None,
        length_slope_stderr: None,
        is_refused: false,
        correctness: Vec::new(),
        parts: Vec::new(),
    };
    Arc::new(Judged { key: key_of(&group), group, result, cohort: None, tenant: String::new() })
}

#[test]
fn group_key_depends_on_every_field_and_is_the_same_after_the_journal() {
    let key = key_of(&pair("q"));
    assert_eq!(key.to_string().parse(), Ok(key));
    assert!("12".parse::<GroupKey>().is_err());
    let mut other = pair("q");
    other.seed = Seed::new(2);
    assert_ne!(key_of(&other), key);
    assert_ne!(key_of(&pair("r")), key);
    let (_, json) = GroupKey::of("", &pair("q"));
    let read: GroupRequest = serde_json::from_str(json.get()).unwrap();
    assert_eq!(key_of(&read), key, "written groups keep their key");
}

#[test]
fn group_key_depends_on_the_tenant_and_results_are_shown_to_their_tenant() {
    let group = pair("q");
    let of = |tenant| GroupKey::of(tenant, &group).0;
    assert!(of("alice") != of("bob") && of("alice") != of(""));
    let mut results = Results::new(10 * SECOND, 1 << 20);
    let key = of("alice");
    drop(results.begin(key, "alice"));
    for tenant in ["bob", ""] {
        assert_eq!(results.stage(SECOND, tenant, key), None);
    }
    assert_eq!(results.stage(SECOND, "alice", key), Some(GroupStage::Queued));
    results.finish(SECOND, key, Err(Problem::Cancelled));
    assert_eq!(results.stage(SECOND, "bob", key), None);
    assert!(results.stage(SECOND, "alice", key).is_some());
}

#[test]
fn results_bound_the_clients_with_a_job_of_a_group() {
    let mut results = Results::new(10 * SECOND, 1 << 20);
    let key = key_of(&pair("q"));
    drop(results.begin(key, ""));
    let client = |number: usize| Client::of_tenant("", Some(&number.to_string()));
    for number in 0..MAX_JOB_CLIENTS {
        assert_eq!(results.add_job(key, &client(number)), Ok(true));
    }
    assert_eq!(results.add_job(key, &client(1000)), Err(MAX_JOB_CLIENTS));
    assert_eq!(results.add_job(key, &client(0)), Ok(false), "it has one already");
}

#[test]
fn results_are_shared_in_flight_and_cached_for_their_ttl() {
    let mut results = Results::new(10 * SECOND, 1 << 20);
    let done = judged("q", Status::Scored);
    assert!(results.look_up(SECOND, done.key).is_none());
    let mut first = results.begin(done.key, "");
    let Some(GroupLookup::InFlight(mut second)) = results.look_up(SECOND, done.key) else {
        panic!()
    };
    assert_eq!(results.stage(Duration::ZERO, "", done.key), Some(GroupStage::Queued));
    results
        .record_progress(done.key, GroupProgress { matches_over: 1, matches_begun: 2, votes: 3 });
    let Some(GroupStage::Judging(progress)) = results.stage(Duration::ZERO, "", done.key) else {
        panic!()
    };
    assert_eq!(progress.votes, 3);
    results.finish(SECOND, done.key, Ok(Arc::clone(&done)));
    assert_eq!(first.try_recv().unwrap(), Ok(Arc::clone(&done)));
    assert_eq!(second.try_recv().unwrap(), Ok(Arc::clone(&done)));
    assert!(matches!(results.look_up(11 * SECOND / 2, done.key), Some(GroupLookup::Cached(_))));
    assert!(results.look_up(11 * SECOND, done.key).is_none(), "cached for ten seconds");
    assert_eq!(results.n_cached(), (0, 0));
}

#[test]
fn results_of_a_failed_judge_and_cancelled_groups_are_judged_again() {
    let mut results = Results::new(10 * SECOND, 1 << 20);
    let failed = judged("q", Status::JudgeFailed);
    drop(results.begin(failed.key, ""));
    results.finish(SECOND, failed.key, Ok(Arc::clone(&failed)));
    assert!(results.look_up(SECOND, failed.key).is_none());
    assert_eq!(
        results.stage(Duration::ZERO, "", failed.key),
        Some(GroupStage::Over(Ok(failed))),
        "but a job shows it"
    );
    let key = key_of(&pair("r"));
    let mut waiting = results.begin(key, "");
    results.finish(SECOND, key, Err(Problem::Cancelled));
    assert_eq!(waiting.try_recv().unwrap(), Err(Problem::Cancelled));
    assert!(results.look_up(SECOND, key).is_none());
}

#[test]
fn results_evict_the_oldest_beyond_their_limit_of_memory() {
    let one = judged("q0", Status::Scored).n_bytes();
    let mut results = Results::new(1000 * SECOND, 3 * one);
    let all: Vec<_> = (0..5).map(|number| judged(&format!("q{number}"), Status::Scored)).collect();
    for (number, judged) in all.iter().enumerate() {
        drop(results.begin(judged.key, ""));
        results.finish(SECOND * number as u32, judged.key, Ok(Arc::clone(judged)));
    }
    assert_eq!(results.n_cached(), (3, 3 * one));
    let known = all.iter().map(|judged| results.look_up(5 * SECOND, judged.key).is_some());
    assert_eq!(known.collect::<Vec<_>>(), [false, false, true, true, true]);
    // a restored result expires as if there had been no restart
    let old = judged("old", Status::Scored);
    results.restore(Duration::ZERO, 999 * SECOND, Arc::clone(&old));
    assert!(results.look_up(SECOND / 2, old.key).is_none(), "the oldest is evicted first");
}

#[test]
fn journal_lines_read_as_their_entries() {
    use crate::dump::journal::{JournalEntry, JournalLine};
    let judged = judged("q", Status::Scored);
    let (key, json) = GroupKey::of("alice", &judged.group);
    let group = Box::new(judged.group.clone());
    let (client, by) = (Client::of_tenant("alice", Some("c")), "rule".to_owned());
    let shown = client.clone();
    for (line, entry) in [
        (
            JournalLine::judged(1.5, "rule", &judged, &json),
            JournalEntry::Judged { at: 1.5, by, judged: Arc::clone(&judged) },
        ),
        (
            JournalLine::Accepted { key, group: &json, client: &shown },
            JournalEntry::Accepted { key, group, client },
        ),
        (JournalLine::Delivered { key, member: 2 }, JournalEntry::Delivered { key, member: 2 }),
        (JournalLine::Cancelled { key }, JournalEntry::Cancelled { key }),
    ] {
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<JournalEntry>(&text).unwrap(), entry, "{text}");
    }
    let line = JournalLine::Accepted { key, group: &json, client: &shown };
    let client = r#"{"tenant":"alice","name":"c"}"#;
    let wanted = format!(r#"{{"accepted":{{"key":"{key}","group":{json},"client":{client}}}}}"#);
    assert_eq!(serde_json::to_string(&line).unwrap(), wanted, "the hashed JSON is written");
}
