//! Loss and gradient of a step against transformers and torch, recorded in
//! `tests/golden/gradients.json` by `make_gradients.py`.

use std::path::Path;

use tch::{Device, Kind};

use super::{SftConfig, SftExample, SftTrainer};
use crate::golden::golden;

#[test]
fn sft_step_has_the_loss_and_gradient_norm_of_transformers_for_every_family() {
    let golden = golden("gradients.json");
    for (name, golden) in golden["models"].as_object().unwrap() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models");
        let files = joust_engine::folder::open(&models.join(name)).unwrap();
        let model = files.decoder(Device::Cpu, Kind::Float).unwrap();
        let rows: Vec<Vec<u32>> = serde_json::from_value(golden["rows"].clone()).unwrap();
        let example = |row: &Vec<u32>| SftExample {
            prompt: row[..1].to_vec(),
            completion: row[1..].to_vec(),
        };
        let examples: Vec<SftExample> = rows.iter().map(example).collect();
        let mut trainer = SftTrainer::new(model, &SftConfig::default()).unwrap();
        let metrics = trainer.step(&examples, 0).unwrap();
        for key in ["loss", "grad_norm"] {
            let (seen, wanted) = (metrics[key], golden[key].as_f64().unwrap());
            assert!((seen - wanted).abs() < 1e-5 * wanted, "{name}: {key} {seen}, wanted {wanted}");
        }
    }
}
