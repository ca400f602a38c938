//! Groups from scripted servers: right answers, wrong answers of each kind, and servers that die,
//! come back, ask for slower calls or hold other weights.

mod faults;
mod scripted;

use std::path::Path;

use joust_engine::folder;
use joust_schema::ids::PromptId;
use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::Prompt;
use joust_schema::seed::Seed;
use joust_schema::tables::FinishReason;

use super::*;
use crate::config::{SamplerKind, ServersConfig};
use crate::group::RolloutBatch;
use crate::prompts::row::PromptRow;
use scripted::{Asked, ScriptedServer, ScriptedWeights, choice};

fn files() -> folder::ModelFiles {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/tiny-qwen2");
    folder::open(Path::new(path)).unwrap()
}

fn config(kind: SamplerKind, servers: &[&ScriptedServer]) -> RolloutConfig {
    let urls = servers.iter().map(|server| server.url.clone()).collect();
    RolloutConfig {
        kind,
        group_size: 3,
        max_completion_length: 6,
        servers: ServersConfig { urls, tries: 3, outage_s: 0.0, ..ServersConfig::default() },
        ..RolloutConfig::default()
    }
}

fn sampler(config: &RolloutConfig) -> ServerSampler {
    let files = files();
    let policy = ServedPolicy::new(&files.config, &files.tokenizer, config).unwrap();
    let weights = ScriptedWeights::new(config.servers.urls.len());
    ServerSampler::new(config, policy, "policy".to_owned(), Arc::new(Mutex::new(weights))).unwrap()
}

fn prompts(n: usize) -> Vec<PromptRow> {
    let row = |idx: usize| PromptRow {
        prompt_id: PromptId(format!("p{idx}")),
        prompt: Prompt::Text(format!("What is the sum of {idx} and 30?")),
        template_kwargs: JsonFields::default(),
        columns: None,
        answer: None,
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

fn generate(sampler: &mut ServerSampler, n: usize) -> Result<RolloutBatch, Error> {
    sampler.generate(&request(&prompts(n)), &mut |_| {})
}

/// The end token of the model.
fn end_token() -> u32 {
    let files = files();
    SampleEndOf(&files).first()
}

struct SampleEndOf<'a>(&'a folder::ModelFiles);

impl SampleEndOf<'_> {
    fn first(&self) -> u32 {
        let tokenizer = Arc::new(self.0.tokenizer.clone());
        let end = joust_engine::SampleEnd::new(tokenizer, &self.0.config, &[]);
        end.end_tokens().next().unwrap()
    }
}

#[test]
fn server_sampler_makes_groups_of_the_answers_of_both_kinds_of_server() {
    let end = end_token();
    for kind in [SamplerKind::Vllm, SamplerKind::Sglang] {
        let server = ScriptedServer::start(move |asked: &Asked| {
            let ids = |idx: u32| [vec![40 + idx, 41], vec![end; usize::from(idx == 0)]].concat();
            // one completion ends by itself; the others are cut off at the limit
            let padded = |idx| match idx {
                0 => ids(0),
                idx => [ids(idx), vec![42; 4]].concat(),
            };
            Ok((0..asked.n).map(|idx| choice(padded(idx as u32), asked)).collect())
        });
        let mut sampler = sampler(&config(kind, &[&server]));
        let batch = generate(&mut sampler, 4).unwrap();
        assert_eq!((batch.groups.len(), batch.dropped.len()), (4, 0), "{kind:?}");
        for (place, group) in batch.groups.iter().enumerate() {
            assert_eq!(group.group_id.0, format!("00004-{place:04}"));
            let rows = &group.completions;
            assert_eq!(rows.iter().map(|row| row.member.0).collect::<Vec<_>>(), [0, 1, 2]);
            assert_eq!(rows[0].completion_token_ids, [40, 41, end as i32]);
            assert_eq!(rows[0].completion, files().tokenizer.decode(&[40, 41], true));
            assert_eq!(rows[0].finish_reason, FinishReason::Stop);
            assert_eq!(rows[2].completion_token_ids, [42, 41, 42, 42, 42, 42]);
            assert_eq!(rows[2].finish_reason, FinishReason::Length);
            assert_eq!(rows[0].completion_logprobs, [-0.5; 3]);
            assert_eq!(rows[0].behaviour_logprobs.as_deref(), Some(&[-0.5; 3][..]));
        }
        let counts = sampler.take_counts();
        assert_eq!(counts, SamplerCounts { n_groups: 4, ..SamplerCounts::default() });
        let asked = server.asked();
        let seeds: std::collections::BTreeSet<i64> = asked.iter().map(|asked| asked.seed).collect();
        assert_eq!(seeds.len(), 4, "each group has its own seed");
        assert!(asked.iter().all(|asked| asked.end_tokens.contains(&end)));
        // the same request is asked with the same seeds
        drop(generate(&mut sampler, 4).unwrap());
        let again = server.asked()[4..].iter().map(|asked| asked.seed).collect();
        assert_eq!(seeds, again);
    }
}

#[test]
fn server_sampler_drops_prompts_that_do_not_fit_and_limits_completions_to_the_context() {
    let server = ScriptedServer::start(|asked: &Asked| {
        let tokens = vec![42; asked.max_tokens];
        Ok((0..asked.n).map(|_| choice(tokens.clone(), asked)).collect())
    });
    let mut config = config(SamplerKind::Vllm, &[&server]);
    config.engine.max_context = 24;
    let mut sampler = sampler(&config);
    let mut prompts = prompts(2);
    prompts[1].prompt = Prompt::Text("very ".repeat(500));
    let batch = sampler.generate(&request(&prompts), &mut |_| {}).unwrap();
    assert_eq!((batch.groups.len(), batch.dropped.len()), (1, 1));
    assert!(batch.dropped[0].reason.contains("the context holds 23"), "{:?}", batch.dropped);
    let row = &batch.groups[0].completions[0];
    let n_tokens = row.prompt_token_ids.len() + row.completion_token_ids.len();
    assert_eq!(n_tokens, 24.min(row.prompt_token_ids.len() + 6));
    assert_eq!(row.finish_reason, FinishReason::Length);
}

#[test]
fn server_sampler_cuts_completions_at_stop_strings_as_the_engine_does() {
    let tokenizer = files().tokenizer;
    let ids = tokenizer.encode("6 and 7 makes 13").unwrap();
    let text = tokenizer.decode(&ids, true);
    let server = ScriptedServer::start(move |asked: &Asked| {
        Ok((0..asked.n).map(|_| choice(ids.clone(), asked)).collect())
    });
    let mut config = config(SamplerKind::Vllm, &[&server]);
    config.max_completion_length = 64;
    config.stop = vec![" makes".to_owned()];
    let batch = generate(&mut sampler(&config), 1).unwrap();
    let row = &batch.groups[0].completions[0];
    assert_eq!(row.completion, text[..text.find(" makes").unwrap()]);
    assert_eq!(row.finish_reason, FinishReason::Stop);
    let kept: Vec<u32> = row.completion_token_ids.iter().map(|id| *id as u32).collect();
    assert!(tokenizer.decode(&kept, true).contains(" makes"), "the stop string's tokens stay");
    assert!(!tokenizer.decode(&kept, true).contains("13"), "nothing after it does");
    assert_eq!(row.completion_logprobs.len(), kept.len());
}

#[test]
fn server_sampler_asks_for_one_greedy_completion_and_fills_the_columns_by_the_sampling() {
    let server = ScriptedServer::start(|asked: &Asked| {
        Ok((0..asked.n).map(|_| choice(vec![42; 6], asked)).collect())
    });
    let mut sampler = sampler(&config(SamplerKind::Vllm, &[&server]));
    let prompts = prompts(1);
    let mut at = |temperature| {
        let request = GenerateRequest { temperature, ..request(&prompts) };
        let batch = sampler.generate(&request, &mut |_| {}).unwrap();
        assert_eq!(batch.groups[0].completions.len(), 3);
        let row = batch.groups[0].completions[2].clone();
        (row.completion_logprobs[0], row.behaviour_logprobs.unwrap()[0])
    };
    let greedy = at(Some(0.0));
    assert!(greedy.0.is_nan() && greedy.1 == 0.0, "{greedy:?}");
    assert_eq!(at(Some(1.0)), (-0.5, -0.5));
    let tempered = at(Some(0.7));
    assert!(tempered.0.is_nan() && tempered.1 == -0.5, "{tempered:?}");
    let asked = server.asked();
    assert_eq!(asked.iter().map(|asked| asked.n).collect::<Vec<_>>(), [1, 3, 3]);
    let temperatures: Vec<f64> = asked.iter().map(|asked| asked.temperature).collect();
    assert_eq!(temperatures, [0.0, 1.0, 0.7]);
}
