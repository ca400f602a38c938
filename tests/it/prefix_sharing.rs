//! Prefix sharing: prompts that begin alike are computed once.

use std::path::Path;
use std::sync::Arc;

use joust_engine::{Decoder, Engine, EngineConfig, Request, RequestId, SamplingParams, folder};
use joust_reward::arena::{Arena, GroupRequest};
use joust_reward::judge::{EngineJudge, RecordingJudge, VoteId, VoteOutcome, VoteRequest};
use joust_reward::tournament::TournamentKind;
use joust_reward::{JudgeConfig, RewardConfig, Stop, TournamentConfig, VoteRule};
use joust_schema::ids::GroupId;
use joust_schema::seed::Seed;
use joust_schema::tables::Verdict;
use tch::{Device, Kind};

use crate::binary::root;
use crate::tiny_engine::open;

#[test]
fn votes_of_one_prompt_share_one_prefill() {
    let mut engine = open(&EngineConfig::default());
    let params = SamplingParams { max_tokens: 1, ..SamplingParams::default() };
    for id in 0..4 {
        let params = SamplingParams { seed: id, ..params.clone() };
        engine.submit(Request::new(RequestId(id), vec![7; 50], params)).unwrap();
    }
    assert_eq!(engine.step().unwrap().len(), 4, "all in one step");
    assert_eq!(engine.stats().computed_prompt_tokens, 53);
    let params = SamplingParams { n: 4, ..params };
    engine.submit(Request::new(RequestId(9), vec![8; 50], params)).unwrap();
    assert_eq!(engine.step().unwrap().len(), 4);
    assert_eq!(engine.stats().computed_prompt_tokens, 103);
}

/// A judge of random weights with the nano RRM's tokenizer and template and a long context: what it
/// says is noise, what it is asked is real.
fn judge(max_batch: usize) -> RecordingJudge {
    let files = folder::open(Path::new(&root().join("data/models/nano-rrm"))).unwrap();
    let mut model = files.config.clone();
    (model.max_position, model.hidden_size, model.n_layers) = (8_192, 32, 1);
    (model.intermediate_size, model.n_heads, model.n_kv_heads, model.head_dim) = (32, 2, 1, 16);
    let decoder = Decoder::random(&model, Seed::new(2), Device::Cpu, Kind::Float);
    let config = EngineConfig { max_batch, ..EngineConfig::default() };
    let engine = Engine::new(decoder, Arc::new(files.tokenizer), &config).unwrap();
    let config = JudgeConfig { max_thinking_tokens: 8, ..JudgeConfig::default() };
    RecordingJudge::new(EngineJudge::new(engine, "random", &config).unwrap())
}

/// Turns a judge's noise into valid verdicts, so that no vote is asked for twice.
struct Decided(RecordingJudge);

impl joust_reward::judge::Judge for Decided {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn submit(&mut self, request: VoteRequest) {
        self.0.submit(request);
    }

    fn cancel(&mut self, id: VoteId) {
        self.0.cancel(id);
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        let mut outcomes = self.0.poll();
        for (id, outcome) in &mut outcomes {
            let reply = outcome.as_mut().unwrap();
            let first = Seed::new(id.0).unit() < 0.5;
            reply.verdict = if first { Verdict::First } else { Verdict::Second };
        }
        outcomes
    }
}

fn group(number: u64, n_words: usize) -> GroupRequest {
    const WORDS: [&str; 8] = ["add", "12", "then", "carry", "one", "so", "36", "plus"];
    let text = |key: Seed, n: usize| {
        let words = (0..n).map(|at| WORDS[(key.child("word", at as u64).0 % 8) as usize]);
        words.collect::<Vec<_>>().join(" ")
    };
    let key = Seed::new(9).child("group", number);
    GroupRequest {
        step: 0,
        group_id: GroupId(format!("{number}")),
        question: text(key.child("question", 0), 12),
        completions: (0..8).map(|member| text(key.child("member", member), n_words)).collect(),
        reference: None,
        seed: key,
        tournament: None,
    }
}

#[test]
fn tournament_prompts_are_computed_little_more_than_once_per_shared_prefix() {
    let kinds = [TournamentKind::Knockout, TournamentKind::Swiss, TournamentKind::RoundRobin];
    for kind in kinds {
        for (n_words, n_votes) in [(5, 1), (5, 4), (250, 1), (250, 4)] {
            let votes = VoteRule { max: n_votes, stop: Stop::Never, ..VoteRule::default() };
            let tournament = TournamentConfig { kind, votes, ..TournamentConfig::default() };
            let config = RewardConfig { tournament, ..RewardConfig::default() };
            let mut arena = Arena::new(&config, false);
            let mut judge = Decided(judge(64));
            for number in 0..8 {
                arena.add(group(number, n_words)).unwrap();
            }
            while arena.n_open() > 0 {
                arena.pump(&mut judge);
            }
            let (computed, trie) =
                (judge.0.inner().stats().computed_prompt_tokens, judge.0.trie_tokens());
            assert!(
                computed as f64 <= 1.1 * trie as f64,
                "{kind:?}, {n_words} words, {n_votes} votes: {computed} computed, trie {trie}, \
                 asked {}",
                judge.0.prompt_tokens()
            );
        }
    }
}
