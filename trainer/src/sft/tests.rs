//! Loss and gradient of a step against transformers and torch, recorded in
//! `tests/golden/gradients.json` by `make_gradients.py`.

use std::path::Path;

use tch::{Device, Kind};

use super::{SftConfig, SftExample, SftTrainer};
use crate::golden::golden;
use crate::tiny::alone;

#[test]
fn sft_step_has_the_loss_and_gradient_norm_of_transformers_for_every_family() {
    let golden = golden("gradients.json");
    for (name, golden) in golden["models"].as_object().unwrap() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models");
        let files = joust_engine::folder::open(&models.join(name)).unwrap();
        let model = files.decoder(Device::Cpu, Kind::Float).unwrap();
        let rows: Vec<Vec<u32>> = serde_json::from_value(golden["rows"].clone()).unwrap();
        let example = |row: &Vec<u32>| SftExample::of_completion(row[..1].to_vec(), &row[1..]);
        let examples: Vec<SftExample> = rows.iter().map(example).collect();
        let mut trainer = SftTrainer::new(model, &SftConfig::default(), 1000, alone()).unwrap();
        let metrics = trainer.step(&examples, 0).unwrap();
        for key in ["loss", "grad_norm"] {
            let (seen, wanted) = (metrics[key], golden[key].as_f64().unwrap());
            assert!((seen - wanted).abs() < 1e-5 * wanted, "{name}: {key} {seen}, wanted {wanted}");
        }
    }
}

#[test]
fn sft_step_learns_marked_tokens_alone_and_evaluate_gives_its_numbers() {
    let tiny = |max_length: usize| {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models");
        let files = joust_engine::folder::open(&models.join("tiny-qwen3")).unwrap();
        let model = files.decoder(Device::Cpu, Kind::Float).unwrap();
        let config = SftConfig { max_length, ..SftConfig::default() };
        SftTrainer::new(model, &config, 1000, alone()).unwrap()
    };
    let tokens: Vec<u32> = (10..22).collect();
    let marked = |learned: &[usize]| SftExample {
        tokens: tokens.clone(),
        is_learned: (0..tokens.len()).map(|at| learned.contains(&at)).collect(),
    };
    let loss = |examples: &[SftExample]| tiny(64).evaluate(examples).unwrap()["eval/loss"];
    // two turns of one chat cost what each of them costs behind the same beginning
    let both = loss(&[marked(&[3, 4, 8, 9, 10])]);
    let first = loss(&[SftExample::of_completion(tokens[..3].to_vec(), &tokens[3..5])]);
    let second = loss(&[SftExample::of_completion(tokens[..8].to_vec(), &tokens[8..11])]);
    assert!((both - (2.0 * first + 3.0 * second) / 5.0).abs() < 1e-5, "{both} {first} {second}");
    // a first token that is learned, no learned token, too many tokens
    let all = [marked(&[3, 4, 8]), marked(&[0, 3]), marked(&[])];
    let mut trainer = tiny(64);
    let evaluated = trainer.evaluate(&all).unwrap();
    let step = trainer.step(&all, 0).unwrap();
    assert_eq!(tiny(64).step(&all, 0).unwrap(), step);
    assert_eq!((evaluated["eval/skipped_examples"], step["skipped_examples"]), (2.0, 2.0));
    for name in ["loss", "mean_token_accuracy", "entropy"] {
        assert!((evaluated[&format!("eval/{name}")] - step[name]).abs() < 1e-6, "{name}");
    }
    assert!(tiny(11).evaluate(&all).unwrap().is_empty() && tiny(12).fits(&all[0]));
}
