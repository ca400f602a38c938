//! A row of a batch is the row alone: neighbours, padding and order change nothing.

use joust_engine::{EngineConfig, Request, RequestId, Sample, SamplingParams};
use joust_schema::seed::Seed;

use crate::tiny_engine::{SamplesById, by_id, finish, open};

const TOLERANCE: f32 = 1e-4;

/// Requests of mixed lengths, half of them sampled.
fn requests(n: u64) -> Vec<Request> {
    let request = |id: u64| {
        let seed = Seed::new(11).child("request", id);
        let length = 1 + (seed.child("length", 0).unit() * 40.0) as u64;
        let token = |at| 3 + (seed.child("token", at).unit() * 250.0) as u32;
        Request::new(
            RequestId(id),
            (0..length).map(token).collect(),
            SamplingParams {
                max_tokens: 4 + (seed.child("max_tokens", 0).unit() * 20.0) as usize,
                temperature: if id.is_multiple_of(2) { 0.0 } else { 0.8 },
                top_p: if id.is_multiple_of(3) { 0.9 } else { 1.0 },
                top_k: if id.is_multiple_of(5) { 20 } else { 0 },
                n: 1 + (id % 3) as u32,
                seed: id,
                ..SamplingParams::default()
            },
        )
    };
    (0..n).map(request).collect()
}

fn check_same(a: &SamplesById, b: &SamplesById) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.values().zip(b.values()) {
        assert_eq!(a.token_ids, b.token_ids, "{:?} {}", a.request_id, a.index);
        assert_eq!((&a.text, a.finish_reason), (&b.text, b.finish_reason));
        for (a, b) in a.logprobs.iter().zip(&b.logprobs) {
            assert!((a - b).abs() < TOLERANCE, "{a} {b}");
        }
    }
}

#[test]
fn batch_rows_are_the_same_alone_and_together_in_any_order() {
    let alone: Vec<Sample> = requests(24)
        .into_iter()
        .flat_map(|request| open(&EngineConfig::default()).generate(vec![request]).unwrap())
        .collect();
    let alone = by_id(alone);
    let together = by_id(open(&EngineConfig::default()).generate(requests(24)).unwrap());
    check_same(&alone, &together);
    let mut reversed = requests(24);
    reversed.reverse();
    // a small batch and small prefills mix newcomers with rows that are half done
    let tight = EngineConfig { max_batch: 5, step_tokens: 48, ..EngineConfig::default() };
    check_same(&alone, &by_id(open(&tight).generate(reversed).unwrap()));
}

#[test]
fn cancelled_request_leaves_the_others_as_they_are() {
    let whole = by_id(open(&EngineConfig::default()).generate(requests(12)).unwrap());
    let mut engine = open(&EngineConfig { max_batch: 8, ..EngineConfig::default() });
    for request in requests(12) {
        engine.submit(request).unwrap();
    }
    let mut samples = engine.step().unwrap();
    samples.extend(engine.step().unwrap());
    for id in [0, 4, 11] {
        engine.cancel(RequestId(id));
    }
    samples.extend(finish(&mut engine));
    let seen = by_id(samples);
    let kept: SamplesById =
        whole.into_iter().filter(|((id, _), _)| ![0, 4, 11].contains(&id.0)).collect();
    check_same(&kept, &seen);
}

#[test]
fn samples_of_one_prompt_differ_and_repeat() {
    let request = |seed| {
        let params = SamplingParams { n: 4, max_tokens: 12, seed, ..SamplingParams::default() };
        Request::new(RequestId(0), vec![5, 6, 7], params)
    };
    let run = |seed| open(&EngineConfig::default()).generate(vec![request(seed)]).unwrap();
    let tokens = |samples: &[Sample]| -> Vec<Vec<u32>> {
        samples.iter().map(|sample| sample.token_ids.clone()).collect()
    };
    let (first, second) = (tokens(&run(1)), tokens(&run(1)));
    assert_eq!(first, second);
    assert_ne!(first, tokens(&run(2)));
    assert!(first.iter().any(|sample| *sample != first[0]));
    let shared: Vec<usize> = run(1).iter().map(|sample| sample.cached_prompt_tokens).collect();
    assert_eq!(shared, [0, 3, 3, 3], "the prompt is computed once");
}
