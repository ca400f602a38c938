//! A step against transformers with TRL's loss, recorded in `tests/golden/dpo.json` by
//! `make_dpo.py`; and what does not change it.

use std::path::Path;

use joust_engine::Decoder;
use serde_json::Value;
use tch::{Device, Kind};

use super::*;
use crate::golden::golden;
use crate::tiny::alone;

fn model(name: &str) -> Decoder {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models");
    let files = joust_engine::folder::open(&models.join(name)).unwrap();
    files.decoder(Device::Cpu, Kind::Float).unwrap()
}

fn trainer(step: &Value, config: &DpoConfig) -> DpoTrainer {
    let name = |key: &str| step[key].as_str().unwrap();
    DpoTrainer::new(model(name("policy")), model(name("reference")), config, 1000, alone()).unwrap()
}

fn pairs(step: &Value) -> Vec<DpoPair> {
    let pairs = step["pairs"].as_array().unwrap().iter();
    let ids = |value: &Value| serde_json::from_value(value.clone()).unwrap();
    pairs
        .map(|pair| DpoPair {
            prompt: ids(&pair["prompt"]),
            chosen: ids(&pair["chosen"]),
            rejected: ids(&pair["rejected"]),
        })
        .collect()
}

fn config(step: &Value) -> DpoConfig {
    DpoConfig { beta: step["beta"].as_f64().unwrap(), ..DpoConfig::default() }
}

#[test]
fn dpo_step_has_loss_gradient_and_rewards_of_trl_however_it_is_split() {
    let step = &golden("dpo.json")["step"];
    for (rows, tokens) in [(64, 8_192), (2, 8_192), (64, 1), (4, 40)] {
        let mut config = config(step);
        config.learner.micro_batch_rows = rows;
        config.learner.micro_batch_tokens = tokens;
        let metrics = trainer(step, &config).step(&pairs(step), 0).unwrap();
        let mut wanted = vec![("loss", &step["loss"]), ("grad_norm", &step["grad_norm"])];
        let rewards = step["rewards"].as_object().unwrap();
        wanted.extend(rewards.iter().map(|(name, value)| (&name[..], value)));
        for (name, wanted) in wanted {
            let (seen, wanted) = (metrics[name], wanted.as_f64().unwrap());
            let close = (seen - wanted).abs() < 2e-5 * wanted.abs().max(1.0);
            assert!(close, "{rows} rows, {tokens} tokens: {name} {seen}, wanted {wanted}");
        }
        assert_eq!(metrics["step_tokens"], 57.0);
    }
}

#[test]
fn dpo_evaluate_gives_the_numbers_of_a_step_and_changes_nothing_of_the_next_one() {
    let step = &golden("dpo.json")["step"];
    let mut all = pairs(step);
    all.push(DpoPair { rejected: vec![5; 600], ..all[0].clone() });
    for (rows, tokens) in [(64, 8_192), (2, 40)] {
        let mut config = config(step);
        config.learner.micro_batch_rows = rows;
        config.learner.micro_batch_tokens = tokens;
        let mut trained = trainer(step, &config);
        let evaluated = trained.evaluate(&all).unwrap();
        let first = trained.step(&all, 0).unwrap();
        for (name, seen) in &evaluated {
            let wanted = first[name.strip_prefix("eval/").unwrap()];
            assert!((seen - wanted).abs() < 1e-6, "{name} {seen}, the step has {wanted}");
        }
        assert!(evaluated.contains_key("eval/rewards/accuracies"), "{evaluated:?}");
        assert_eq!(evaluated["eval/skipped_examples"], 1.0);
        assert_eq!(trainer(step, &config).step(&all, 0).unwrap(), first);
        assert!(trained.evaluate(&all[all.len() - 1..]).unwrap().is_empty());
    }
}

#[test]
fn dpo_leaves_out_pairs_without_a_preference_and_those_that_are_too_long() {
    let step = &golden("dpo.json")["step"];
    let mut all = pairs(step);
    let plain = trainer(step, &config(step)).step(&all, 0).unwrap();
    let first = all[0].clone();
    let long = DpoPair { rejected: vec![5; 600], ..first.clone() };
    let equal = DpoPair { rejected: first.chosen.clone(), ..first.clone() };
    let empty = DpoPair { chosen: Vec::new(), ..first };
    all.extend([long.clone(), equal.clone(), empty.clone()]);
    let mut trained = trainer(step, &config(step));
    let mut metrics = trained.step(&all, 0).unwrap();
    assert_eq!(metrics.insert("skipped_examples".to_owned(), 0.0), Some(3.0));
    assert_eq!(metrics, plain);
    let metrics = trained.step(&[long, equal, empty], 1).unwrap();
    assert_eq!(metrics["skipped_examples"], 3.0);
    assert!(!metrics.contains_key("loss"));
    assert_eq!(trained.learner.optimizer.n_updates(), 1);
}

#[test]
fn dpo_makes_the_chosen_completions_more_probable_than_the_rejected_ones() {
    let step = &golden("dpo.json")["step"];
    let mut config = config(step);
    config.learner.optim.lr = 1e-3;
    for loss in [PreferenceLoss::Sigmoid, PreferenceLoss::Ipo, PreferenceLoss::SppoHard] {
        config.loss = loss;
        let policy = model(step["policy"].as_str().unwrap());
        let reference = model(step["policy"].as_str().unwrap());
        let mut trainer = DpoTrainer::new(policy, reference, &config, 1000, alone()).unwrap();
        let first = trainer.step(&pairs(step), 0).unwrap();
        // nothing is preferred by a policy that is its reference
        assert_eq!((first["rewards/margins"], first["rewards/accuracies"]), (0.0, 0.0));
        let mut last = first;
        for place in 1..30 {
            last = trainer.step(&pairs(step), place).unwrap();
        }
        assert_eq!(last["rewards/accuracies"], 1.0, "{loss:?}");
    }
}

#[test]
fn dpo_refuses_settings_that_make_no_loss() {
    let refused = |config: DpoConfig| config.validate().join("; ");
    assert_eq!(refused(DpoConfig::default()), "");
    let exo = DpoConfig { loss: PreferenceLoss::ExoPair, ..DpoConfig::default() };
    assert!(refused(exo).contains("label_smoothing is 0"));
    let beta = DpoConfig { beta: 0.0, ..DpoConfig::default() };
    assert!(refused(beta).contains("beta"));
    let smoothing = DpoConfig { label_smoothing: 0.5, ..DpoConfig::default() };
    assert!(refused(smoothing).contains("label_smoothing"));
    let ignored =
        DpoConfig { label_smoothing: 0.1, loss: PreferenceLoss::Hinge, ..DpoConfig::default() };
    assert!(refused(ignored).contains("label_smoothing is above 0"));
    let step = &golden("dpo.json")["step"];
    let (policy, reference) = (model("tiny-qwen3"), model("tiny-llama"));
    let other = DpoTrainer::new(policy, reference, &config(step), 1000, alone()).err().unwrap();
    assert!(other.to_string().contains("the reference has 300 tokens and the model 304"));
}
