//! Rules between the keys of a judge.

use super::*;

#[test]
fn engine_judge_refuses_a_limit_of_its_queue() {
    let engine = EngineConfig { max_queue: 3, ..EngineConfig::default() };
    let kind = JudgeKind::Engine(EngineJudgeConfig { model: "judge".into(), engine });
    let judge = JudgeConfig { kind, ..JudgeConfig::default() };
    let problems = judge.contradictions();
    assert!(problems[0].starts_with("engine.max_queue is 3, wanted 0"), "{problems:?}");
    assert!(JudgeConfig::default().contradictions().is_empty());
}
