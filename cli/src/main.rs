//! joust: groupwise rewards from a reasoning judge, and GRPO on top of them.
//!
//! The binary is a shell over `joust-run` and `joust-server`, one file per command; it has no
//! tensors and no mathematics.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod console;
mod failure;
mod output;
mod process;
mod score_config;
mod signals;
mod summary;
mod time_left;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "joust", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Trains a policy by GRPO on rewards from tournaments or rules.
    Train(commands::train::TrainArgs),
    /// Fine-tunes a model on prompts with given completions.
    Sft(commands::sft::SftArgs),
    /// Makes preferred completions more probable and rejected ones less (DPO, IPO and others).
    Dpo(commands::dpo::DpoArgs),
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
    /// Shows dumps, and turns them into DPO pairs or best-of-n data.
    Dump(commands::dump::DumpArgs),
    /// Writes questions, answers or judge pairs of a built-in task.
    Data(commands::data::DataArgs),
    /// Measures the speed of the parts, one JSON line each.
    #[command(subcommand)]
    Bench(commands::bench::BenchCommand),
    /// Reports libtorch, devices, number formats and threads.
    Doctor(commands::doctor::DoctorArgs),
    /// Regenerates the reference pages under docs/ from the code.
    Docs(commands::docs::DocsArgs),
}

fn main() -> ExitCode {
    process::restart_with_settings();
    process::confine_signal_handlers();
    process::start_logs();
    match arguments::of_process() {
        Ok(args) => run(Cli::parse_from(args).command),
        Err(error) => end(&error.into()),
    }
}

fn run(command: CliCommand) -> ExitCode {
    let result = match command {
        CliCommand::Train(args) => commands::train::run(args),
        CliCommand::Sft(args) => commands::sft::run(args),
        CliCommand::Dpo(args) => commands::dpo::run(args),
        CliCommand::Serve(args) => commands::serve::run(args),
        CliCommand::Score(args) => commands::score::run(args),
        CliCommand::Judge(args) => commands::judge::run(args),
        CliCommand::Rate(args) => commands::rate::run(args),
        CliCommand::Generate(args) => commands::generate::run(args),
        CliCommand::Logprobs(args) => commands::logprobs::run(args),
        CliCommand::Quantize(args) => commands::quantize::run(args),
        CliCommand::Dump(args) => commands::dump::run(args),
        CliCommand::Data(args) => commands::data::run(args),
        CliCommand::Bench(command) => commands::bench::run(command),
        CliCommand::Doctor(args) => commands::doctor::run(args),
        CliCommand::Docs(args) => commands::docs::run(args),
    };
    match result.and_then(|()| output::check()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&error),
    }
}

/// Tells how a command has ended, unless it has ended well.
fn end(error: &anyhow::Error) -> ExitCode {
    let last_words = failure::last_words(error);
    // another process of the run has them
    if !last_words.is_empty() {
        output::note(last_words);
    }
    failure::exit_code(error)
}
