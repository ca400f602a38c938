//! Memory of keys and values: what the cache, forks, chunks, preemption and deadlines do with it
//! changes no token, and no block is lost.

use joust_engine::{EngineConfig, Request, RequestId, Sample, SamplingParams};
use joust_schema::seed::Seed;
use serde_json::Value;

use crate::binary::{file, succeed};
use crate::tiny_engine::{by_id, draw, finish, open};

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

#[test]
fn prefix_cache_forks_chunks_and_preemption_change_no_token() {
    const N: u64 = 500;
    let plain = EngineConfig { max_batch: 1, prefix_cache: false, ..EngineConfig::default() };
    let plain = by_id(open(&plain).generate((0..N).map(request).collect()).unwrap());
    // room for some 2,000 tokens, where 64 samples want twice as many
    let mut engine = open(&EngineConfig {
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
    samples.extend(finish(&mut engine));
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
fn deadline_ends_a_request_and_frees_its_memory() {
    let mut engine = open(&EngineConfig::default());
    let late = Some(std::time::Duration::ZERO);
    let params = SamplingParams { n: 3, max_tokens: 50, ..SamplingParams::default() };
    engine
        .submit(Request { timeout: late, ..Request::new(RequestId(1), vec![5; 9], params.clone()) })
        .unwrap();
    engine.submit(Request::new(RequestId(2), vec![6; 9], params)).unwrap();
    let samples = finish(&mut engine);
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

#[test]
fn config_limits_the_memory_of_the_judges_engine() {
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
    assert_eq!(figures(&["reward.judge.engine.prefix_cache=false"]), [asked, asked, 0, written]);
    let tight =
        ["kv_memory_mib=1", "step_tokens=128"].map(|key| format!("reward.judge.engine.{key}"));
    let tight = tight.each_ref().map(String::as_str);
    let [_, _, preemptions, written_in_little_memory] = figures(&tight);
    assert!(preemptions > 0);
    assert_eq!(written_in_little_memory, written);
}
