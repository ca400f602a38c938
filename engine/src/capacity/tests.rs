//! Capacity plans against built models, and against the figures of RRM-32B.

use joust_schema::seed::Seed;

use super::*;
use crate::config::examples::{rrm_32b, tiny, tiny_qwen3};
use crate::device::Quantization;
use crate::model::Decoder;

#[test]
fn weight_bytes_are_those_of_the_built_model() {
    let with_head = ModelConfig { tie_word_embeddings: false, ..tiny() };
    let with_biases = ModelConfig { attention_bias: true, ..tiny_qwen3() };
    for config in [tiny(), with_head, tiny_qwen3(), with_biases] {
        for (kind, fp8_layers, fp8_head) in [
            (Kind::Float, false, false),
            (Kind::BFloat16, false, false),
            (Kind::BFloat16, true, false),
            (Kind::Float, true, true),
        ] {
            let precision = Precision { kind, fp8_layers, fp8_head };
            let plain = Decoder::random(&config, Seed(1), Device::Cpu, Kind::Float);
            let model = plain.duplicate(Device::Cpu, precision).unwrap();
            assert_eq!(weight_bytes(&config, precision), model.n_bytes(), "{precision:?}");
        }
    }
}

/// RRM-32B with FP8 weights, keys and values.
fn fp8_engine() -> EngineConfig {
    EngineConfig {
        quantization: Quantization::Fp8,
        kv_dtype: KvDType::Fp8,
        max_context: 32_768,
        ..EngineConfig::default()
    }
}

/// The plan of RRM-32B on a GPU with `gib` GiB of free memory.
fn plan(engine: &EngineConfig, gib: usize) -> CapacityPlan {
    CapacityPlan::new(&rrm_32b(), engine, Device::Cuda(0), gib << 30).unwrap()
}

#[test]
fn capacity_plan_of_rrm_32b_fits_one_h100_in_fp8_with_room_for_contexts() {
    let engine = fp8_engine();
    let fp8 = plan(&engine, 79);
    assert!((34.2..34.5).contains(&(fp8.weight_bytes as f64 / 1e9)), "{fp8:?}");
    // 128 KiB of FP8 per token, and the scales
    assert_eq!(fp8.kv_bytes_per_token, 2 * 64 * 8 * (128 + 4));
    assert!((320_000..400_000).contains(&fp8.kv_tokens), "{fp8:?}");
    fp8.check(&engine).unwrap();
    let bf16 = plan(&EngineConfig { kv_dtype: KvDType::Auto, ..engine.clone() }, 79);
    assert!((160_000..200_000).contains(&bf16.kv_tokens), "{bf16:?}");
    let plain = EngineConfig { quantization: Quantization::Off, kv_dtype: KvDType::Auto, ..engine };
    assert!(plan(&plain, 79).kv_tokens < 70_000);
}

#[test]
fn capacity_check_names_the_settings_that_need_less_memory() {
    let engine = fp8_engine();
    let plain = EngineConfig { quantization: Quantization::Off, ..engine.clone() };
    let plain = EngineConfig { kv_dtype: KvDType::Auto, ..plain };
    let small = |engine: &EngineConfig| plan(engine, 24).check(engine).unwrap_err().to_string();
    let error = small(&engine);
    assert!(error.contains("32.") && error.contains("24.0 GiB"), "{error}");
    // a setting that is set already is not named
    assert!(!error.contains("quantization") && small(&plain).contains("quantization"), "{error}");
    let greedy = EngineConfig { kv_memory_mib: 60 << 10, ..engine.clone() };
    assert!(plan(&engine, 79).check(&greedy).unwrap_err().to_string().contains("kv_memory_mib"));
    let tight = EngineConfig { kv_memory_mib: 1, ..engine };
    assert!(plan(&tight, 79).check(&tight).unwrap_err().to_string().contains("two blocks"));
}

#[test]
fn capacity_plan_refuses_what_the_engine_refuses() {
    let refusal = |model: ModelConfig, engine: EngineConfig| {
        CapacityPlan::new(&model, &engine, Device::Cuda(0), 79 << 30).unwrap_err().to_string()
    };
    let fp8 = EngineConfig { quantization: Quantization::Fp8, ..EngineConfig::default() };
    let none = EngineConfig { max_batch: 0, ..EngineConfig::default() };
    assert!(refusal(rrm_32b(), none).contains("max_batch"));
    let odd = ModelConfig { intermediate_size: 27_640, ..rrm_32b() };
    assert!(refusal(odd, fp8).contains("intermediate_size"));
    let heads = ModelConfig { head_dim: 80, ..rrm_32b() };
    assert!(refusal(heads, EngineConfig::default()).contains("head_dim 80"));
}
