//! The cache saves votes of the inner judge, and every request gets one outcome.

use std::collections::{BTreeMap, BTreeSet};

use joust_schema::ids::{GroupId, MatchId};
use joust_schema::seed::Seed;
use joust_schema::tables::Verdict;
use proptest::prelude::*;

use super::CachedJudge;
use crate::arena::{GroupRequest, GroupResult};
use crate::config::RewardConfig;
use crate::config::judge::{EngineJudgeConfig, JudgeConfig, JudgeKind, ReplayJudgeConfig};
use crate::judge::{
    Judge, JudgeError, ScriptControl, ScriptedJudge, ShownPair, VoteId, VoteOutcome, VoteReply,
    VoteRequest,
};
use crate::scorer::Scorer;

fn answer(request: &VoteRequest) -> Result<VoteReply, JudgeError> {
    let verdict = match request.answer_first.chars().next() {
        Some('x') => return Err(JudgeError::Failed("broken".to_owned())),
        Some('?') => Verdict::Invalid,
        // a coin per seed: a second draw would give another reply
        _ if request.seed.unit() < 0.5 => Verdict::First,
        _ => Verdict::Second,
    };
    Ok(VoteReply {
        verdict,
        is_swapped: false,
        text: format!("{} {} {}", request.answer_first, request.vote, request.seed.0),
        prompt_tokens: 300,
        cached_prompt_tokens: 16,
        completion_tokens: 7,
        latency_ms: 5.0,
        is_cut_off: false,
    })
}

/// A judge that replies by [`answer`], one vote per poll.
fn inner() -> (ScriptedJudge<'static>, ScriptControl) {
    let judge = ScriptedJudge::new(answer);
    let control = judge.control();
    control.set_max_replies_per_poll(1);
    (judge, control)
}

fn cached(change: impl FnOnce(&mut JudgeConfig)) -> (CachedJudge, ScriptControl) {
    let mut config = JudgeConfig { verdict_cache_mib: 1, ..JudgeConfig::default() };
    change(&mut config);
    let (judge, control) = inner();
    (CachedJudge::new(Box::new(judge), &config), control)
}

fn request(id: u64, first: &str) -> VoteRequest {
    VoteRequest {
        id: VoteId(id),
        match_id: MatchId(format!("g{id}/1-0-1")),
        pair: ShownPair::new("g", 0, 1),
        vote: 0,
        attempt: 0,
        question: "2+2?".to_owned(),
        answer_first: first.to_owned(),
        answer_second: "5".to_owned(),
        reference: None,
        seed: Seed::new(id),
    }
}

/// Submits one vote and polls it to its end.
fn asked(judge: &mut CachedJudge, request: VoteRequest) -> Result<VoteReply, JudgeError> {
    let id = request.id;
    judge.submit(request);
    let mut outcomes = judge.poll();
    assert!(outcomes.len() == 1 && outcomes[0].0 == id, "{outcomes:?}");
    outcomes.remove(0).1
}

#[test]
fn cache_asks_the_same_vote_once_and_bills_it_once() {
    let (mut judge, seen) = cached(|_| {});
    let first = asked(&mut judge, request(1, "4")).unwrap();
    let again = asked(&mut judge, request(2, "4")).unwrap();
    assert_eq!(again, VoteReply { cached_prompt_tokens: 300, latency_ms: 0.0, ..first });
    assert_eq!(seen.n_submitted(), 1);
    let stats = judge.stats();
    assert_eq!([stats.hits(), stats.joined(), stats.misses(), stats.shared_tokens()], [1, 0, 1, 7]);
    assert!(stats.bytes() > 0 && stats.bytes() < 1_000, "{}", stats.bytes());
}

#[test]
fn cache_key_covers_all_but_the_seed_and_the_match() {
    let (mut judge, seen) = cached(|_| {});
    let same = request(0, "4");
    let others = [
        VoteRequest { question: "2+2?5".to_owned(), answer_second: String::new(), ..same.clone() },
        VoteRequest { answer_first: "45".to_owned(), answer_second: String::new(), ..same.clone() },
        VoteRequest { answer_first: "5".to_owned(), answer_second: "4".to_owned(), ..same.clone() },
        VoteRequest { vote: 1, ..same.clone() },
        VoteRequest { attempt: 1, ..same.clone() },
        VoteRequest { vote: 1, attempt: 1, ..same.clone() },
    ];
    asked(&mut judge, same).unwrap();
    for (n, other) in others.into_iter().enumerate() {
        asked(&mut judge, other).unwrap();
        assert_eq!(seen.n_submitted(), n + 2);
    }
    let known = request(0, "4");
    let keys: BTreeSet<[u8; 32]> = [
        cached(|_| {}).0,
        cached(|config| config.temperature = 0.7).0,
        cached(|config| config.top_p = 0.9).0,
        cached(|config| config.max_thinking_tokens = 9).0,
    ]
    .map(|judge| judge.key(&known))
    .into();
    assert_eq!(keys.len(), 4);
}

#[test]
fn cache_keeps_no_invalid_and_no_failed_votes() {
    let (mut judge, seen) = cached(|_| {});
    for id in 0..2 {
        assert_eq!(asked(&mut judge, request(id, "?")).unwrap().verdict, Verdict::Invalid);
        asked(&mut judge, request(id, "x")).unwrap_err();
    }
    assert_eq!((seen.n_submitted(), judge.stats().bytes()), (4, 0));
}

#[test]
fn cache_joins_votes_in_flight_and_bills_the_first_that_is_left() {
    let (mut judge, seen) = cached(|_| {});
    for id in 1..=4 {
        judge.submit(request(id, "4"));
    }
    judge.cancel(VoteId(1));
    judge.cancel(VoteId(3));
    assert_eq!(seen.cancelled().len(), 0, "others wait for it");
    let costs = |(id, outcome): VoteOutcome| {
        let reply = outcome.unwrap();
        (id.0, reply.text, reply.cached_prompt_tokens, reply.latency_ms)
    };
    let text = format!("4 0 {}", Seed::new(1).0);
    let outcomes: Vec<_> = judge.poll().into_iter().map(costs).collect();
    assert_eq!(outcomes, [(2, text.clone(), 16, 5.0), (4, text, 300, 0.0)]);
    let stats = judge.stats();
    assert_eq!([stats.hits(), stats.joined(), stats.misses()], [0, 3, 1]);

    judge.submit(request(5, "6"));
    judge.submit(request(6, "6"));
    judge.cancel(VoteId(6));
    judge.cancel(VoteId(5));
    assert_eq!(seen.cancelled().len(), 1, "nobody waits for it");
    assert!(judge.poll().is_empty());
    asked(&mut judge, request(7, "6")).unwrap();
}

#[test]
fn cache_hits_do_not_wait_for_the_judge_nor_the_judge_for_them() {
    let (mut judge, _) = cached(|_| {});
    asked(&mut judge, request(1, "4")).unwrap();
    judge.submit(request(2, "6"));
    let mut ids = Vec::new();
    for id in 3..5 {
        judge.submit(request(id, "4"));
        ids.push(judge.poll().into_iter().map(|(id, _)| id.0).collect::<Vec<_>>());
    }
    assert_eq!(ids, [vec![3], vec![4, 2]]);
}

#[test]
fn cache_that_was_cleared_neither_joins_nor_keeps_earlier_votes() {
    let (mut judge, seen) = cached(|_| {});
    asked(&mut judge, request(1, "4")).unwrap();
    judge.submit(request(2, "6"));
    judge.clear_caches();
    assert_eq!((judge.stats().bytes(), seen.n_cache_clears()), (0, 1));
    judge.submit(request(3, "6"));
    asked_ids(&mut judge, &[2]);
    judge.submit(request(4, "6"));
    asked_ids(&mut judge, &[3, 4]);
    asked(&mut judge, request(5, "4")).unwrap();
    assert_eq!(seen.n_submitted(), 4);
}

fn asked_ids(judge: &mut CachedJudge, wanted: &[u64]) {
    let ids: Vec<u64> = judge.poll().into_iter().map(|(id, _)| id.0).collect();
    assert_eq!(ids, wanted);
}

fn group(id: &str, seed: u64) -> GroupRequest {
    GroupRequest {
        step: 0,
        group_id: GroupId(id.to_owned()),
        question: "2+2?".to_owned(),
        completions: ["4", "5", "22", "four"].map(str::to_owned).to_vec(),
        reference: None,
        seed: Seed::new(seed),
        tournament: None,
    }
}

fn verdicts(result: &GroupResult) -> Vec<(i32, String)> {
    result.votes.iter().map(|vote| (vote.vote, vote.text.clone())).collect()
}

#[test]
fn score_all_does_not_depend_on_earlier_groups() {
    let judge = JudgeConfig { verdict_cache_mib: 1, ..JudgeConfig::default() };
    let config = RewardConfig { judge, ..RewardConfig::default() };
    let scorer = || {
        let (judge, control) = inner();
        (Scorer::with_judge(&config, Some(Box::new(judge)), false), control)
    };
    let groups = || vec![group("a", 1), group("b", 1)];
    let (mut fresh, _) = scorer();
    let wanted = fresh.score_all(groups(), &mut || {}).unwrap();
    let stats = fresh.cache_stats().unwrap();
    assert_eq!(stats.misses(), stats.joined() + stats.hits(), "one group asks for both");
    assert_eq!(verdicts(&wanted[0]), verdicts(&wanted[1]));

    let (mut used, seen) = scorer();
    // the same comparisons with other draws
    let other = used.score_all(vec![group("a", 2)], &mut || {}).unwrap();
    assert_ne!(verdicts(&other[0]), verdicts(&wanted[0]));
    assert_eq!(used.score_all(groups(), &mut || {}).unwrap(), wanted);

    // as in the server: cached verdicts serve later groups
    let n_asked = seen.n_submitted();
    used.add(group("c", 1)).unwrap();
    let mut results = Vec::new();
    while used.n_open() > 0 {
        results.extend(used.pump().into_iter().map(|(_, result)| result));
    }
    assert_eq!(verdicts(&results[0]), verdicts(&wanted[0]));
    assert_eq!(seen.n_submitted(), n_asked);
}

#[test]
fn cache_is_refused_for_judges_that_read_more_than_the_answers() {
    let replay = JudgeKind::Replay(ReplayJudgeConfig { dump: "dump".into() });
    let model = EngineJudgeConfig { model: "judge".into(), ..EngineJudgeConfig::default() };
    for (kind, is_refused) in
        [(JudgeKind::Rule, true), (replay, true), (JudgeKind::Engine(model), false)]
    {
        let judge = JudgeConfig { kind, verdict_cache_mib: 8, ..JudgeConfig::default() };
        let problems = RewardConfig { judge, ..RewardConfig::default() }.validate();
        let named = problems.iter().any(|problem| problem.contains("judge.verdict_cache_mib is 8"));
        assert_eq!(named, is_refused, "{problems:?}");
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// A vote on one of a few comparisons.
    Submit(usize),
    /// Cancels one of the submitted votes, finished or not.
    Cancel(prop::sample::Index),
    /// The inner judge finishes this number of votes.
    Poll(usize),
    Forget,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_usize..5).prop_map(Act::Submit),
        3 => any::<prop::sample::Index>().prop_map(Act::Cancel),
        4 => (0_usize..4).prop_map(Act::Poll),
        1 => Just(Act::Forget),
    ]
}

proptest! {
    #[test]
    fn cache_gives_every_vote_that_is_not_cancelled_one_outcome(
        acts in prop::collection::vec(act(), 1..80),
        is_late: bool,
    ) {
        let (mut judge, seen) = cached(|_| {});
        seen.set_ignores_cancels(is_late);
        let answers = ["4", "5", "22", "?", "x"];
        let mut submitted: BTreeMap<u64, usize> = BTreeMap::new();
        let mut cancelled = BTreeSet::new();
        let mut outcomes: BTreeMap<u64, Result<VoteReply, JudgeError>> = BTreeMap::new();
        let mut has_forgotten = false;
        // polls until all votes are finished
        let rest = std::iter::repeat_n(Act::Poll(3), 2 * acts.len() + 2);
        for act in acts.into_iter().chain(rest) {
            match act {
                Act::Submit(which) => {
                    let id = submitted.len() as u64;
                    submitted.insert(id, which);
                    judge.submit(request(id, answers[which]));
                }
                Act::Cancel(which) if !submitted.is_empty() => {
                    let id = which.index(submitted.len()) as u64;
                    judge.cancel(VoteId(id));
                    if !outcomes.contains_key(&id) {
                        cancelled.insert(id);
                    }
                }
                Act::Cancel(_) => {}
                Act::Poll(n) => {
                    seen.set_max_replies_per_poll(n);
                    for (id, outcome) in judge.poll() {
                        prop_assert!(!cancelled.contains(&id.0), "{id:?} was cancelled");
                        prop_assert!(outcomes.insert(id.0, outcome).is_none(), "{id:?} twice");
                    }
                }
                Act::Forget => {
                    judge.clear_caches();
                    has_forgotten = true;
                }
            }
            let waiting = seen.waiting();
            let wanted = waiting.iter().filter(|vote| judge.in_flight.contains_key(&vote.id));
            let open: Vec<&str> = wanted.map(|vote| &*vote.answer_first).collect();
            let distinct: BTreeSet<&str> = open.iter().copied().collect();
            prop_assert!(has_forgotten || open.len() == distinct.len(), "asked twice: {open:?}");
        }
        for (id, which) in &submitted {
            let outcome = outcomes.get(id);
            prop_assert_eq!(outcome.is_none(), cancelled.contains(id), "{}", id);
            match outcome {
                None => {}
                Some(Err(_)) => prop_assert_eq!(answers[*which], "x"),
                Some(Ok(reply)) => {
                    let begins = format!("{} 0 ", answers[*which]);
                    prop_assert!(reply.text.starts_with(&begins));
                }
            }
        }
        let stats = judge.stats();
        let n_submitted = submitted.len() as u64;
        prop_assert_eq!(stats.hits() + stats.joined() + stats.misses(), n_submitted);
        prop_assert_eq!(stats.misses(), seen.n_submitted() as u64);
        prop_assert!(judge.in_flight.is_empty() && judge.waiting.is_empty());
        prop_assert!(judge.joinable.is_empty() && judge.ready.is_empty());
    }
}
