//! joust: groupwise rewards from a reasoning judge, and GRPO on top of them.
//!
//! The binary is a shell over `joust-run` and `joust-server`, a file per command; it holds no tensors
//! and no mathematics.

#![forbid(unsafe_code)]

mod commands;
mod console;
mod failure;
mod output;
mod process;
mod score_config;
mod summary;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "joust", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trains a policy by GRPO on rewards from tournaments or rules.
    Train(commands::train::TrainArgs),
    /// Fine-tunes a model on prompts with given completions.
    Sft(commands::sft::SftArgs),
    /// Runs the reward server.
    Serve(commands::serve::ServeArgs),
    /// Scores groups of completions and dumps matches, votes and rewards.
    Score(commands::score::ScoreArgs),
    /// Judges pairs of completions.
    Judge(commands::judge::JudgeArgs),
    /// Turns recorded matches into ratings.
    Rate(commands::rate::RateArgs),
    /// Continues prompts with a model.
    Generate(commands::generate::GenerateArgs),
    /// Scores given completions token by token.
    Logprobs(commands::logprobs::LogprobsArgs),
    /// Writes a model folder with its layers' matrices in FP8.
    Quantize(commands::quantize::QuantizeArgs),
    /// Looks into dumps: tables, DPO pairs, best of n.
    Dump(commands::dump::DumpArgs),
    /// Writes questions, answers or judge pairs of a built-in task.
    Data(commands::data::DataArgs),
    /// Measures the parts, one JSON line each.
    #[command(subcommand)]
    Bench(commands::bench::BenchCommand),
    /// Reports libtorch, devices, number formats and threads.
    Doctor(commands::doctor::DoctorArgs),
    /// Regenerates the reference pages under docs/ from the code.
    Docs(commands::docs::DocsArgs),
}

fn main() -> ExitCode {
    process::restart_with_settings();
    process::start_logs();
    let result = match Cli::parse().command {
        Command::Train(args) => commands::train::run(args),
        Command::Sft(args) => commands::sft::run(args),
        Command::Serve(args) => commands::serve::run(args),
        Command::Score(args) => commands::score::run(args),
        Command::Judge(args) => commands::judge::run(args),
        Command::Rate(args) => commands::rate::run(args),
        Command::Generate(args) => commands::generate::run(args),
        Command::Logprobs(args) => commands::logprobs::run(args),
        Command::Quantize(args) => commands::quantize::run(args),
        Command::Dump(args) => commands::dump::run(args),
        Command::Data(args) => commands::data::run(args),
        Command::Bench(command) => commands::bench::run(command),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Docs(args) => commands::docs::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(format!("error: {}", failure::one_line(&error)));
            failure::exit_code(&error)
        }
    }
}
