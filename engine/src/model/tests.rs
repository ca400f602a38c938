//! The decoder against itself: round trips and gradients.

use joust_schema::seed::Seed;
use tch::{Device, Kind, Tensor};

use super::Decoder;
use crate::config::{Family, Kept, ModelConfig};

fn tiny() -> ModelConfig {
    ModelConfig {
        family: Family::Qwen2,
        vocab_size: 40,
        hidden_size: 32,
        intermediate_size: 48,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        max_position: 64,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        attention_bias: true,
        bos_token_id: None,
        eos_token_ids: vec![0],
        torch_dtype: None,
        kept: Kept::default(),
    }
}

#[test]
fn weights_survive_fusing_and_splitting() {
    let model = Decoder::random(&tiny(), Seed(1), Device::Cpu, Kind::Float);
    let weights = model.to_weights(Kind::Float);
    let again = Decoder::from_weights(&tiny(), &weights, Device::Cpu, Kind::Float).unwrap();
    for ((name, a), (_, b)) in model.named_parameters().iter().zip(again.named_parameters()) {
        assert!(a.equal(&b), "{name}");
    }
    assert!(weights.contains_key("model.layers.1.self_attn.k_proj.bias"));
}

#[test]
fn gradients_reach_every_parameter_and_match_finite_differences() {
    let model = Decoder::random(&tiny(), Seed(2), Device::Cpu, Kind::Double);
    model.set_requires_grad(true);
    let ids = Tensor::from_slice(&[1i64, 5, 7, 3, 2, 9]).view([2, 3]);
    let loss =
        |model: &Decoder| model.hidden(&ids, Kind::Double).unwrap().square().sum(Kind::Double);
    loss(&model).backward();
    let (_guard, step) = (tch::no_grad_guard(), 1e-5);
    for (name, parameter) in model.named_parameters() {
        let grad = parameter.grad();
        assert!(grad.defined(), "{name}");
        let mut flat = parameter.view([-1]);
        let idx = flat.size()[0] / 2;
        let at = |delta: f64, flat: &mut Tensor| {
            let _ = flat.get(idx).g_add_scalar_(delta);
            loss(&model).double_value(&[])
        };
        let up = at(step, &mut flat);
        let down = at(-2.0 * step, &mut flat);
        at(step, &mut flat);
        let numeric = (up - down) / (2.0 * step);
        let exact = grad.view([-1]).double_value(&[idx]);
        assert!((numeric - exact).abs() < 1e-5 * (1.0 + exact.abs()), "{name}: {numeric} {exact}");
    }
}

#[test]
fn publishing_refuses_another_architecture() {
    let model = Decoder::random(&tiny(), Seed(1), Device::Cpu, Kind::Float);
    let other_config = ModelConfig { hidden_size: 16, ..tiny() };
    let other = Decoder::random(&other_config, Seed(1), Device::Cpu, Kind::Float);
    assert!(model.copy_from(&other).unwrap_err().to_string().contains("embed_tokens"));
    let other = Decoder::random(&tiny(), Seed(9), Device::Cpu, Kind::Float);
    model.copy_from(&other).unwrap();
    assert!(model.named_parameters()[0].1.equal(&other.named_parameters()[0].1));
}
