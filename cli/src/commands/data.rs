//! `joust data`: questions, worked answers or judge pairs of the built-in task, as JSON Lines.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use joust_data::{Op, Split, TaskConfig};
use joust_schema::prompt::{Message, Prompt};
use joust_schema::seed::Seed;
use serde::Serialize;

use crate::failure::UserError;
use crate::output;

/// Arguments of `joust data`.
#[derive(Args)]
pub(crate) struct DataArgs {
    /// Kind of lines to write.
    #[arg(value_enum)]
    kind: DataKind,
    /// Number of lines.
    #[arg(long, default_value_t = 1000)]
    n: u64,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Problems for training, or the held-out ones.
    #[arg(long, value_enum, default_value_t = SplitArg::Train)]
    split: SplitArg,
    /// Only problems whose numbers both have this many digits, 1 to 3.
    #[arg(long)]
    digits: Option<u32>,
    /// Only problems with this operation.
    #[arg(long, value_enum)]
    op: Option<OpArg>,
    /// Words every question like `What is 12 + 30?`.
    #[arg(long)]
    plain: bool,
    /// Share of `pairs` with free wording, in [0, 1].
    #[arg(long, default_value_t = 0.0)]
    wild: f64,
    /// Share of misleading working among the wrong answers of `pairs`, in [0, 1].
    #[arg(long, default_value_t = 0.0)]
    misleading: f64,
    /// Writes the prompts of `questions` as chat messages.
    #[arg(long)]
    chat: bool,
    /// Number of example turns before each chat.
    #[arg(long, default_value_t = 0, requires = "chat")]
    shots: u64,
    /// File for the JSON lines; standard output if left out.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum DataKind {
    /// `prompt` and `answer`.
    Questions,
    /// `prompt`, `completion` and `answer`: worked answers that forget carries.
    Answers,
    /// `prompt`, `completion_a`, `completion_b` and `winner`: pairs with one correct answer.
    Pairs,
}

#[derive(Clone, Copy, ValueEnum)]
enum SplitArg {
    Train,
    Eval,
}

#[derive(Clone, Copy, ValueEnum)]
enum OpArg {
    Add,
    Sub,
    Mul,
}

#[derive(Serialize)]
struct QuestionLine {
    prompt: Prompt,
    answer: String,
}

#[derive(Serialize)]
struct JudgePairLine {
    prompt: String,
    completion_a: String,
    completion_b: String,
    winner: char,
}

pub(crate) fn run(args: DataArgs) -> anyhow::Result<()> {
    let split = match args.split {
        SplitArg::Train => Split::Train,
        SplitArg::Eval => Split::Eval,
    };
    let op = args.op.map(|op| match op {
        OpArg::Add => Op::Add,
        OpArg::Sub => Op::Sub,
        OpArg::Mul => Op::Mul,
    });
    let DataArgs { digits, plain, wild, misleading, .. } = args;
    let config = TaskConfig { split, digits, op, plain, wild, misleading, ..TaskConfig::default() };
    if let Some(problem) = config.validate().into_iter().next() {
        return Err(UserError::new(format!("--{problem}")).into());
    }
    let seed = Seed::new(args.seed);
    let output = args.output.as_deref();
    match args.kind {
        DataKind::Questions => output::json_lines(output, &questions(&args, &config, seed)),
        DataKind::Answers => {
            let rows = (0..args.n).map(|idx| joust_data::policy_example(&config, seed, idx));
            output::json_lines(output, &rows.collect::<Vec<_>>())
        }
        DataKind::Pairs => {
            let pairs = (0..).map(|idx| joust_data::judge_pair(&config, seed, idx));
            let decided = pairs.filter(|pair| pair.first_right != pair.second_right);
            let rows = decided.take(args.n as usize).map(|pair| JudgePairLine {
                prompt: pair.question,
                completion_a: pair.answer_first,
                completion_b: pair.answer_second,
                winner: if pair.first_right { 'a' } else { 'b' },
            });
            output::json_lines(output, &rows.collect::<Vec<_>>())
        }
    }
}

fn questions(args: &DataArgs, config: &TaskConfig, seed: Seed) -> Vec<QuestionLine> {
    let turns = (0..args.shots).flat_map(|idx| {
        let (question, answer) = joust_data::shot(config, Seed::new(0), idx);
        [Message::new("user", question), Message::new("assistant", answer)]
    });
    let turns: Vec<Message> = turns.collect();
    let prompt = |question: String| match args.chat {
        true => {
            let mut messages = turns.clone();
            messages.push(Message::new("user", question));
            Prompt::Messages(messages)
        }
        false => Prompt::Text(question),
    };
    let drawn = (0..args.n).map(|idx| joust_data::question(config, seed, idx));
    drawn.map(|(question, answer)| QuestionLine { prompt: prompt(question), answer }).collect()
}
