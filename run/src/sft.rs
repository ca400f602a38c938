//! Supervised fine-tuning, from a model or from nothing.
//!
//! The loop of `joust sft`. The work inside a step is not known here.

use std::path::{Path, PathBuf};
use std::time::Instant;

use joust_engine::model::Decoder;
use joust_engine::{Tokenizer, TurnFrame, folder};
use joust_schema::seed::Seed;
use joust_trainer::checkpoint::{self, Retention};
use joust_trainer::{Metrics, SftExample, SftTrainer};
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::checkpoints::CheckpointClock;
use crate::config::sft::{ModelSection, SftRun};
use crate::error::Error;
use crate::examples::{Example, ExampleSource};
use crate::export::Export;
use crate::observer::{Event, Observer};
use crate::places;
use crate::run_folder::{ExistingRun, RunFolder, RunStart};
use crate::stop::StopSwitch;
use crate::training::RunEnd;

/// What an example has to be.
const WANTED: &str =
    "wanted a prompt, a completion, and together at most trainer.max_length tokens";

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
    /// What the chat template writes around the turn that is learned.
    frame: Option<TurnFrame>,
    trainer: SftTrainer,
    state: SftState,
    /// The step of the newest checkpoint.
    saved: u64,
    /// Number of examples since the last update, none of which fits.
    n_skipped_in_a_row: u64,
}

/// A run of supervised fine-tuning whose loop has ended.
pub struct FinishedTuning {
    /// How it has ended.
    pub end: RunEnd,
    /// Number of steps, those of earlier starts included.
    pub steps: u64,
    /// The run's folder.
    pub dir: PathBuf,
}

/// Runs supervised fine-tuning to its last step, or to the end of the step in which it is asked to
/// stop.
///
/// # Errors
/// [`Error::Input`] for unusable configs or data; the trainer's errors.
pub fn run(
    config: &SftRun,
    existing: ExistingRun,
    stop: &StopSwitch,
    observer: &mut dyn Observer,
) -> Result<FinishedTuning, Error> {
    config.validate()?;
    config.run.set_threads();
    let inputs = config.inputs();
    let run_dir = config.run.dir();
    let export = Export { section: &config.export, run_dir: &run_dir, inputs: &inputs };
    let start = RunStart::new(&config.run, config, &inputs, existing)?;
    start.check()?;
    places::check_inputs(&run_dir, &inputs)?;
    export.check()?;
    let mut tuning = FineTuning::open(config, &start, observer)?;
    let n_steps = config.trainer.steps;
    observer.observe(Event::SftReady {
        n_parameters: tuning.trainer.model().n_parameters(),
        n_steps,
        run_dir: tuning.run.dir(),
    });
    observer.observe(Event::LoopStarted { step: tuning.state.step, n_steps });
    let end = tuning.run_steps(config, stop, observer);
    observer.observe(Event::LoopFinished);
    let end = end?;
    if end == RunEnd::Finished {
        tuning.check_learned(config)?;
        export.write(tuning.trainer.model(), &tuning.tokenizer)?;
    }
    Ok(FinishedTuning { end, steps: tuning.state.step, dir: run_dir })
}

impl FineTuning {
    /// Opens all that the run needs: a fresh run, or the newest checkpoint.
    fn open(
        config: &SftRun,
        start: &RunStart<'_, SftRun>,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let source = ExampleSource::open(&config.data)?;
        let seed = Seed::new(config.run.seed);
        let n_steps = config.trainer.steps;
        if let Some(step) = start.newest_step()?.filter(|step| *step > n_steps) {
            return Err(Error::input(format!(
                "config: trainer.steps is {n_steps}, and the run has made {step} already; wanted \
                 at least as many"
            )));
        }
        // before the folder is touched: `--clean` deletes nothing for a model that cannot be made
        let fresh = match start.resumes() {
            true => None,
            false => Some(first_model(config, &source, seed)?),
        };
        if let Some((_, tokenizer)) = &fresh {
            source.check_thoughts(&config.data.tokenizer(tokenizer)?)?;
        }
        let run = start.open()?;
        let newest = run.rewind_to_newest()?;
        let (mut model, tokenizer) = match (&newest, fresh) {
            (Some((_, path)), _) => {
                open_model(path, &config.model).map_err(|error| run.bad_checkpoint(error))?
            }
            (None, Some(fresh)) => fresh,
            (None, None) => first_model(config, &source, seed)?,
        };
        let tokenizer = config.data.tokenizer(&tokenizer)?;
        let frame = tokenizer.turn_frame().filter(|_| source.has_chats());
        match &frame {
            // who samples from the model has to know its end
            Some(frame) if !tokenizer.eos_ids().contains(&frame.end_id) => {
                model.add_end_token(frame.end_id);
            }
            None if source.has_chats() => tracing::warn!(
                "The chat template ends the assistant's turn by no control token: the tokenizer's \
                 end token is learned."
            ),
            _ => {}
        }
        let mut trainer = SftTrainer::new(model, &config.trainer)?;
        let state = match &newest {
            Some((step, path)) => {
                let state = checkpoint::restore(&mut trainer, path)
                    .map_err(|error| run.bad_checkpoint(error.into()))?;
                observer.observe(Event::Resumed { step: *step });
                observer.observe(Event::ConfigChanged { changes: &run.changes() });
                state
            }
            None => SftState { step: 0, num_tokens: 0.0 },
        };
        let saved = state.step;
        let n_skipped_in_a_row = 0;
        Ok(Self { run, seed, source, tokenizer, frame, trainer, state, saved, n_skipped_in_a_row })
    }

    /// All steps that are left.
    fn run_steps(
        &mut self,
        config: &SftRun,
        stop: &StopSwitch,
        observer: &mut dyn Observer,
    ) -> Result<RunEnd, Error> {
        let n_steps = config.trainer.steps;
        let mut checkpoints = CheckpointClock::new(&config.checkpoint, Instant::now());
        while self.state.step < n_steps {
            if stop.is_asked() {
                self.save_interim(&checkpoints)?;
                return Ok(RunEnd::Stopped);
            }
            let started = Instant::now();
            let examples = match self.examples(config.trainer.batch_size as u64) {
                Ok(examples) => examples,
                Err(error) => {
                    // a later start repeats this step and none before it
                    if let Err(error) = self.save_interim(&checkpoints) {
                        tracing::error!(%error, "The state before the step is not saved.");
                    }
                    return Err(error);
                }
            };
            let metrics = self.step(&examples, started)?;
            let step = self.state.step;
            self.run.check()?;
            self.run.log(step, &metrics)?;
            observer.observe(Event::StepFinished {
                step,
                n_steps,
                metrics: &metrics,
                eval_accuracy: None,
            });
            let began = Instant::now();
            if let Some(retention) = checkpoints.due(step, step == n_steps, began) {
                self.save(retention)?;
                checkpoints.written(began, Instant::now());
            }
        }
        Ok(RunEnd::Finished)
    }

    /// The examples of the next step.
    fn examples(&self, batch_size: u64) -> Result<Vec<SftExample>, Error> {
        let first = self.state.step * batch_size;
        let numbers = first..first + batch_size;
        let example = |idx| self.source.example(&self.tokenizer, self.seed, idx);
        numbers.map(|idx| encode(&self.tokenizer, self.frame.as_ref(), &example(idx)?)).collect()
    }

    /// Learns from the examples of a step, whose making has begun at `started`.
    fn step(&mut self, examples: &[SftExample], started: Instant) -> Result<Metrics, Error> {
        let data_seconds = started.elapsed().as_secs_f64();
        let mut metrics = self.trainer.step(examples, self.state.step)?;
        self.state.step += 1;
        self.check_learning(&metrics, examples.len() as u64)?;
        self.state.num_tokens += metrics["step_tokens"];
        let seconds = started.elapsed().as_secs_f64();
        metrics.insert("num_tokens".to_owned(), self.state.num_tokens);
        metrics.insert("step_time".to_owned(), seconds);
        metrics.insert("data_time".to_owned(), data_seconds);
        metrics.insert("tokens_per_second".to_owned(), metrics["step_tokens"] / seconds);
        Ok(metrics)
    }

    /// Refuses data of which nothing fits: no example of a whole epoch, or of 1,000 of a task.
    fn check_learning(&mut self, metrics: &Metrics, n_examples: u64) -> Result<(), Error> {
        if metrics.contains_key("loss") {
            self.n_skipped_in_a_row = 0;
            return Ok(());
        }
        self.n_skipped_in_a_row += n_examples;
        // each epoch has another order: so many in a row hold a whole epoch
        let n_of_file = self.source.n_examples().map(|n| 2 * n - 1);
        if self.n_skipped_in_a_row < n_of_file.unwrap_or(1_000) {
            return Ok(());
        }
        let n_skipped = self.n_skipped_in_a_row;
        Err(Error::input(format!("none of the last {n_skipped} examples fits: {WANTED}")))
    }

    /// Refuses to end a run that has learned nothing in all of its steps.
    fn check_learned(&self, config: &SftRun) -> Result<(), Error> {
        match self.trainer.n_updates() {
            0 => {
                let n_examples = config.trainer.steps * config.trainer.batch_size as u64;
                Err(Error::input(format!(
                    "none of the run's {n_examples} examples fits, so that nothing was learned and \
                     no model is exported: {WANTED}"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Saves the state after the last step, unless it is saved already.
    fn save_interim(&mut self, checkpoints: &CheckpointClock) -> Result<(), Error> {
        match self.state.step == self.saved {
            true => Ok(()),
            false => self.save(checkpoints.interim()),
        }
    }

    fn save(&mut self, retention: Retention) -> Result<(), Error> {
        let (step, dir) = (self.state.step, self.run.dir());
        let trainer = &mut self.trainer;
        checkpoint::save(trainer, &self.tokenizer, dir, step, &self.state, retention)?;
        self.saved = step;
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
fn first_model(
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
    let template = config.data.tokenizer(&template)?;
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

/// The tokens of an example. A completion of a chat ends as the template ends the turn, another one
/// with the tokenizer's EOS.
fn encode(
    tokenizer: &Tokenizer,
    frame: Option<&TurnFrame>,
    example: &Example,
) -> Result<SftExample, Error> {
    let Example { prompt, is_chat, completion } = example;
    let frame = frame.filter(|_| *is_chat);
    let (text, end) = match frame {
        Some(TurnFrame { before, after, end_id }) => {
            let before = match completion.starts_with(char::is_whitespace) {
                true => "",
                false => &before[..],
            };
            (format!("{before}{completion}{after}"), Some(*end_id))
        }
        None => (completion.clone(), tokenizer.eos_ids().first().copied()),
    };
    let mut completion = tokenizer.encode_continuation(prompt, &text)?;
    completion.extend(end);
    let prompt = match is_chat {
        true => tokenizer.encode(prompt)?,
        // with the BOS token, as in sampling from a text prompt
        false => tokenizer.encode_prompt(prompt)?,
    };
    Ok(SftExample { prompt, completion })
}

#[cfg(test)]
mod tests;
