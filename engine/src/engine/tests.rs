//! Stop strings in the samples of a model that says a fixed text.

use std::sync::Arc;

use joust_schema::tables::FinishReason;
use tch::{Device, Kind};

use crate::engine::Engine;
use crate::folder;
use crate::folder::tests::write;
use crate::golden;
use crate::model::Decoder;
use crate::request::{Request, RequestId, Sample};
use crate::settings::{EngineConfig, SamplingParams};

/// An engine whose most probable token after `says[i]` is `says[i + 1]`.
fn engine_that_says(says: &[u32]) -> Engine {
    let files = folder::open(&golden::path("models/tiny-qwen2")).unwrap();
    let mut weights = files.weights.read_all().unwrap();
    let _guard = tch::no_grad_guard();
    for (name, tensor) in &mut weights {
        let value = if name.contains("norm") { 1.0 } else { 0.0 };
        let _ = tensor.fill_(value);
    }
    let set = |name: &str, row: u32, column: usize, value: f64| {
        let _ = weights[name].get(i64::from(row)).get(column as i64).fill_(value);
    };
    for (column, pair) in says.windows(2).enumerate() {
        set("model.embed_tokens.weight", pair[0], column, 5.0);
        set("lm_head.weight", pair[1], column, 10.0);
    }
    let model =
        Decoder::from_weights(&files.config, &weights.into(), Device::Cpu, Kind::Float).unwrap();
    Engine::new(model, Arc::new(files.tokenizer), &EngineConfig::default()).unwrap()
}

/// The sample after the first of these tokens, with these stop strings.
fn sample(says: &[&str], stops: &[&str]) -> Sample {
    let tokenizer = folder::open(&golden::path("models/tiny-qwen2")).unwrap().tokenizer;
    let ids: Vec<u32> = says.iter().map(|token| tokenizer.token_id(token).unwrap()).collect();
    let params = SamplingParams {
        max_tokens: ids.len() - 1,
        temperature: 0.0,
        ignore_eos: true,
        stop: stops.iter().map(|&stop| stop.to_owned()).collect(),
        ..SamplingParams::default()
    };
    let request = Request::new(RequestId(0), vec![ids[0]], params);
    engine_that_says(&ids).generate(vec![request]).unwrap().remove(0)
}

const SAYS: [&str; 9] = ["A", "b", "<|im_start|>", "c", "d", "<think>", "e", "<|endoftext|>", "f"];

#[test]
fn samples_end_at_stop_strings_that_are_or_hold_special_tokens() {
    let cases: [(&[&str], &str, usize); 9] = [
        (&[], "bcd<think>ef", 8),
        (&["<|im_start|>"], "b", 2),
        (&["<|endoftext|>"], "bcd<think>e", 7),
        // special tokens have no text, so that the letters around them are neighbours
        (&["cd<th"], "b", 5),
        (&["b<|im_start|>c"], "", 3),
        (&["<|im_start|>cd"], "b", 4),
        (&["d", "<|endoftext|>"], "bc", 4),
        (&["<|endoftext|>", "<|im_start|>"], "b", 2),
        (&["<|im_end|>"], "bcd<think>ef", 8),
    ];
    for (stops, text, n_tokens) in cases {
        let sample = sample(&SAYS, stops);
        assert_eq!((&sample.text[..], sample.token_ids.len()), (text, n_tokens), "{stops:?}");
        let is_whole = n_tokens == SAYS.len() - 1;
        let reason = if is_whole { FinishReason::Length } else { FinishReason::Stop };
        assert_eq!(sample.finish_reason, reason, "{stops:?}");
    }
}

#[test]
fn engine_refuses_step_tokens_below_max_batch() {
    let config = EngineConfig { max_batch: 16, step_tokens: 15, ..EngineConfig::default() };
    let error = Engine::open(&golden::path("models/tiny-qwen2"), &config).err().unwrap();
    let told = error.to_string();
    assert!(told.contains("step_tokens is 15, wanted at least max_batch, 16"), "{told}");
}

#[test]
fn engine_computes_yarn_like_the_forced_pass() {
    let golden = golden::read("folders/variants.json");
    for name in ["qwen2: yarn attention_factor", "llama: rope_parameters yarn"] {
        let dir = tempfile::tempdir().unwrap();
        let variant = &golden["variants"][name];
        write(dir.path(), &variant["files"], &golden["common"]);
        let mut engine = Engine::open(dir.path(), &EngineConfig::default()).unwrap();
        let prompt = &golden::ids(&golden["sequence"])[..20];
        let params = SamplingParams {
            max_tokens: 20,
            temperature: 0.0,
            ignore_eos: true,
            ..SamplingParams::default()
        };
        let request = Request::new(RequestId(0), prompt.to_vec(), params);
        let sample = engine.generate(vec![request]).unwrap().remove(0);
        let forced = crate::forced::logprobs(engine.model(), prompt, &sample.token_ids).unwrap();
        for (seen, wanted) in sample.logprobs.iter().zip(forced) {
            assert!((seen - wanted).abs() < 1e-4, "{name}: {seen} {wanted}");
        }
    }
}
