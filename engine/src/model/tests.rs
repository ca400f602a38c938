//! The decoder against itself: round trips, gradients, FP8 against plain matrices. Its gradients
//! also against torch's, recorded in `tests/golden/gradients.json` by `make_gradients.py`.

use joust_schema::seed::Seed;
use tch::{Device, Kind, Tensor};

use super::{Bucket, Decoder, KeptActivations, Linear, Precision, TokenTree};
use crate::config::ModelConfig;
use crate::config::examples::{tiny, tiny_qwen3};
use crate::error::Error;
use crate::folder;
use crate::golden;

/// A random model whose norms differ from 1 and from dimension to dimension.
pub(crate) fn with_uneven_norms(config: &ModelConfig, seed: u64, kind: Kind) -> Decoder {
    let model = Decoder::random(config, Seed(seed), Device::Cpu, kind);
    let _guard = tch::no_grad_guard();
    for (at, (name, mut weight)) in model.named_parameters().into_iter().enumerate() {
        if name.ends_with("norm.weight") {
            let steps = Tensor::arange(weight.size()[0], (Kind::Double, Device::Cpu));
            weight.copy_(&((steps + at as i64).sin() * 0.4 + 1.0));
        }
    }
    model
}

#[test]
fn decoder_to_weights_and_from_weights_are_inverse() {
    let of_family = [
        (tiny(), "model.layers.1.self_attn.k_proj.bias"),
        (tiny_qwen3(), "model.layers.1.self_attn.k_norm.weight"),
    ];
    for (config, of_its_own) in of_family {
        let model = with_uneven_norms(&config, 1, Kind::Float);
        let weights = model.to_weights(Kind::Float);
        assert!(weights.contains_key(of_its_own));
        let checkpoint = weights.into();
        let again = Decoder::from_weights(&config, &checkpoint, Device::Cpu, Kind::Float).unwrap();
        let parameters = model.named_parameters();
        assert_eq!(parameters.len(), again.named_parameters().len());
        for ((name, a), (_, b)) in parameters.iter().zip(again.named_parameters()) {
            assert!(a.equal(&b), "{name}");
        }
    }
}

/// Gradients by name.
type Gradients = Vec<(String, Tensor)>;

fn gradients(model: &Decoder) -> Gradients {
    let named = model.named_parameters().into_iter();
    named.map(|(name, tensor)| (name, tensor.grad())).collect()
}

/// A model of the same shape whose parameters are zeros.
fn sums_of(model: &Decoder) -> Decoder {
    let buckets = model.buckets(1);
    let flats = buckets.iter().map(|it| it.zeros(model.kind(), Device::Cpu).unwrap());
    model.on_buckets(&buckets, &flats.collect::<Vec<_>>())
}

/// Trees of different shapes, and all their sequences.
fn trees() -> (Vec<TokenTree>, Vec<Vec<i64>>) {
    let tree = |prefix: &[i64], branches: &[&[i64]]| TokenTree {
        prefix: prefix.to_vec(),
        branches: branches.iter().map(|branch| branch.to_vec()).collect(),
    };
    let trees = vec![
        tree(&[3, 5, 8], &[&[2], &[7, 4, 9, 6, 1], &[7, 4, 3]]),
        tree(&[], &[&[1, 2, 3, 4]]),
        tree(&[9, 9, 4], &[&[5, 6], &[6, 5]]),
        tree(&[4], &[&[5, 6, 7, 8, 1, 2, 3, 9], &[2], &[1]]),
    ];
    let sequences = |tree: &TokenTree| {
        let whole = |branch: &Vec<i64>| [&tree.prefix[..], branch].concat();
        tree.branches.iter().map(whole).collect::<Vec<_>>()
    };
    let all = trees.iter().flat_map(sequences).collect();
    (trees, all)
}

/// Hidden states of the last two tokens of each sequence, and the gradients of Σ sin(hidden), by
/// autograd through each sequence alone.
fn by_autograd(model: &Decoder, sequences: &[Vec<i64>]) -> (Tensor, Gradients) {
    let last_two = |sequence: &Vec<i64>| {
        let ids = Tensor::from_slice(sequence).unsqueeze(0);
        let hidden = model.hidden(&ids, model.kind()).unwrap().squeeze_dim(0);
        hidden.narrow(0, sequence.len() as i64 - 2, 2)
    };
    let hidden = Tensor::cat(&sequences.iter().map(last_two).collect::<Vec<_>>(), 0);
    hidden.sin().sum(None::<Kind>).backward();
    (hidden.detach(), gradients(model))
}

/// The flat positions of the last two tokens of each sequence of trees.
fn last_two(trees: &[TokenTree]) -> Tensor {
    let (mut wanted, mut start) = (Vec::new(), 0);
    for tree in trees {
        let mut end = start + tree.prefix.len();
        for branch in &tree.branches {
            end += branch.len();
            let before_last = match branch.len() {
                1 => start + tree.prefix.len() - 1,
                _ => end - 2,
            };
            wanted.extend([before_last as i64, end as i64 - 1]);
        }
        start = end;
    }
    Tensor::from_slice(&wanted)
}

#[test]
fn body_of_trees_has_the_hidden_states_and_gradients_of_autograd_through_each_sequence() {
    for config in [tiny(), tiny_qwen3()] {
        for (kind, most) in [(Kind::Float, 1e-5), (Kind::Double, 1e-12)] {
            let model = || {
                let model = with_uneven_norms(&config, 1, kind);
                model.set_requires_grad(true);
                model
            };
            let (trees, sequences) = trees();
            let (hidden, gradients_by_autograd) = by_autograd(&model(), &sequences);
            let mut of_products = None;
            for kept in [KeptActivations::Products, KeptActivations::LayerInputs] {
                let model = model();
                let body = model.body(&trees, &last_two(&trees), kind, kept).unwrap();
                let distance = (body.hidden() - &hidden).abs().max().double_value(&[]);
                assert!(distance < most, "{distance}");
                let gradient = body.hidden().cos();
                let sums = sums_of(&model);
                body.backward(&gradient, &sums).unwrap();
                // a second micro-batch, whose gradients are added
                let body = model.body(&trees, &last_two(&trees), kind, kept).unwrap();
                body.backward(&gradient, &sums).unwrap();
                let seen = sums.named_parameters();
                for ((name, a), (_, b)) in seen.iter().zip(&gradients_by_autograd) {
                    if name.starts_with("lm_head") {
                        assert_eq!(a.abs().max().double_value(&[]), 0.0);
                        continue;
                    }
                    let largest = b.abs().max().double_value(&[]);
                    let distance = (a / 2.0 - b).abs().max().double_value(&[]);
                    assert!(
                        largest > 0.0 && distance < most * largest.max(1.0),
                        "{name}: {distance}"
                    );
                }
                let before = of_products.get_or_insert_with(|| sums.named_parameters());
                for ((name, a), (_, b)) in seen.iter().zip(before) {
                    assert!(a.equal(b), "{name}");
                }
            }
        }
    }
}

#[test]
fn decoder_gradients_are_those_of_transformers() {
    let golden = golden::read("gradients.json");
    for (name, golden) in golden["models"].as_object().unwrap() {
        let files = folder::open(&golden::path("models").join(name)).unwrap();
        let model = files.decoder(Device::Cpu, Kind::Float).unwrap();
        model.set_requires_grad(true);
        let number = |value: &serde_json::Value| value.as_f64().unwrap();
        let mut losses = Vec::new();
        for row in golden["rows"].as_array().unwrap() {
            let ids: Vec<i64> = golden::ids(row).into_iter().map(i64::from).collect();
            let ids = Tensor::from_slice(&ids).unsqueeze(0);
            let n = ids.size()[1];
            let hidden = model.hidden(&ids.narrow(1, 0, n - 1), Kind::Float).unwrap();
            let logits = model.logits(&hidden.squeeze_dim(0)).unwrap(); // [n - 1, V]
            let logprobs = logits.log_softmax(-1, Kind::Float);
            let targets = ids.narrow(1, 1, n - 1).view([-1, 1]);
            losses.push(-logprobs.gather(1, &targets, false).sum(Kind::Float));
        }
        let n_targets = number(&golden["n_targets"]);
        let loss = losses.into_iter().reduce(|a, b| a + b).unwrap() / n_targets;
        let (seen, wanted) = (loss.double_value(&[]), number(&golden["loss"]));
        assert!((seen - wanted).abs() < 1e-5 * wanted, "{name}: loss {seen}, wanted {wanted}");
        loss.backward();
        let parameters = model.named_parameters();
        let wanted = golden["gradient_norms"].as_object().unwrap();
        assert_eq!(parameters.len(), wanted.len());
        for (parameter, tensor) in parameters {
            let seen = tensor.grad().norm().double_value(&[]);
            let wanted = number(&wanted[&parameter]);
            let off = (seen - wanted).abs();
            assert!(off < 1e-5 * wanted, "{name} {parameter}: {seen}, wanted {wanted}");
        }
    }
}

#[test]
fn decoder_gradients_match_finite_differences_for_every_parameter() {
    for config in [tiny(), ModelConfig { tie_word_embeddings: true, ..tiny_qwen3() }] {
        check_gradients(&config);
    }
}

fn check_gradients(config: &ModelConfig) {
    let model = with_uneven_norms(config, 2, Kind::Double);
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
fn copy_from_refuses_another_architecture() {
    let model = Decoder::random(&tiny(), Seed(1), Device::Cpu, Kind::Float);
    let other_config = ModelConfig { hidden_size: 16, ..tiny() };
    let other = Decoder::random(&other_config, Seed(1), Device::Cpu, Kind::Float);
    assert!(model.copy_from(&other).unwrap_err().to_string().contains("embed_tokens"));
    let other = Decoder::random(&tiny(), Seed(9), Device::Cpu, Kind::Float);
    model.copy_from(&other).unwrap();
    assert!(model.named_parameters()[0].1.equal(&other.named_parameters()[0].1));
}

/// Logits of six tokens.
fn logits(model: &Decoder) -> Tensor {
    let ids = Tensor::from_slice(&[1i64, 5, 7, 3, 2, 9]).view([1, 6]);
    let _guard = tch::no_grad_guard();
    model.logits(&model.hidden(&ids, Kind::Float).unwrap().view([6, 32])).unwrap()
}

/// Norm of the difference relative to that of `b`.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).norm() / b.norm()).double_value(&[])
}

const FP8: Precision = Precision { kind: Kind::Float, fp8_layers: true, fp8_head: false };

#[test]
fn fp8_model_gives_the_plain_models_logits_within_its_rounding() {
    let model = Decoder::random(&tiny(), Seed(4), Device::Cpu, Kind::Float);
    let fp8 = model.duplicate(Device::Cpu, FP8).unwrap();
    assert!(fp8.is_quantized() && !model.is_quantized());
    let off = distance(&logits(&fp8), &logits(&model));
    assert!((1e-4..0.1).contains(&off), "{off}");
    // the layers' matrices take one byte per value and four per row
    let of_layers = |model: &Decoder| -> usize {
        let of_layers = |(name, tensor): (String, Tensor)| {
            let bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
            (name.contains("_proj") && !name.ends_with("bias")).then_some(bytes)
        };
        model.named_parameters().into_iter().filter_map(of_layers).sum()
    };
    let n_rows = 2 * (64 + 32 + 96 + 32);
    assert_eq!(of_layers(&fp8), of_layers(&model) / 4 + 4 * n_rows);
}

#[test]
fn copy_from_quantises_published_weights_into_an_fp8_model() {
    let model = Decoder::random(&tiny(), Seed(4), Device::Cpu, Kind::Float);
    let fp8 = model.duplicate(Device::Cpu, FP8).unwrap();
    let other = Decoder::random(&tiny(), Seed(5), Device::Cpu, Kind::Float);
    fp8.copy_from(&other).unwrap();
    let fresh = other.duplicate(Device::Cpu, FP8).unwrap();
    assert!(logits(&fp8).equal(&logits(&fresh)));
}

#[test]
fn fp8_model_is_restored_from_its_own_dequantised_checkpoint() {
    let model = Decoder::random(&tiny(), Seed(5), Device::Cpu, Kind::Float);
    let fp8 = model.duplicate(Device::Cpu, FP8).unwrap();
    let again =
        Decoder::from_weights(&tiny(), &fp8.to_weights(Kind::Float).into(), Device::Cpu, FP8);
    assert!(distance(&logits(&again.unwrap()), &logits(&fp8)) < 1e-5);
}

#[test]
fn decoder_head_is_fp8_only_with_fp8_head() {
    let model = Decoder::random(&tiny(), Seed(4), Device::Cpu, Kind::Float);
    let with_head = model.duplicate(Device::Cpu, Precision { fp8_head: true, ..FP8 }).unwrap();
    let heads = |model: &Decoder| {
        let named = model.named_parameters();
        named.iter().filter(|(name, _)| name == "lm_head.weight").map(|(_, t)| t.kind()).collect()
    };
    let (none, one): (Vec<Kind>, Vec<Kind>) =
        (heads(&model.duplicate(Device::Cpu, FP8).unwrap()), heads(&with_head));
    assert_eq!((none, one), (vec![], vec![Kind::Float8e4m3fn]));
    assert!(!with_head.to_weights(Kind::Float).contains_key("lm_head.weight"));
}

#[test]
fn scaled_product_scales_afterwards_where_scales_per_row_are_refused() {
    // libtorch's FP8 product on a CPU takes only one scale per matrix
    let drawn = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    tch::manual_seed(5);
    let quantized = crate::fp8::quantize("w", &(drawn(&[48, 32]) * 0.1)).unwrap();
    let linear = Linear {
        weight: quantized.values,
        scale: Some(quantized.scale),
        bias: Some(drawn(&[48]).to_kind(Kind::BFloat16)),
        adapters: None,
    };
    let x = crate::fp8::quantize_tokens(&drawn(&[5, 32])).unwrap();
    let products = [true, false].map(|is_scaled| {
        let out = Tensor::zeros([5, 48], (Kind::BFloat16, Device::Cpu));
        let scale = x.scale.view([-1]);
        match is_scaled {
            true => linear.scaled_product(&x.values, &x.scale, &out).unwrap(),
            false => linear.quantized_product(&x.values, &scale, &out).unwrap(),
        }
        out.to_kind(Kind::Float)
    });
    let off = (&products[0] - &products[1]).abs().max().double_value(&[]);
    // one more rounding to bf16, before the scales are applied
    assert!(off < products[1].abs().max().double_value(&[]) / 100.0, "{off}");
}

#[test]
fn a_model_of_zeros_takes_parameters_in_portions_as_a_duplicate_takes_all() {
    let model = with_uneven_norms(&tiny(), 3, Kind::Float);
    for precision in [Kind::BFloat16.into(), FP8] {
        let wanted = model.duplicate(Device::Cpu, precision).unwrap();
        let copy = Decoder::zeros(model.config(), Device::Cpu, precision).unwrap();
        for portion in model.named_parameters().chunks(3) {
            copy.copy_parameters(portion).unwrap();
        }
        assert_eq!(copy.precision(), wanted.precision());
        let pairs = copy.named_parameters().into_iter().zip(wanted.named_parameters());
        for ((name, a), (_, b)) in pairs {
            assert!(a.to_kind(Kind::Float).equal(&b.to_kind(Kind::Float)), "{name}");
        }
        let one = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        let other = [("model.norm.weight".to_owned(), one)];
        assert!(matches!(copy.copy_parameters(&other), Err(Error::Shape { .. })));
    }
}

#[test]
fn buckets_hold_the_trained_parameters_of_a_model_and_of_those_that_share_its_memory() {
    let _guard = tch::no_grad_guard();
    let model = with_uneven_norms(&tiny_qwen3(), 5, Kind::Float);
    let n_parameters = model.n_parameters();
    let (shared, before) = (model.shared(), model.duplicate(Device::Cpu, Kind::Float).unwrap());
    let buckets = model.buckets(16);
    assert_eq!(buckets.len(), model.config().n_layers + 2);
    assert_eq!(buckets[1].pieces[0].name, "model.layers.0.input_layernorm.weight");
    let mut flats = Vec::new();
    let mut take = |bucket: &Bucket, parameters: &[(String, Tensor)]| {
        flats.push(bucket.filled(parameters, Kind::Float)?);
        Ok(())
    };
    assert_eq!(model.drain_buckets(16, &mut take).unwrap(), buckets);
    assert_eq!((shared.n_parameters(), shared.device()), (0, Device::Cpu));
    model.put_on_buckets(&buckets, &flats);
    assert!(flats.iter().all(|flat| flat.numel() % 16 == 0));
    assert!(flats.iter().map(Tensor::numel).sum::<usize>() < n_parameters + 16 * buckets.len());
    for model in [&model, &shared] {
        for ((name, a), (_, b)) in model.named_parameters().iter().zip(before.named_parameters()) {
            assert!(a.equal(&b), "{name}");
        }
    }
    // a change of a bucket is one of both models
    let _ = flats[1].shallow_clone().g_add_scalar_(1.0);
    for model in [&model, &shared] {
        let changed: Vec<bool> = model
            .named_parameters()
            .iter()
            .zip(before.named_parameters())
            .map(|((_, a), (_, b))| a.equal(&(b + 1.0)))
            .collect();
        let of_layer = |name: &str| name.starts_with("model.layers.0.");
        let wanted = before.named_parameters().into_iter().map(|(name, _)| of_layer(&name));
        assert_eq!(changed, wanted.collect::<Vec<_>>());
    }
    // the same shape in another number format
    let rounded: Vec<Tensor> = flats.iter().map(|flat| flat.to_kind(Kind::BFloat16)).collect();
    let rounded = model.on_buckets(&buckets, &rounded);
    assert_eq!((rounded.kind(), model.kind()), (Kind::BFloat16, Kind::Float));
    assert_eq!(rounded.n_bytes() * 2, model.n_bytes());
}
