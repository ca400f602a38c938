//! The engine under load: everything on gives what everything off gives; nothing leaks, nothing
//! stops, and shared prompts are computed once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use joust_engine::{
    Decoder, Engine, EngineConfig, Request, RequestId, Sample, SamplingParams, folder,
};
use joust_reward::arena::{Arena, GroupRequest};
use joust_reward::judge::{EngineJudge, RecordingJudge, VoteId, VoteOutcome, VoteRequest};
use joust_reward::tournament::TournamentKind;
use joust_reward::{JudgeConfig, RewardConfig, Stop, TournamentConfig, VoteRule};
use joust_schema::ids::GroupId;
use joust_schema::seed::Seed;
use joust_schema::tables::Verdict;
use serde_json::Value;
use tch::{Device, Kind};

use crate::binary::{file, root, succeed};

fn engine(config: &EngineConfig) -> Engine {
    Engine::open(&root().join("tests/golden/models/tiny-qwen2"), config).unwrap()
}

fn draw(id: u64, what: &str, below: u64) -> u64 {
    Seed::new(5).child_str("load", what).child("request", id).0 % below
}

/// Greedy requests of random lengths; one in three begins like many others.
fn request(id: u64) -> Request {
    let n_tokens = 1 + draw(id, "length", 70);
    let stem = if id.is_multiple_of(3) { draw(id, "stem", 4) } else { 1_000 + id };
    let token = |at: u64| {
        let own = if at < 40 { stem } else { 2_000 + id };
        3 + (Seed::new(own).child("token", at).0 % 250) as u32
    };
    let params = SamplingParams {
        max_tokens: 1 + draw(id, "max_tokens", 40) as usize,
        temperature: 0.0,
        n: 1 + draw(id, "n", 3) as u32,
        ..SamplingParams::default()
    };
    Request::new(RequestId(id), (0..n_tokens).map(token).collect(), params)
}

type Samples = BTreeMap<(RequestId, u32), Sample>;

fn by_id(samples: Vec<Sample>) -> Samples {
    samples.into_iter().map(|sample| ((sample.request_id, sample.index), sample)).collect()
}

#[test]
fn cache_forks_chunks_and_preemption_change_no_token() {
    const N: u64 = 500;
    let plain = EngineConfig { max_batch: 1, prefix_cache: false, ..EngineConfig::default() };
    let plain = by_id(engine(&plain).generate((0..N).map(request).collect()).unwrap());
    // room for some 2,000 tokens, where 64 samples want twice as many
    let mut engine = engine(&EngineConfig {
        max_batch: 64,
        step_tokens: 100,
        kv_memory_mib: 1,
        ..EngineConfig::default()
    });
    let mut samples = Vec::new();
    for id in 0..N {
        engine.submit(Request { priority: (id % 3) as i32, ..request(id) }).unwrap();
        if id.is_multiple_of(4) {
            samples.extend(engine.step().unwrap());
        }
        if id.is_multiple_of(10) {
            engine.cancel(RequestId(id / 2));
        }
    }
    while engine.has_work() {
        samples.extend(engine.step().unwrap());
    }
    let stats = engine.stats();
    assert!(stats.preemptions > 0, "the memory was large enough for all: {stats:?}");
    assert!(stats.computed_prompt_tokens < stats.prompt_tokens, "{stats:?}");
    assert_eq!(stats.kv_free_tokens + stats.kv_cached_tokens, stats.kv_tokens, "a block is lost");
    engine.clear();
    assert_eq!(engine.stats().kv_free_tokens, stats.kv_tokens);
    let samples = by_id(samples);
    let cancelled = |id: u64| (0..N).any(|at| at.is_multiple_of(10) && at / 2 == id);
    for (key, wanted) in &plain {
        match samples.get(key) {
            Some(seen) => assert_eq!(seen.token_ids, wanted.token_ids, "{key:?}"),
            None => assert!(cancelled(key.0.0), "{key:?} never came"),
        }
    }
    assert!(samples.len() > plain.len() * 9 / 10, "{} of {}", samples.len(), plain.len());
}

#[test]
fn a_deadline_ends_a_request_and_its_memory_is_free() {
    let mut engine = engine(&EngineConfig::default());
    let late = Some(std::time::Duration::ZERO);
    let params = SamplingParams { n: 3, max_tokens: 50, ..SamplingParams::default() };
    engine
        .submit(Request { timeout: late, ..Request::new(RequestId(1), vec![5; 9], params.clone()) })
        .unwrap();
    engine.submit(Request::new(RequestId(2), vec![6; 9], params)).unwrap();
    let mut samples = Vec::new();
    while engine.has_work() {
        samples.extend(engine.step().unwrap());
    }
    let aborted: Vec<&Sample> =
        samples.iter().filter(|sample| sample.request_id == RequestId(1)).collect();
    assert_eq!(aborted.len(), 3);
    assert!(aborted.iter().all(|sample| {
        sample.finish_reason == joust_schema::tables::FinishReason::Abort
            && sample.token_ids.is_empty()
    }));
    assert_eq!(samples.len(), 6);
    let stats = engine.stats();
    assert_eq!(stats.kv_free_tokens + stats.kv_cached_tokens, stats.kv_tokens);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// An engine on its own thread, fed through a bounded queue, as its users run it.
fn serve(requests: &Receiver<(Request, Sender<Sample>)>) -> (u64, u64) {
    let config = EngineConfig { max_queue: 128, kv_memory_mib: 1, ..EngineConfig::default() };
    let mut engine = engine(&config);
    let mut waiting: BTreeMap<RequestId, Sender<Sample>> = BTreeMap::new();
    let (mut n_done, mut early) = (0u64, 0);
    loop {
        let next = match engine.has_work() {
            true => requests.try_recv().ok(),
            false => match requests.recv() {
                Ok(next) => Some(next),
                Err(_) => return (early, resident_kib()),
            },
        };
        if let Some((request, reply)) = next {
            waiting.insert(request.id, reply);
            engine.submit(request).unwrap();
            if waiting.len() < 64 {
                continue;
            }
        }
        for sample in engine.step().unwrap() {
            n_done += 1;
            if n_done == 5_000 {
                early = resident_kib();
            }
            let reply = waiting.remove(&sample.request_id).unwrap();
            reply.send(sample).unwrap();
        }
    }
}

#[test]
fn twenty_thousand_requests_from_64_submitters() {
    // in a process of its own: its memory is looked at
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["engine::soak", "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
#[ignore = "run by the test before it, in a process of its own"]
fn soak() {
    const SUBMITTERS: u64 = 64;
    const EACH: u64 = 20_000 / SUBMITTERS;
    let (submit, requests) = bounded(64);
    let server = std::thread::spawn(move || serve(&requests));
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|submitter| {
            let submit = submit.clone();
            std::thread::spawn(move || {
                let (reply, replies) = unbounded();
                for at in 0..EACH {
                    let id = submitter * EACH + at;
                    let params = SamplingParams {
                        max_tokens: 1 + draw(id, "max_tokens", 6) as usize,
                        seed: id,
                        ..SamplingParams::default()
                    };
                    let prompt =
                        (0..1 + draw(id, "length", 12)).map(|at| 3 + (id * 7 + at) as u32 % 200);
                    let request = Request::new(RequestId(id), prompt.collect(), params);
                    submit.send((request, reply.clone())).unwrap();
                    let sample: Sample = replies.recv().unwrap();
                    assert_eq!(sample.request_id, RequestId(id));
                }
            })
        })
        .collect();
    drop(submit);
    for submitter in submitters {
        submitter.join().unwrap();
    }
    let (early, late) = server.join().unwrap();
    assert!(late < early + 32 * 1024, "{early} KiB after a quarter, {late} KiB at the end");
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
fn tournaments_compute_little_more_than_the_trie_of_their_prompts() {
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
                "{kind:?}, {n_words} words, {n_votes} votes: {computed} computed, trie {trie}, asked {}",
                judge.0.prompt_tokens()
            );
        }
    }
}

#[test]
fn four_votes_of_one_prompt_are_one_prefill() {
    let mut engine = engine(&EngineConfig::default());
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

/// What a config says about memory reaches the judge's engine.
#[test]
fn a_config_limits_the_memory_of_the_judge() {
    let folder = tempfile::tempdir().unwrap();
    let group = |a: u32, b: u32| {
        let answers: Vec<String> =
            (0..6).map(|off| format!("The answer is {}.", a + b + 10 * off)).collect();
        serde_json::json!({ "prompt": format!("What is {a} + {b}?"), "completions": answers })
    };
    let groups: Vec<String> =
        (0..8).map(|at| group(120 + 31 * at, 205 + 17 * at).to_string()).collect();
    let input = file(folder.path(), "groups.jsonl", &groups.join("\n"));
    let figures = |settings: &[&str]| {
        let args = ["bench", "judge", "configs/quickstart.toml", "--input", &input];
        let line = succeed(&[&args, settings].concat());
        let figures: Value = serde_json::from_str(line.trim()).unwrap();
        let count = |key: &str| figures[key].as_u64().unwrap();
        assert_eq!(count("matches"), count("votes_asked"));
        let keys = ["prompt_tokens", "computed_prompt_tokens", "preemptions", "completion_tokens"];
        keys.map(count)
    };
    let [asked, computed, preemptions, written] = figures(&[]);
    assert!(2 * computed < asked && preemptions == 0, "{computed} of {asked}");
    assert_eq!(figures(&["reward.judge.prefix_cache=false"]), [asked, asked, 0, written]);
    let tight = ["reward.judge.kv_memory_mib=1", "reward.judge.step_tokens=64"];
    let [_, _, preemptions, written_in_little_memory] = figures(&tight);
    assert!(preemptions > 0);
    assert_eq!(written_in_little_memory, written);
}
