//! Examples of the task: each is a pure function of seed and index.

use joust_schema::seed::Seed;
use serde::Serialize;

use crate::draw::Draw;
use crate::problem::Split;
use crate::task::TaskConfig;
use crate::working::work;

/// A question with a worked answer, to learn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkedExample {
    /// The question.
    pub prompt: String,
    /// The worked answer, perhaps wrong.
    pub completion: String,
    /// The right number.
    pub answer: String,
}

/// Example `idx` of the stream that `seed` keys: a question, worked with forgotten carries.
pub fn policy_example(config: &TaskConfig, seed: Seed, idx: u64) -> WorkedExample {
    let mut draw = Draw::new(seed.child("policy_example", idx));
    let problem = config.problem(&mut draw);
    let prompt = config.question(&problem, &mut draw);
    let working = work(&problem, &mut |_| draw.chance(config.carry_forgotten));
    WorkedExample { prompt, completion: working.answer(), answer: problem.answer().to_string() }
}

/// Question `idx` of the stream that `seed` keys, with its right number.
pub fn question(config: &TaskConfig, seed: Seed, idx: u64) -> (String, String) {
    let mut draw = Draw::new(seed.child("question", idx));
    let problem = config.problem(&mut draw);
    (config.question(&problem, &mut draw), problem.answer().to_string())
}

/// Shot `idx` for prompts that show by example how to answer: a question of training problems and
/// the answer `12 + 30 = 42`.
pub fn shot(config: &TaskConfig, seed: Seed, idx: u64) -> (String, String) {
    let mut draw = Draw::new(seed.child("shot", idx));
    let problem = TaskConfig { split: Split::Train, ..config.clone() }.problem(&mut draw);
    let question = config.question(&problem, &mut draw);
    (question, format!("{problem} = {}", problem.answer()))
}
