//! Folders for servers, read back.

use joust_schema::seed::Seed;
use tch::{Device, Kind};

use super::{ChangedHead, changed, check, write};
use crate::device::DType;
use crate::model::Decoder;
use crate::settings::SamplingParams;
use crate::{folder, forced, golden};

const TEXT: [u32; 12] = [1, 5, 9, 40, 41, 7, 3, 8, 60, 33, 2, 11];

fn model(name: &str) -> (folder::ModelFiles, Decoder) {
    let files = folder::open(&golden::path("models").join(name)).unwrap();
    let model = files.decoder(Device::Cpu, Kind::Float).unwrap();
    (files, model)
}

fn logprobs(model: &Decoder) -> Vec<f32> {
    forced::logprobs(model, &TEXT[..1], &TEXT[1..]).unwrap()
}

fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

#[test]
fn served_folder_has_its_own_head_and_the_numbers_of_the_policy() {
    for name in ["tiny-qwen2", "tiny-llama"] {
        let (files, policy) = model(name);
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &policy, &files.tokenizer, DType::F32).unwrap();
        check(dir.path()).unwrap();
        let served = folder::open(dir.path()).unwrap();
        assert!(!served.config.tie_word_embeddings && served.weights.contains("lm_head.weight"));
        let served = served.decoder(Device::Cpu, Kind::Float).unwrap();
        assert_eq!(logprobs(&served), logprobs(&policy));
    }
}

#[test]
fn served_folder_without_a_tensor_is_refused() {
    let (files, policy) = model("tiny-qwen2");
    let dir = tempfile::tempdir().unwrap();
    let mut weights = policy.to_weights(Kind::BFloat16);
    assert!(weights.remove("model.layers.1.mlp.up_proj.weight").is_some());
    folder::save(dir.path(), policy.config(), &weights, &files.tokenizer).unwrap();
    let error = check(dir.path()).unwrap_err().to_string();
    assert!(error.contains("model.layers.1.mlp.up_proj.weight"), "{error}");
}

#[test]
fn changed_model_differs_in_every_tensor_and_repeats() {
    let (_, policy) = model("tiny-qwen2");
    let change = |share, head| changed(&policy, Seed::new(3), share, head).unwrap();
    let (all, again) = (change(0.2, ChangedHead::Changed), change(0.2, ChangedHead::Changed));
    let old_head = change(0.2, ChangedHead::Old);
    assert_eq!(logprobs(&all), logprobs(&again));
    let differences = [&all, &old_head, &change(0.0, ChangedHead::Changed)]
        .map(|model| mean_difference(&logprobs(model), &logprobs(&policy)));
    assert!(differences[0] > 0.02 && differences[1] > 0.01, "{differences:?}");
    assert!(differences[2] < 1e-5, "{differences:?}");
    assert!(mean_difference(&logprobs(&all), &logprobs(&old_head)) > 0.01);
    let (before, after) = (policy.to_weights(Kind::Float), all.to_weights(Kind::Float));
    for (name, tensor) in &before {
        assert!(after[name].f_sub(tensor).unwrap().abs().max().double_value(&[]) > 0.0, "{name}");
    }
}

#[test]
fn drawn_logprobs_are_those_that_the_engine_draws_with() {
    let files = folder::open(&golden::path("models/tiny-qwen2")).unwrap();
    let config = crate::EngineConfig {
        device: crate::device::DeviceChoice::Cpu,
        dtype: DType::F32,
        ..crate::EngineConfig::default()
    };
    let mut engine = crate::Engine::open(&files.path, &config).unwrap();
    for (temperature, top_p, top_k) in [(1.0, 1.0, 0), (0.5, 1.0, 0), (1.3, 0.8, 0), (0.7, 0.9, 9)]
    {
        let params = SamplingParams {
            temperature,
            top_p,
            top_k,
            max_tokens: 12,
            ignore_eos: true,
            ..SamplingParams::default()
        };
        let request = crate::Request::new(crate::RequestId(1), TEXT.to_vec(), params.clone());
        let sample = engine.generate(vec![request]).unwrap().pop().unwrap();
        let model = engine.model();
        let drawn = forced::drawn_logprobs(model, &TEXT, &sample.token_ids, &params).unwrap();
        assert!(mean_difference(&drawn, &sample.behaviour_logprobs) < 1e-4, "{temperature}");
        let plain = forced::logprobs(model, &TEXT, &sample.token_ids).unwrap();
        assert!(mean_difference(&plain, &sample.logprobs) < 1e-4);
    }
}
