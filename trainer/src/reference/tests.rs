//! A reference that moves towards the policy, and what a training state keeps of it.

use tch::{Kind, Tensor};

use super::*;
use crate::tiny::tiny_model;

/// A model whose parameters are `scale` times those of the tiny one.
fn model(scale: f64, kind: Kind) -> Decoder {
    let model = tiny_model(kind, false);
    for (_, mut parameter) in model.named_parameters() {
        let scaled = &parameter * scale;
        parameter.copy_(&scaled);
    }
    model
}

fn values(model: &Decoder) -> Vec<Tensor> {
    model.named_parameters().into_iter().map(|(_, tensor)| tensor).collect()
}

fn numbers(model: &Decoder) -> Vec<Tensor> {
    let parameters = model.named_parameters().into_iter();
    parameters.map(|(_, tensor)| tensor.to_kind(Kind::Double).copy()).collect()
}

fn frozen(scale: f64, kind: Kind) -> FrozenModel {
    FrozenModel::whole(model(scale, kind).into(), kind).unwrap()
}

#[test]
fn refresh_mixes_in_the_policy_every_few_steps() {
    let alpha = 0.6;
    for (kind, tolerance) in [(Kind::Double, 1e-15), (Kind::Float, 1e-6), (Kind::BFloat16, 4e-3)] {
        let policy = model(1.0, Kind::Float);
        let (before, theirs) = (numbers(&model(-2.0, kind)), numbers(&policy));
        let sync = SyncRefModel { every: 3, mixup_alpha: alpha };
        let reference = Reference::new(frozen(-2.0, kind), Some(sync));
        for n_steps in [0, 1, 2, 4, 5] {
            reference.refresh(|| Ok(values(&policy)), n_steps).unwrap();
        }
        assert!(numbers(&reference.model.model) == before);
        reference.refresh(|| Ok(values(&policy)), 3).unwrap();
        for ((before, theirs), seen) in
            before.iter().zip(theirs).zip(numbers(&reference.model.model))
        {
            let wanted = before * (1.0 - alpha) + theirs * alpha;
            let gap = (seen - wanted).abs().max().double_value(&[]);
            assert!(gap < tolerance, "{kind:?}: {gap}");
        }
        let fixed = Reference::new(frozen(-2.0, kind), None);
        fixed.refresh(|| Ok(values(&policy)), 3).unwrap();
        assert!(numbers(&fixed.model.model) == before);
    }
}

#[test]
fn restore_brings_a_saved_reference_back_and_refuses_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reference.safetensors");
    let sync = Some(SyncRefModel::default());
    let saved = model(1.0, Kind::BFloat16);
    save(&saved, &path).unwrap();
    let other = Reference::new(frozen(-2.0, Kind::BFloat16), sync);
    other.restore(&path).unwrap();
    assert!(numbers(&other.model.model) == numbers(&saved));
    weights::write_file(&path, &WeightMap::new()).unwrap();
    let message = other.restore(&path).unwrap_err().to_string();
    assert!(message.contains("`model.embed_tokens.weight` is missing"), "{message}");
}
