//! Plans against models that are there, and against the arithmetic of RRM-32B.

use joust_schema::seed::Seed;

use super::*;
use crate::config::examples::tiny;
use crate::device::Quantization;
use crate::model::Decoder;

fn rrm_32b() -> ModelConfig {
    ModelConfig {
        vocab_size: 152_064,
        hidden_size: 5_120,
        intermediate_size: 27_648,
        n_layers: 64,
        n_heads: 40,
        n_kv_heads: 8,
        head_dim: 128,
        max_position: 131_072,
        tie_word_embeddings: false,
        ..tiny()
    }
}

#[test]
fn planned_weights_are_those_of_the_model() {
    for tie_word_embeddings in [true, false] {
        let config = ModelConfig { tie_word_embeddings, ..tiny() };
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

#[test]
fn rrm_32b_fits_one_h100_in_fp8_and_not_in_bf16_with_room() {
    const GIB: usize = 1 << 30;
    let gpu = Device::Cuda(0);
    let engine = EngineConfig {
        quantization: Quantization::Fp8,
        kv_dtype: KvDType::Fp8,
        max_context: 32_768,
        ..EngineConfig::default()
    };
    let plan =
        |engine: &EngineConfig| CapacityPlan::new(&rrm_32b(), engine, gpu, 79 * GIB).unwrap();
    let fp8 = plan(&engine);
    assert!((34.2..34.5).contains(&(fp8.weight_bytes as f64 / 1e9)), "{fp8:?}");
    // 128 KiB of FP8 a token and its scales
    assert_eq!(fp8.kv_bytes_per_token, 2 * 64 * 8 * (128 + 4));
    assert!((320_000..400_000).contains(&fp8.kv_tokens), "{fp8:?}");
    fp8.check(&engine).unwrap();
    let bf16 = plan(&EngineConfig { kv_dtype: KvDType::Auto, ..engine.clone() });
    assert!((160_000..200_000).contains(&bf16.kv_tokens), "{bf16:?}");
    let plain =
        EngineConfig { quantization: Quantization::Off, kv_dtype: KvDType::Auto, ..engine.clone() };
    assert!(plan(&plain).kv_tokens < 70_000);
    let small = |engine: &EngineConfig| {
        let plan = CapacityPlan::new(&rrm_32b(), engine, gpu, 24 * GIB).unwrap();
        plan.check(engine).unwrap_err().to_string()
    };
    let error = small(&engine);
    assert!(error.contains("32.") && error.contains("24.0 GiB"), "{error}");
    // a mend that is set already is none
    assert!(!error.contains("quantization") && small(&plain).contains("quantization"), "{error}");
    let greedy = EngineConfig { kv_memory_mib: 60 << 10, ..engine.clone() };
    assert!(fp8.check(&greedy).unwrap_err().to_string().contains("kv_memory_mib"));
    let tight = EngineConfig { kv_memory_mib: 1, ..engine.clone() };
    assert!(plan(&tight).check(&tight).unwrap_err().to_string().contains("two blocks"));
}

#[test]
fn a_plan_refuses_what_the_engine_would() {
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
