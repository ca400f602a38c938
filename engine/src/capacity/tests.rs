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
    let plan = |engine: &EngineConfig| Plan::new(&rrm_32b(), engine, gpu, 79 * GIB).unwrap();
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
    let small = Plan::new(&rrm_32b(), &engine, gpu, 24 * GIB).unwrap();
    let error = small.check(&engine).unwrap_err().to_string();
    assert!(
        error.contains("32.") && error.contains("24.0 GiB") && error.contains("fp8"),
        "{error}"
    );
    let greedy = EngineConfig { kv_memory_mib: 60 << 10, ..engine };
    assert!(fp8.check(&greedy).unwrap_err().to_string().contains("kv_memory_mib"));
}
