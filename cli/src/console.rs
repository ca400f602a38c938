//! Progress of a run on the terminal: notes and a line per step, and a progress bar below them.
//!
//! Knows no config.

use indicatif::ProgressBar;
use joust_run::{Error, Event, Observer, counted};
use joust_trainer::Metrics;

use crate::output;

/// Shows the events of a run.
pub(crate) struct Console {
    bar: ProgressBar,
    /// Number of steps between two lines.
    every: u64,
    /// The parts of a step's line.
    step_parts: fn(&Metrics) -> Vec<String>,
}

impl Console {
    /// For `joust train`.
    pub(crate) fn training() -> Self {
        Self::new(1, training_parts)
    }

    /// For `joust sft`.
    pub(crate) fn sft() -> Self {
        Self::new(50, sft_parts)
    }

    /// For `joust dpo`.
    pub(crate) fn dpo() -> Self {
        Self::new(10, dpo_parts)
    }

    fn new(every: u64, step_parts: fn(&Metrics) -> Vec<String>) -> Self {
        Self { bar: ProgressBar::hidden(), every, step_parts }
    }

    fn show_step(&self, step: u64, n_steps: u64, metrics: &Metrics) {
        self.bar.set_position(step);
        let is_first_or_last = step == 1 || step == n_steps;
        // a measurement is always shown
        let is_measured = metrics.contains_key("eval/loss");
        if is_first_or_last || is_measured || step.is_multiple_of(self.every) {
            let mut parts = vec![format!("{step}/{n_steps}")];
            parts.extend((self.step_parts)(metrics));
            output::note_parts(&parts);
        }
    }
}

impl Observer for Console {
    fn observe(&mut self, event: Event<'_>) -> Result<(), Error> {
        match event {
            Event::Resumed { step, changes } => {
                output::note(format!("Going on after step {step}."));
                if !changes.is_empty() {
                    output::note(format!("Changed since the last start: {}.", changes.join(", ")));
                }
            }
            Event::TrainingReady { n_parameters, n_prompts, sampler, judge, run_dir } => {
                let sampler =
                    sampler.map_or(String::new(), |sampler| format!(", sampled by {sampler}"));
                let judge = judge.map_or(String::new(), |judge| format!(", judge: {judge}"));
                output::note(format!(
                    "{} M parameters, {}{sampler}{judge}, run folder: {}",
                    (n_parameters as f64 / 1e5).round() / 10.0,
                    counted(n_prompts as u64, "prompt"),
                    run_dir.display()
                ));
            }
            Event::TuningReady { n_parameters, n_steps, run_dir } => output::note(format!(
                "Training {:.2} M parameters for {} in {}.",
                n_parameters as f64 / 1e6,
                counted(n_steps, "step"),
                run_dir.display()
            )),
            Event::LoopStarted { step, n_steps } => {
                self.bar = output::progress_bar_from(step, n_steps, "steps");
            }
            Event::Progressed | Event::GroupsRefilled { .. } => self.bar.tick(),
            Event::StepGivenUp { step } => output::note(format!(
                "Step {step} needs further groups in place of those without spread: it is given \
                 up, and the next start repeats it."
            )),
            Event::StepWithoutServers { step } => output::note(format!(
                "No server is up that samples for step {step}: it is given up, and the next start \
                 repeats it."
            )),
            Event::PromptDropped { step, prompt_id, reason } => {
                tracing::warn!(step, %prompt_id, %reason, "A prompt was dropped.");
            }
            Event::TurnsWithoutEnd => tracing::warn!(
                "The chat template ends the assistant's turn by no control token: completions end \
                 with the tokenizer's end token, turns of whole chats as they are rendered."
            ),
            Event::AllTruncated { step, n_completions, max_tokens } => tracing::warn!(
                step,
                n_completions,
                max_tokens,
                "All completions were truncated and are left out of the loss: the step has no \
                 update."
            ),
            Event::Evaluated { step, metrics } => {
                let when = match step {
                    0 => "before the first step".to_owned(),
                    _ => format!("after step {step}"),
                };
                let percent = metrics["eval/accuracy"] * 100.0;
                output::note(format!("Accuracy on held-out prompts {when}: {percent:.1} %."));
            }
            Event::HeldOutPromptsDropped { n_dropped, prompt_id, reason } => tracing::warn!(
                n_dropped, %prompt_id, %reason,
                "Held-out prompts cannot be sampled from and count as wrong; the first is named."
            ),
            Event::EvaluationBrokenOff { step } => output::note(format!(
                "The measurement after step {step} is broken off; the next start repeats it."
            )),
            Event::CheckpointSaved { step } => tracing::debug!(step, "A checkpoint is written."),
            Event::StateNotSaved { error } => {
                tracing::error!(error, "The state before the step is not saved.");
            }
            Event::ModelExported { .. } => {}
            Event::StepFinished { step, n_steps, metrics } => {
                self.show_step(step, n_steps, metrics);
            }
            Event::PromptsExhausted => {
                output::note("The prompts are used up; the run ends here.");
            }
            Event::LoopFinished => self.bar.finish_and_clear(),
            Event::TrainingFinished { .. } | Event::TuningFinished { .. } => {}
        }
        Ok(())
    }
}

/// `reward 0.500`, `acc 62%`, `updates 1`, `spread 13/16`, `failed 3%`, `len 31`, `ent 0.41`,
/// `sample 1.2 score 3.4 train 0.8 s`
///
/// `acc` is the accuracy of the step's completions, where answers are known. `spread`: groups whose
/// rewards differ, of those that were scored. `failed` is the share of the completions without a
/// reward, if there are any; `len` their mean number of tokens, `ent` the entropy at the tokens
/// that were learned from. The last part are seconds of the stages.
fn training_parts(metrics: &Metrics) -> Vec<String> {
    let mut parts = Vec::new();
    let mut put = |name: &str, format: &dyn Fn(f64) -> String| {
        parts.extend(metrics.get(name).map(|&value| format(value)));
    };
    put("reward", &|reward| format!("reward {}", fixed(reward)));
    put("accuracy", &|share| format!("acc {:.0}%", share * 100.0));
    put("updates", &|n| format!("updates {n:.0}"));
    let n_scored = metrics.get("groups/scored").copied().unwrap_or_default();
    put("groups/with_spread", &|n| format!("spread {n:.0}/{n_scored:.0}"));
    if metrics.get("frac_reward_missing").is_some_and(|&share| share > 0.0) {
        put("frac_reward_missing", &|share| format!("failed {}", percent(share)));
    }
    put("completions/mean_length", &|n_tokens| format!("len {n_tokens:.0}"));
    put("entropy", &|entropy| format!("ent {entropy:.2}"));
    let stages = [("rollout", "sample"), ("reward", "score"), ("train", "train")];
    let stages = stages.iter().filter_map(|(stage, name)| {
        let took = metrics.get(&format!("time/{stage}_s"))?;
        Some(format!("{name} {} ", seconds(*took)))
    });
    parts.push(stages.collect::<String>() + "s");
    parts
}

/// A number with three decimals; what rounds to 0 has no sign.
fn fixed(value: f64) -> String {
    let text = format!("{value:.3}");
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|digit| b"0.".contains(&digit)) => digits.to_owned(),
        _ => text,
    }
}

/// A share above 0, never shown as 0.
fn percent(share: f64) -> String {
    match share * 100.0 {
        below if below < 1.0 => "<1%".to_owned(),
        percent => format!("{percent:.0}%"),
    }
}

fn seconds(took: f64) -> String {
    let n_decimals = usize::from(took < 9.95);
    format!("{took:.n_decimals$}")
}

/// `loss 0.6123`, `accuracy 0.780`, `margin 0.210`, `eval loss 0.6321 accuracy 0.740`,
/// `2100 tokens/s`
///
/// `accuracy` is the share of the pairs whose chosen completion has the larger implicit reward,
/// `margin` the mean difference of the two; behind `eval`, of held-out pairs.
fn dpo_parts(metrics: &Metrics) -> Vec<String> {
    let names = [("accuracy", "rewards/accuracies"), ("margin", "rewards/margins")];
    tuning_parts(metrics, "pair", &names, "eval/rewards/accuracies")
}

/// `loss 0.1234`, `accuracy 0.980`, `eval loss 0.1321 accuracy 0.961`, `2100 tokens/s`
fn sft_parts(metrics: &Metrics) -> Vec<String> {
    let names = [("accuracy", "mean_token_accuracy")];
    tuning_parts(metrics, "example", &names, "eval/mean_token_accuracy")
}

/// The loss and the metrics of `names`, what was measured on held-out examples, and the speed.
fn tuning_parts(
    metrics: &Metrics,
    example: &str,
    names: &[(&str, &str)],
    eval_accuracy: &str,
) -> Vec<String> {
    let mut parts = Vec::new();
    match metrics.get("loss") {
        None => {
            let n_skipped = metrics["skipped_examples"] as u64;
            parts.push(format!("no update, {} left out", counted(n_skipped, example)));
        }
        Some(loss) => {
            parts.push(format!("loss {loss:.4}"));
            let shown =
                names.iter().map(|(name, metric)| format!("{name} {}", fixed(metrics[*metric])));
            parts.extend(shown);
        }
    }
    if let (Some(loss), Some(accuracy)) = (metrics.get("eval/loss"), metrics.get(eval_accuracy)) {
        parts.push(format!("eval loss {loss:.4} accuracy {accuracy:.3}"));
    }
    if metrics.contains_key("loss") {
        parts.push(format!("{:.0} tokens/s", metrics["tokens_per_second"]));
    }
    parts
}

#[cfg(test)]
mod tests;
