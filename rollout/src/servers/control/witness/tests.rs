//! Witnesses of wrong weights, with numbers made up.

use super::*;

const OLD: [f32; 4] = [-1.0, -2.0, -3.0, -4.0];
const NEW: [f32; 4] = [-1.5, -1.0, -3.5, -5.0];

fn shifted(values: &[f32], by: f32) -> Vec<f32> {
    values.iter().enumerate().map(|(i, x)| x + if i % 2 == 0 { by } else { -by }).collect()
}

fn held_with(seen: &[f32], noise: f64) -> Held {
    held(seen, &NEW, &OLD, Allowance { max: 0.05, noise })
}

#[test]
fn numbers_of_new_old_and_torn_weights_are_told_apart() {
    assert_eq!(held_with(&NEW, 0.0), Held::New);
    assert_eq!(held_with(&shifted(&NEW, 0.02), 0.01), Held::New);
    assert!(matches!(held_with(&shifted(&OLD, 0.002), 0.001), Held::Old { .. }));
    let torn = [NEW[0], NEW[1], OLD[2], OLD[3]];
    assert!(matches!(held_with(&torn, 0.001), Held::Neither { .. }));
    assert!(matches!(held_with(&[f32::NAN; 4], 0.001), Held::Neither { .. }));
    assert!(matches!(held_with(&NEW[..3], 0.001), Held::Neither { .. }));
    // what a coarse server differs by is no excuse for more than the config allows
    assert!(matches!(held_with(&shifted(&NEW, 0.06), 0.04), Held::Neither { .. }));
}

#[test]
fn movement_of_a_policy_is_judged_once_it_is_above_the_noise() {
    let seen = |version, trainer: &[f32], server: &[f32]| Seen {
        version,
        trainer: trainer.to_vec(),
        server: server.to_vec(),
    };
    let since = seen(0, &OLD, &shifted(&OLD, 0.01));
    let share = |trainer: &[f32], server: &[f32], noise| {
        share_followed(&since, &seen(1, trainer, server), noise)
    };
    // too small a step for this noise, and large enough for that
    assert_eq!(share(&shifted(&OLD, 0.03), &OLD, 0.01), None);
    let lost = share(&NEW, &shifted(&OLD, -0.01), 0.01).unwrap();
    assert!(is_lost(lost) && lost.abs() < 0.1, "{lost}");
    let followed = share(&NEW, &shifted(&NEW, -0.01), 0.01).unwrap();
    assert!(!is_lost(followed) && (followed - 1.0).abs() < 0.1, "{followed}");
    // no step at all
    assert_eq!(share(&OLD, &OLD, 0.0), None);
}

#[test]
fn texts_are_the_same_in_every_run_and_fit_into_a_small_context() {
    let texts = WitnessTexts::new(512, 4096);
    assert_eq!(texts.text[..3], WitnessTexts::new(512, 4096).text[..3]);
    assert_eq!((texts.text.len(), texts.prompt.len()), (TEXT_TOKENS, PROMPT_TOKENS));
    assert!(texts.text.iter().chain(&texts.prompt).all(|&id| id < 512));
    let small = WitnessTexts::new(512, 64);
    assert!(small.prompt.len() + SAMPLED_TOKENS <= 64 && small.text.len() <= 64);
}
