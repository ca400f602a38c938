//! Worker threads around a tiny model: the same groups for any number of threads, and failures.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use joust_engine::model::Decoder;
use joust_engine::{Engine, EngineConfig};
use joust_schema::ids::{PolicyVersion, PromptId};
use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::{Message, Prompt};
use joust_schema::seed::Seed;
use joust_schema::table::Table as _;
use joust_schema::tables::{FinishReason, Rollout};

use super::RolloutWorkers;
use crate::config::{ChatTemplateUse, RolloutConfig};
use crate::error::Error;
use crate::group::RolloutBatch;
use crate::prompts::row::PromptRow;
use crate::sampler::Sampler as _;
use crate::sampling::SamplingEvent;
use crate::sampling::request::GenerateRequest;

fn engine() -> Engine {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/tiny-qwen2");
    Engine::open(Path::new(path), &EngineConfig::default()).unwrap()
}

fn config(workers: usize) -> RolloutConfig {
    RolloutConfig { group_size: 3, max_completion_length: 12, workers, ..RolloutConfig::default() }
}

fn workers(config: &RolloutConfig) -> RolloutWorkers {
    RolloutWorkers::spawn((0..config.workers).map(|_| engine()).collect(), config).unwrap()
}

fn prompts(n: usize) -> Vec<PromptRow> {
    let row = |idx: usize| PromptRow {
        prompt_id: PromptId(format!("p{idx}")),
        prompt: Prompt::Text(format!("What is the sum of {idx} and 30{}", "?".repeat(idx))),
        template_kwargs: JsonFields::default(),
        columns: None,
        answer: Some((30 + idx).to_string()),
    };
    (0..n).map(row).collect()
}

fn request(prompts: &[PromptRow]) -> GenerateRequest<'_> {
    GenerateRequest {
        step: 4,
        policy_version: PolicyVersion(9),
        prompts,
        n_groups_before: 0,
        group_stride: 1,
        seed: Seed::new(1),
        group_size: None,
        temperature: None,
        cancelled: None,
        stop: None,
    }
}

fn generate(workers: &mut RolloutWorkers, prompts: &[PromptRow]) -> RolloutBatch {
    let request = request(prompts);
    let mut seen = Vec::new();
    let batch = workers.generate(&request, &mut |at| seen.push(at.n_groups)).unwrap();
    assert_eq!(seen, (1..=prompts.len()).collect::<Vec<_>>());
    batch
}

fn rows(batch: &RolloutBatch) -> Vec<Rollout> {
    Rollout::from_batch(&batch.to_arrow().unwrap()).unwrap()
}

#[test]
fn generate_returns_whole_groups_in_order() {
    let batch = generate(&mut workers(&config(1)), &prompts(5));
    assert_eq!(batch.groups.len(), 5);
    assert!(batch.dropped.is_empty());
    for (place, group) in batch.groups.iter().enumerate() {
        assert_eq!(group.group_id.0, format!("00004-{place:04}"));
        assert_eq!(group.answer.as_deref(), Some(&*(30 + place).to_string()));
        assert_eq!(group.completions.len(), 3);
    }
    let rows = rows(&batch);
    let members: Vec<u32> = rows.iter().map(|row| row.member.0).collect();
    assert_eq!(members, [0, 1, 2].repeat(5));
    let n_tokens: usize = rows.iter().map(|row| row.completion_token_ids.len()).sum();
    assert_eq!(n_tokens, batch.n_tokens);
    for row in &rows {
        assert_eq!((row.step, row.policy_version), (4, PolicyVersion(9)));
        assert_eq!(row.completion_logprobs.len(), row.completion_token_ids.len());
        let full = row.completion_token_ids.len() == 12;
        assert!(full || row.finish_reason == FinishReason::Stop);
    }
    assert_ne!(rows[0].completion_token_ids, rows[1].completion_token_ids);
}

#[test]
fn sampling_shows_each_group_when_it_is_whole_and_leaves_nothing_behind() {
    let mut workers = workers(&config(2));
    let mut prompts = prompts(5);
    prompts[3].prompt = Prompt::Text("very ".repeat(5000));
    let whole = rows(&generate(&mut workers, &prompts));
    // nobody takes the rest
    let mut sampling = workers.start(&request(&prompts)).unwrap();
    assert!(matches!(sampling.next(None), SamplingEvent::Finished(_)));
    drop(sampling);
    let mut sampling = workers.start(&request(&prompts)).unwrap();
    let (mut seen, mut n_tokens) = (Vec::new(), 0);
    loop {
        match sampling.next(Some(Duration::ZERO)) {
            SamplingEvent::Finished(idx) => {
                let Some(group) = sampling.group(idx) else {
                    assert_eq!(idx, 3, "the prompt that does not fit");
                    continue;
                };
                let members = group.completions.iter();
                n_tokens += members.map(|row| row.completion_token_ids.len()).sum::<usize>();
                assert_eq!(sampling.n_tokens(), n_tokens);
                seen.push(idx);
            }
            SamplingEvent::Nothing => std::thread::yield_now(),
            SamplingEvent::Over => break,
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 4]);
    let batch = sampling.finish().unwrap();
    assert_eq!((rows(&batch), batch.dropped.len()), (whole, 1));
}

#[test]
fn groups_are_counted_on_from_those_that_the_step_has() {
    let (mut workers, prompts) = (workers(&config(1)), prompts(3));
    let whole = rows(&generate(&mut workers, &prompts));
    let more = GenerateRequest { n_groups_before: 2, ..request(&prompts[2..]) };
    let rest = workers.generate(&more, &mut |_| {}).unwrap();
    assert_eq!(rest.groups[0].group_id.0, "00004-0002");
    let drawn = |rows: &[Rollout]| {
        rows.iter().map(|row| (row.seed, row.completion_token_ids.clone())).collect::<Vec<_>>()
    };
    assert_eq!(drawn(&rows(&rest)), drawn(&whole[6..]), "their draws, too");
}

#[test]
fn generate_breaks_off_when_it_is_cancelled_and_leaves_nothing_behind() {
    let (mut workers, prompts) = (workers(&config(2)), prompts(5));
    let whole = rows(&generate(&mut workers, &prompts));
    let (cancelled, mut n_groups) = (Arc::new(AtomicBool::new(true)), 0);
    let request = GenerateRequest { cancelled: Some(&cancelled), ..request(&prompts) };
    let broken_off = workers.generate(&request, &mut |at| n_groups = at.n_groups);
    assert!(matches!(broken_off, Err(Error::Cancelled)));
    assert_eq!(n_groups, 0, "no token was sampled");
    assert_eq!(rows(&generate(&mut workers, &prompts)), whole);
}

#[test]
fn generate_does_not_depend_on_the_number_of_workers() {
    let prompts = prompts(7);
    let one = rows(&generate(&mut workers(&config(1)), &prompts));
    let three = rows(&generate(&mut workers(&config(3)), &prompts));
    for (one, three) in one.iter().zip(&three) {
        assert_eq!(one.completion_token_ids, three.completion_token_ids);
        let pairs = one.completion_logprobs.iter().zip(&three.completion_logprobs);
        pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-4));
    }
    let again = rows(&generate(&mut workers(&config(3)), &prompts));
    assert_eq!(three, again, "equal requests give equal bits");
}

#[test]
fn generate_drops_a_prompt_that_does_not_fit_with_its_reason() {
    let mut prompts = prompts(3);
    prompts[1].prompt = Prompt::Text("very ".repeat(5000));
    let batch = generate(&mut workers(&config(2)), &prompts);
    assert_eq!(batch.groups.len(), 2);
    assert_eq!(batch.groups[1].group_id.0, "00004-0002");
    assert_eq!(batch.dropped[0].prompt_id.0, "p1");
    assert!(batch.dropped[0].reason.contains("the context holds"), "{}", batch.dropped[0].reason);
}

#[test]
fn generate_renders_chats_and_with_chat_template_always_texts() {
    let message = Prompt::Messages(vec![Message::new("user", "6 + 7?")]);
    let row = |prompt| PromptRow {
        prompt_id: "p".into(),
        prompt,
        template_kwargs: JsonFields::default(),
        columns: None,
        answer: None,
    };
    let chat = generate(&mut workers(&config(1)), &[row(message)]);
    let always = RolloutConfig { chat_template: ChatTemplateUse::Always, ..config(1) };
    let text = generate(&mut workers(&always), &[row(Prompt::Text("6 + 7?".to_owned()))]);
    let plain = generate(&mut workers(&config(1)), &[row(Prompt::Text("6 + 7?".to_owned()))]);
    assert_eq!(rows(&chat)[0].prompt_token_ids, rows(&text)[0].prompt_token_ids);
    assert_eq!(rows(&chat)[0].completion, rows(&text)[0].completion);
    assert_eq!(rows(&plain)[0].prompt, "6 + 7?");
    let with_system = RolloutConfig { system_prompt: Some("Be brief.".to_owned()), ..always };
    let system = generate(&mut workers(&with_system), &[row(Prompt::Text("6 + 7?".to_owned()))]);
    assert!(rows(&system)[0].prompt.contains("Be brief."));
}

#[test]
fn publish_takes_effect_and_refuses_weights_of_another_shape() {
    let mut workers = workers(&config(2));
    let before = rows(&generate(&mut workers, &prompts(2)));
    let policy = engine();
    let config = policy.model().config().clone();
    let (device, kind) = (policy.model().device(), policy.model().kind());
    let random = Decoder::random(&config, Seed::new(7), device, kind);
    workers.publish(&random, PolicyVersion(1)).unwrap();
    let other = rows(&generate(&mut workers, &prompts(2)));
    assert_ne!(before[0].completion_logprobs, other[0].completion_logprobs);
    let narrow = joust_engine::ModelConfig { intermediate_size: 8, ..config };
    let wrong = Decoder::random(&narrow, Seed::new(7), device, kind);
    let message = workers.publish(&wrong, PolicyVersion(2)).unwrap_err().to_string();
    assert!(message.starts_with("rollout worker 0: tensor model.layers.0.mlp"), "{message}");
    // the workers keep the weights that they had
    assert_eq!(rows(&generate(&mut workers, &prompts(2))), other);
    workers.publish(policy.model(), PolicyVersion(3)).unwrap();
    assert_eq!(rows(&generate(&mut workers, &prompts(2))), before);
    workers.release().unwrap();
    workers.publish(policy.model(), PolicyVersion(3)).unwrap();
    assert_eq!(rows(&generate(&mut workers, &prompts(2))), before);
}
