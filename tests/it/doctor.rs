//! `joust doctor`: plans of models before they are loaded.

use serde_json::Value;

use crate::binary::{joust, refuse, succeed};

#[test]
fn doctor_plans_a_model_and_refuses_what_the_engine_would_refuse() {
    let plan = |more: &[&str]| {
        let args = ["doctor", "--json", "--model", "bench/gpu/rrm-32b"];
        let args: Vec<&str> = args.iter().chain(more).copied().collect();
        let report: Value = serde_json::from_str(&succeed(&args)).unwrap();
        report["plan"].clone()
    };
    let h100 = ["--gpu-memory-gib", "79", "--quantization", "fp8", "--max-context", "8192"];
    let (bf16, fp8) = (plan(&h100), plan(&[&h100[..], &["--kv-dtype", "fp8"]].concat()));
    assert_eq!(bf16["weight_bytes"], fp8["weight_bytes"]);
    let tokens = |plan: &Value| plan["kv_tokens"].as_u64().unwrap();
    assert!(tokens(&fp8) > 19 * tokens(&bf16) / 10);
    // a longer batch of prompts takes more beside the weights
    let wide = plan(&[&h100[..], &["--step-tokens", "8192"]].concat());
    assert!(tokens(&wide) < tokens(&bf16));
    let small = ["doctor", "--model", "bench/gpu/rrm-32b", "--gpu-memory-gib", "40"];
    let output = joust(&small).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("61.0 GiB") && told.contains("quantization = \"fp8\""), "{told}");
    let gguf = ["doctor", "--json", "--model", "tests/golden/qwen3/tiny-qwen3.gguf"];
    let report: Value = serde_json::from_str(&succeed(&gguf)).unwrap();
    assert!(report["plan"]["weight_bytes"].as_u64().unwrap() > 100_000, "{report}");
    let negative = ["doctor", "--model", "bench/gpu/rrm-32b", "--gpu-memory-gib=-1"];
    assert!(refuse(&negative).contains("--gpu-memory-gib is -1"));
    // what the engine would refuse
    let at = |more: &[&str]| {
        let gpu = ["doctor", "--model", "bench/gpu/rrm-32b", "--gpu-memory-gib", "79"];
        refuse(&[&gpu[..], &["--quantization", "fp8"], more].concat())
    };
    assert!(at(&["--kv-memory-mib", "1"]).contains("two blocks"));
    assert!(at(&["--max-batch", "0"]).contains("max_batch"));
    assert!(at(&["--device", "cpu"]).contains("--gpu-memory-gib"));
}

/// Bytes by what they are for.
type Needs = std::collections::BTreeMap<String, u64>;

#[test]
fn doctor_plans_a_training_run_and_refuses_one_that_does_not_fit() {
    let models = ["policy.path=bench/gpu/rrm-32b", "reward.judge.model=bench/gpu/rrm-32b"];
    let arguments = |more: &[&'static str]| {
        [&["doctor", "--json", "--train", "configs/grpo-h100.toml"], &models[..], more].concat()
    };
    // a run's needs in bytes, by what they are for
    let needs = |more: &[&'static str]| {
        let gpu = [more, &["--gpu-memory-gib", "2000"]].concat();
        let report: Value = serde_json::from_str(&succeed(&arguments(&gpu))).unwrap();
        let plan = report["run"].as_array().unwrap()[0].clone();
        assert_eq!(plan["device"], "cuda");
        let parts = plan["parts"].as_array().unwrap().iter();
        parts
            .map(|part| {
                (part["name"].as_str().unwrap().to_owned(), part["bytes"].as_u64().unwrap())
            })
            .collect::<Needs>()
    };
    let plain = needs(&[]);
    // 16 bytes per parameter
    let of_policy = ["policy: weights", "policy: gradients", "policy: AdamW"];
    let n_parameters = plain["policy: weights"] / 4;
    assert_eq!(of_policy.map(|part| plain[part]).iter().sum::<u64>(), 16 * n_parameters);
    let checkpointed = needs(&["trainer.learner.checkpoint_activations=true"]);
    assert!(10 * checkpointed["training: activations"] < plain["training: activations"]);
    // one of eight processes, with more and more of the model in parts
    let of_eight = |shard| needs(&[shard, "--ranks", "8"]);
    let [one, two, three] = ["zero1", "zero2", "zero3"].map(|shard| match shard {
        "zero1" => of_eight("trainer.learner.shard=zero1"),
        "zero2" => of_eight("trainer.learner.shard=zero2"),
        _ => of_eight("trainer.learner.shard=zero3"),
    });
    let eighth = |of: &Needs, part: &str| of[part].div_ceil(8);
    assert_eq!(one["policy: AdamW"], eighth(&plain, "policy: AdamW"));
    assert_eq!(one["policy: gradients"], plain["policy: gradients"]);
    assert_eq!(two["policy: gradients"], eighth(&plain, "policy: gradients"));
    assert_eq!(two["policy: weights"], one["policy: weights"]);
    assert!(2 * three["policy: weights"] < two["policy: weights"]);
    assert!(two["policy: buffers"] < three["policy: buffers"]);
    assert!(!one.contains_key("policy: buffers"));
    let adapted = needs(&["trainer.learner.lora={ r = 16 }"]);
    assert!(100 * adapted["policy: AdamW"] < plain["policy: AdamW"]);
    assert_eq!(adapted["policy: weights"] / plain["policy: weights"], 0, "bf16");
    // of a judge in a GGUF file, too, the constants are enough
    let gguf = needs(&["reward.judge.model=tests/golden/qwen3/tiny-qwen3.gguf"]);
    assert!(0 < gguf["judge: weights"] && gguf["judge: weights"] < 10 << 20, "{gguf:?}");
    let refused = joust(&arguments(&["--gpu-memory-gib", "79"])).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr);
    let wanted = ["the run needs", "cuda's 79.0 GiB", "policy: AdamW 24", "checkpoint_activations"];
    assert!(wanted.iter().all(|part| told.contains(part)), "{told}");
    assert!(refuse(&["doctor", "--gpu-memory-gib", "79"]).contains("--train"));
}
