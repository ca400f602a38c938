//! Supervised fine-tuning, from a model or from nothing.
//!
//! The loop of `joust sft`. The work inside a step is not known here.

use std::path::Path;
use std::time::Instant;

use joust_engine::model::Decoder;
use joust_engine::{Tokenizer, folder};
use joust_schema::seed::Seed;
use joust_trainer::{Metrics, SftExample, SftTrainer, checkpoint};
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::config::sft::{ModelSection, SftRun};
use crate::error::Error;
use crate::examples::ExampleSource;
use crate::export;
use crate::observer::{Event, Observer};
use crate::run_folder::{ExistingRun, RunFolder};

/// The state that a checkpoint holds beside weights and optimiser.
#[derive(Serialize, Deserialize)]
struct SftState {
    step: u64,
    num_tokens: f64,
}

/// A run of supervised fine-tuning in progress.
struct FineTuning {
    run: RunFolder,
    seed: Seed,
    source: ExampleSource,
    tokenizer: Tokenizer,
    trainer: SftTrainer,
    state: SftState,
}

/// Runs supervised fine-tuning to its last step.
///
/// # Errors
/// [`Error::Input`] for unusable configs or data; the trainer's errors.
pub fn run(
    config: &SftRun,
    existing: ExistingRun,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    config.validate()?;
    config.run.set_threads();
    export::check(&config.export)?;
    let mut tuning = FineTuning::open(config, existing, observer)?;
    let n_steps = config.trainer.steps;
    observer.observe(Event::SftReady {
        n_parameters: tuning.trainer.model().n_parameters(),
        n_steps,
        run_dir: tuning.run.dir(),
    });
    observer.observe(Event::LoopStarted { step: tuning.state.step, n_steps });
    while tuning.state.step < n_steps {
        let metrics = tuning.step(config.trainer.batch_size as u64)?;
        let step = tuning.state.step;
        tuning.run.log(step, &metrics)?;
        observer.observe(Event::StepFinished {
            step,
            n_steps,
            metrics: &metrics,
            eval_accuracy: None,
        });
        let every = config.checkpoint.every as u64;
        if step == n_steps || (every > 0 && step.is_multiple_of(every)) {
            tuning.save(config.checkpoint.keep_last)?;
        }
    }
    observer.observe(Event::LoopFinished);
    export::write(&config.export, tuning.trainer.model(), &tuning.tokenizer)
}

impl FineTuning {
    /// Opens all that the run needs: a fresh run, or the newest checkpoint.
    fn open(
        config: &SftRun,
        existing: ExistingRun,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let source = ExampleSource::open(&config.data)?;
        let run = RunFolder::open(&config.run, config, existing)?;
        let seed = Seed::new(config.run.seed);
        let newest = run.rewind_to_newest(existing)?;
        let (model, tokenizer) = match &newest {
            Some((_, path)) => open_model(path, &config.model)?,
            None => start(config, &source, seed)?,
        };
        let mut trainer = SftTrainer::new(model, &config.trainer)?;
        let state = match &newest {
            Some((step, path)) => {
                let state = checkpoint::restore(&mut trainer, path)?;
                observer.observe(Event::Resumed { step: *step });
                state
            }
            None => SftState { step: 0, num_tokens: 0.0 },
        };
        Ok(Self { run, seed, source, tokenizer, trainer, state })
    }

    /// One step: makes a batch of examples and learns from it.
    fn step(&mut self, batch_size: u64) -> Result<Metrics, Error> {
        let started = Instant::now();
        let first = self.state.step * batch_size;
        let examples = (first..first + batch_size)
            .map(|idx| encode(&self.tokenizer, &self.source, self.seed, idx))
            .collect::<Result<Vec<_>, Error>>()?;
        let data_seconds = started.elapsed().as_secs_f64();
        let mut metrics = self.trainer.step(&examples)?;
        self.state.step += 1;
        self.state.num_tokens += metrics["step_tokens"];
        let seconds = started.elapsed().as_secs_f64();
        metrics.insert("num_tokens".to_owned(), self.state.num_tokens);
        metrics.insert("step_time".to_owned(), seconds);
        metrics.insert("data_time".to_owned(), data_seconds);
        metrics.insert("tokens_per_second".to_owned(), metrics["step_tokens"] / seconds);
        Ok(metrics)
    }

    fn save(&mut self, keep_last: usize) -> Result<(), Error> {
        let (step, dir) = (self.state.step, self.run.dir());
        let trainer = &mut self.trainer;
        checkpoint::save(trainer, &self.tokenizer, dir, step, &self.state, keep_last)?;
        Ok(())
    }
}

/// A model with f32 master weights and its tokenizer.
fn open_model(path: &Path, section: &ModelSection) -> Result<(Decoder, Tokenizer), Error> {
    let files = folder::open(path)?;
    let device = section.device.resolve()?;
    let model = files.decoder(device, Kind::Float)?;
    Ok((model, files.tokenizer))
}

/// The first model: an existing one, or a fresh one with a fresh tokenizer.
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
    // a tokenizer without merges renders the prompts by the chat template; the final one is trained
    // on the rendered texts
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
        // with the BOS token, as in sampling from a text prompt
        false => tokenizer.encode_prompt(&example.prompt)?,
    };
    Ok(SftExample { prompt, completion })
}
