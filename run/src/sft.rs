//! Supervised fine-tuning, from a model or from nothing.
//!
//! The loop of `joust sft`; what happens inside a step is the trainer's.

use std::path::Path;
use std::time::Instant;

use joust_engine::model::Decoder;
use joust_engine::{Tokenizer, folder};
use joust_schema::seed::Seed;
use joust_trainer::{SftExample, SftTrainer, checkpoint};
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::config::sft::{ModelSection, SftRun};
use crate::error::Error;
use crate::examples::ExampleSource;
use crate::export;
use crate::observer::{Event, Observer};
use crate::run_folder::{ExistingRun, RunFolder};

/// What a checkpoint remembers beside weights and optimiser.
#[derive(Serialize, Deserialize)]
struct SftState {
    step: u64,
    num_tokens: f64,
}

/// Runs supervised fine-tuning to its last step.
///
/// # Errors
/// [`Error::Input`] for a config or data that make no sense, the trainer's errors otherwise.
pub fn run(
    config: &SftRun,
    existing: ExistingRun,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    config.validate()?;
    config.run.set_threads();
    export::check(&config.export)?;
    let source = ExampleSource::open(&config.data)?;
    let run = RunFolder::open(&config.run, config, existing)?;
    let seed = Seed::new(config.run.seed);
    let found = match existing {
        ExistingRun::Resume => checkpoint::latest(run.dir())?,
        ExistingRun::Refuse | ExistingRun::Clean => None,
    };
    let (mut trainer, tokenizer, mut state) = match found {
        Some((step, path)) => {
            run.rewind(Some(step))?;
            let (model, tokenizer) = open_model(&path, &config.model)?;
            let mut trainer = SftTrainer::new(model, &config.trainer)?;
            let state: SftState = checkpoint::restore(&mut trainer, &path)?;
            observer.observe(Event::Resumed { step });
            (trainer, tokenizer, state)
        }
        None => {
            run.rewind(None)?;
            let (model, tokenizer) = start(config, &source, seed)?;
            let trainer = SftTrainer::new(model, &config.trainer)?;
            (trainer, tokenizer, SftState { step: 0, num_tokens: 0.0 })
        }
    };
    let n_steps = config.trainer.steps;
    observer.observe(Event::SftReady {
        n_parameters: trainer.model().n_parameters(),
        n_steps,
        run_dir: run.dir(),
    });
    observer.observe(Event::LoopStarted { step: state.step, n_steps });
    while state.step < n_steps {
        let started = Instant::now();
        let batch_size = config.trainer.batch_size as u64;
        let examples = (0..batch_size)
            .map(|idx| encode(&tokenizer, &source, seed, state.step * batch_size + idx))
            .collect::<Result<Vec<_>, Error>>()?;
        let data_seconds = started.elapsed().as_secs_f64();
        let mut metrics = trainer.step(&examples)?;
        state.step += 1;
        state.num_tokens += metrics["step_tokens"];
        let seconds = started.elapsed().as_secs_f64();
        metrics.insert("num_tokens".to_owned(), state.num_tokens);
        metrics.insert("step_time".to_owned(), seconds);
        metrics.insert("data_time".to_owned(), data_seconds);
        metrics.insert("tokens_per_second".to_owned(), metrics["step_tokens"] / seconds);
        run.log(state.step, &metrics)?;
        observer.observe(Event::StepFinished {
            step: state.step,
            n_steps,
            metrics: &metrics,
            eval_accuracy: None,
        });
        let every = config.checkpoint.every as u64;
        if state.step == n_steps || (every > 0 && state.step.is_multiple_of(every)) {
            let keep_last = config.checkpoint.keep_last;
            checkpoint::save(&mut trainer, &tokenizer, run.dir(), state.step, &state, keep_last)?;
        }
    }
    observer.observe(Event::LoopFinished);
    export::write(&config.export, trainer.model(), &tokenizer)
}

/// A model with f32 master weights and its tokenizer.
fn open_model(path: &Path, section: &ModelSection) -> Result<(Decoder, Tokenizer), Error> {
    let files = folder::open(path)?;
    let device = section.device.resolve()?;
    let model = files.decoder(device, Kind::Float)?;
    Ok((model, files.tokenizer))
}

/// The model to begin with: an existing one, or a fresh one with a fresh tokenizer.
fn start(
    config: &SftRun,
    source: &ExampleSource,
    seed: Seed,
) -> Result<(Decoder, Tokenizer), Error> {
    let section = &config.model;
    if let Some(path) = &section.path {
        return open_model(path, section);
    }
    let missing =
        |key: &str| Error::input(format!("key `model.{key}` is missing for a fresh model"));
    let new = section.new.as_ref().ok_or_else(|| missing("new"))?;
    let fresh = section.tokenizer.as_ref().ok_or_else(|| missing("tokenizer"))?;
    let n_examples = fresh.n_examples as u64;
    let seed_of_texts = seed.child("tokenizer", 0);
    // prompts are rendered by the template that the tokenizer will have: a first tokenizer without
    // merges renders them, the second is trained on what it rendered
    let template = joust_engine::tokenizer::train::bpe(std::iter::empty(), &fresh.bpe)?;
    let texts = (0..n_examples)
        .map(|idx| {
            let example = source.example(&template, seed_of_texts, idx)?;
            Ok(example.prompt + &example.completion)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let tokenizer = joust_engine::tokenizer::train::bpe(texts.into_iter(), &fresh.bpe)?;
    let model_config = new.config(&tokenizer);
    let device = section.device.resolve()?;
    let model = Decoder::random(&model_config, seed.child("model", 0), device, Kind::Float);
    Ok((model, tokenizer))
}

fn encode(
    tokenizer: &Tokenizer,
    source: &ExampleSource,
    seed: Seed,
    idx: u64,
) -> Result<SftExample, Error> {
    let example = source.example(tokenizer, seed, idx)?;
    let mut completion = tokenizer.encode(&example.completion)?;
    completion.extend(tokenizer.eos_ids().first());
    let prompt = match example.is_chat {
        true => tokenizer.encode(&example.prompt)?,
        // with the BOS that sampling from a text prompt begins with
        false => tokenizer.encode_prompt(&example.prompt)?,
    };
    Ok(SftExample { prompt, completion })
}
