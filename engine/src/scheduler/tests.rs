//! The scheduler with made-up requests, model and clock.

use std::collections::BTreeMap;
use std::ops::Range;

use joust_schema::seed::Seed;
use proptest::prelude::*;

use super::*;
use crate::kv::Span;

fn limits() -> SchedulerLimits {
    SchedulerLimits {
        max_batch: 4,
        max_queue: 100,
        step_tokens: 32,
        n_blocks: 64,
        prefix_cache: true,
    }
}

fn request(request: u64, prompt: Vec<u32>, n_samples: u32) -> QueuedRequest {
    QueuedRequest { request, prompt, n_samples, priority: 0, deadline: None }
}

fn prompt(id: u64, n_tokens: usize) -> Vec<u32> {
    (0..n_tokens).map(|at| (id * 1_000 + at as u64) as u32).collect()
}

fn plan(scheduler: &mut Scheduler) -> Vec<(SequenceKey, Range<usize>, u32)> {
    let chunks = scheduler.plan(Duration::ZERO).chunks;
    chunks.into_iter().map(|chunk| (chunk.key, chunk.positions, chunk.n_samples)).collect()
}

#[test]
fn plan_puts_running_sequences_first_and_cuts_long_prompts_into_chunks() {
    let mut scheduler = Scheduler::new(limits());
    scheduler.push(request(1, prompt(1, 10), 1)).unwrap();
    scheduler.push(request(2, prompt(2, 50), 1)).unwrap();
    assert_eq!(plan(&mut scheduler), [(SequenceKey(1), 0..10, 1), (SequenceKey(2), 0..22, 0)]);
    scheduler.append(SequenceKey(1), 7);
    assert_eq!(plan(&mut scheduler), [(SequenceKey(1), 10..11, 1), (SequenceKey(2), 22..50, 1)]);
}

#[test]
fn split_samples_shares_one_prefill_and_later_samples_join_when_the_batch_has_room() {
    let mut scheduler = Scheduler::new(limits());
    scheduler.push(request(1, prompt(1, 10), 6)).unwrap();
    assert_eq!(plan(&mut scheduler), [(SequenceKey(1), 0..10, 4)]);
    let keys = scheduler.split_samples(SequenceKey(1));
    assert_eq!(keys.iter().map(|&(sample, _)| sample).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for &(_, key) in &keys {
        scheduler.append(key, 7);
    }
    assert_eq!(plan(&mut scheduler).len(), 4, "the batch is full");
    scheduler.finish(keys[1].1);
    scheduler.finish(keys[2].1);
    for key in [keys[0].1, keys[3].1] {
        scheduler.append(key, 8);
    }
    let chunks = plan(&mut scheduler);
    // only the last prompt token is computed again, the others are cached
    assert_eq!((chunks.len(), chunks[2].1.clone(), chunks[2].2), (3, 9..10, 2));
}

#[test]
fn plan_computes_equal_prompts_of_one_step_once() {
    let mut scheduler = Scheduler::new(limits());
    scheduler.push(request(1, prompt(1, 20), 1)).unwrap();
    scheduler.push(request(2, prompt(1, 20), 1)).unwrap();
    assert_eq!(plan(&mut scheduler), [(SequenceKey(1), 0..20, 1), (SequenceKey(2), 19..20, 1)]);
    assert_eq!(scheduler.counts().computed_prompt_tokens, 21);
    assert_eq!(scheduler.counts().prompt_tokens, 40);
}

#[test]
fn plan_admits_higher_priority_first_and_the_oldest_at_intervals() {
    let mut scheduler = Scheduler::new(SchedulerLimits { max_batch: 1, ..limits() });
    scheduler.push(request(0, prompt(0, 3), 1)).unwrap();
    let mut served = Vec::new();
    for id in 1..20 {
        scheduler.push(QueuedRequest { priority: 1, ..request(id, prompt(id, 3), 1) }).unwrap();
    }
    while scheduler.has_work() {
        for chunk in scheduler.plan(Duration::ZERO).chunks {
            served.push(scheduler.finish(chunk.key).unwrap().request);
        }
    }
    assert_eq!(served[..8], [1, 2, 3, 4, 5, 6, 7, 0]);
    assert_eq!(served.len(), 20);
}

#[test]
fn push_refuses_a_request_when_the_queue_is_full() {
    let mut scheduler = Scheduler::new(SchedulerLimits { max_queue: 2, ..limits() });
    scheduler.push(request(1, prompt(1, 3), 1)).unwrap();
    scheduler.push(request(2, prompt(2, 3), 1)).unwrap();
    let refused = scheduler.push(request(3, prompt(3, 3), 1));
    assert!(matches!(refused, Err(Error::QueueFull { limit: 2 })));
}

#[test]
fn plan_expires_waiting_and_running_requests_at_their_deadline() {
    let mut scheduler = Scheduler::new(SchedulerLimits { max_batch: 1, ..limits() });
    let soon = Some(Duration::from_secs(5));
    scheduler.push(QueuedRequest { deadline: soon, ..request(1, prompt(1, 3), 1) }).unwrap();
    scheduler.push(QueuedRequest { deadline: soon, ..request(2, prompt(2, 3), 1) }).unwrap();
    assert_eq!(scheduler.plan(Duration::from_secs(4)).chunks.len(), 1);
    let plan = scheduler.plan(Duration::from_secs(5));
    let mut expired: Vec<u64> = plan.expired.iter().map(|sequence| sequence.request).collect();
    expired.sort_unstable();
    assert_eq!((expired, plan.chunks.len()), (vec![1, 2], 0));
    assert!(!scheduler.has_work());
    assert_eq!(scheduler.usage().n_free + scheduler.usage().n_cached, 64);
}

#[test]
fn plan_preempts_the_last_sequence_for_the_first() {
    let mut scheduler =
        Scheduler::new(SchedulerLimits { n_blocks: 4, step_tokens: 100, ..limits() });
    scheduler.push(request(1, prompt(1, 30), 1)).unwrap();
    scheduler.push(request(2, prompt(2, 30), 1)).unwrap();
    assert_eq!(plan(&mut scheduler).len(), 2);
    for token in 0..3 {
        scheduler.append(SequenceKey(1), token);
        scheduler.append(SequenceKey(2), token);
        plan(&mut scheduler);
    }
    assert_eq!(scheduler.counts().preemptions, 1);
    scheduler.finish(SequenceKey(1));
    // the preempted sequence is computed again, with the tokens that it had generated
    let chunks = plan(&mut scheduler);
    assert_eq!((chunks[0].0, chunks[0].1.end), (SequenceKey(2), 33));
}

/// The next token of a sequence, a function of its context alone.
fn next_token(context: &[u32]) -> u32 {
    let mix = |seed: Seed, &token: &u32| seed.child("token", u64::from(token));
    (context.iter().fold(Seed::new(3), mix).0 % 5) as u32
}

/// Stands for the model's key/value memory: the token that each slot holds.
#[derive(Default)]
struct SlotTokens(BTreeMap<(u32, u32), u32>);

impl SlotTokens {
    fn compute(&mut self, plan: &StepPlan) {
        for chunk in &plan.chunks {
            for (slot, &token) in chunk.slots.iter().zip(&chunk.tokens) {
                self.0.insert((slot.block, slot.offset), token);
            }
        }
    }

    fn context(&self, spans: &[Span]) -> Vec<u32> {
        let slots = spans.iter().flat_map(|span| (0..span.n_tokens).map(|at| (span.block, at)));
        slots.map(|slot| self.0[&slot]).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn scheduler_gives_every_sample_the_context_that_it_has_alone(
        shapes in prop::collection::vec(
            (0u64..4, 1usize..50, 1u32..4, 1usize..20, 0i32..3, any::<bool>()),
            1..30,
        ),
        n_blocks in 5usize..40,
        step_tokens in 1usize..60,
        prefix_cache in any::<bool>(),
    ) {
        let mut scheduler = Scheduler::new(SchedulerLimits {
            max_batch: 6, max_queue: 1_000, step_tokens, n_blocks, prefix_cache,
        });
        for (id, &(stem, n_tokens, n_samples, _, priority, _)) in shapes.iter().enumerate() {
            let mut tokens = prompt(stem, n_tokens);
            tokens.push(if id % 2 == 0 { 1 } else { 2 });
            let new = request(id as u64, tokens, n_samples);
            scheduler.push(QueuedRequest { priority, ..new }).unwrap();
        }
        let mut memory = SlotTokens::default();
        let mut finished: BTreeMap<(u64, u32), Vec<u32>> = BTreeMap::new();
        let mut n_steps = 0;
        while scheduler.has_work() {
            n_steps += 1;
            prop_assert!(n_steps < 20_000, "the scheduler does not finish");
            if n_steps == 5 {
                for (id, shape) in shapes.iter().enumerate() {
                    if shape.5 { scheduler.cancel(id as u64); }
                }
            }
            let plan = scheduler.plan(Duration::ZERO);
            let n_computed: usize = plan.chunks.iter().map(|chunk| chunk.tokens.len()).sum();
            prop_assert!(n_computed <= step_tokens);
            memory.compute(&plan);
            for chunk in &plan.chunks {
                let context = memory.context(&chunk.spans);
                prop_assert_eq!(context.len(), chunk.positions.end);
                prop_assert_eq!(&context[chunk.positions.clone()], &chunk.tokens[..]);
                if chunk.n_samples == 0 { continue; }
                let keys = scheduler.split_samples(chunk.key);
                prop_assert_eq!(keys.len(), chunk.n_samples as usize);
                for (_, key) in keys {
                    scheduler.append(key, next_token(&context));
                    let sequence = scheduler.running.iter().find(|s| s.key == key).unwrap();
                    prop_assert_eq!(&sequence.tokens[..context.len()], &context[..]);
                    let n_new = sequence.tokens.len() - sequence.n_prompt;
                    if n_new == shapes[sequence.request as usize].3 {
                        let done = scheduler.finish(key).unwrap();
                        finished.insert((done.request, done.first_sample), done.tokens);
                    }
                }
            }
        }
        for (id, shape) in shapes.iter().enumerate() {
            for sample in 0..shape.2 {
                let Some(tokens) = finished.get(&(id as u64, sample)) else {
                    prop_assert!(shape.5, "only cancelled samples are missing");
                    continue;
                };
                let n_prompt = shape.1 + 1;
                for at in n_prompt..tokens.len() {
                    prop_assert_eq!(tokens[at], next_token(&tokens[..at]));
                }
            }
        }
        let usage = scheduler.usage();
        prop_assert_eq!(usage.n_free + usage.n_cached, n_blocks);
        scheduler.forget_prefixes();
        prop_assert_eq!(scheduler.usage().n_free, n_blocks);
    }
}
