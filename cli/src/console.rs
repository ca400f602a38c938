//! Progress of a run on the terminal: notes and a line per step, and a progress bar below them.
//!
//! Knows no config.

use indicatif::ProgressBar;
use joust_run::{Event, Observer};
use joust_trainer::Metrics;

use crate::output;

/// Shows the events of a run.
pub(crate) struct Console {
    bar: ProgressBar,
    /// Number of steps between two lines.
    every: u64,
    /// Formats the line of a step.
    step_line: fn(&Metrics, Option<f64>) -> String,
}

impl Console {
    /// For `joust train`.
    pub(crate) fn training() -> Self {
        Self { bar: ProgressBar::hidden(), every: 1, step_line: training_line }
    }

    /// For `joust sft`.
    pub(crate) fn sft() -> Self {
        Self { bar: ProgressBar::hidden(), every: 50, step_line: sft_line }
    }

    /// For `joust dpo`.
    pub(crate) fn dpo() -> Self {
        Self { bar: ProgressBar::hidden(), every: 10, step_line: dpo_line }
    }
}

impl Observer for Console {
    fn observe(&mut self, event: Event<'_>) {
        match event {
            Event::Resumed { step } => output::note(format!("Going on after step {step}.")),
            Event::ConfigChanged { changes: [] } => {}
            Event::ConfigChanged { changes } => {
                output::note(format!("Changed since the last start: {}.", changes.join(", ")));
            }
            Event::TrainingReady { n_parameters, n_prompts, judge, run_dir } => {
                output::note(format!(
                    "{} M parameters, {n_prompts} prompts, judge: {judge}, run folder: {}",
                    (n_parameters as f64 / 1e5).round() / 10.0,
                    run_dir.display()
                ));
            }
            Event::TuningReady { n_parameters, n_steps, run_dir } => output::note(format!(
                "Training {:.2} M parameters for {n_steps} steps in {}.",
                n_parameters as f64 / 1e6,
                run_dir.display()
            )),
            Event::LoopStarted { step, n_steps } => {
                self.bar = output::progress_bar(n_steps, "steps");
                self.bar.set_position(step);
            }
            Event::Progressed => self.bar.tick(),
            Event::GroupsRefilled { .. } => self.bar.tick(),
            Event::PromptDropped { step, prompt_id, reason } => {
                tracing::warn!(step, %prompt_id, %reason, "A prompt was dropped.");
            }
            Event::AllTruncated { step, n_completions, max_tokens } => tracing::warn!(
                step,
                n_completions,
                max_tokens,
                "All completions were truncated and are left out of the loss: the step has no \
                 update."
            ),
            Event::Evaluated { step, accuracy } => {
                let when = match step {
                    0 => "before the first step".to_owned(),
                    _ => format!("after step {step}"),
                };
                let percent = accuracy * 100.0;
                output::note(format!("Accuracy on held-out prompts {when}: {percent:.1} %."));
            }
            Event::HeldOutPromptsDropped { n_dropped, prompt_id, reason } => tracing::warn!(
                n_dropped, %prompt_id, %reason,
                "Held-out prompts cannot be sampled from and count as wrong; the first is named."
            ),
            Event::EvaluationBrokenOff { step } => {
                tracing::info!(step, "The evaluation is broken off; the next start repeats it.");
            }
            Event::CheckpointSaved { step } => tracing::debug!(step, "A checkpoint is written."),
            Event::StateNotSaved { error } => {
                tracing::error!(error, "The state before the step is not saved.");
            }
            // the summary names it
            Event::ModelExported { .. } => {}
            Event::StepFinished { step, n_steps, metrics, eval_accuracy } => {
                let line = (self.step_line)(metrics, eval_accuracy);
                // a measurement is always shown
                let every = if metrics.contains_key("eval/loss") { 1 } else { self.every };
                output::progress(&self.bar, step, n_steps, every, &line);
            }
            Event::PromptsExhausted => {
                output::note("The prompts are used up; the run ends here.");
            }
            Event::LoopFinished => self.bar.finish_and_clear(),
        }
    }
}

/// `reward 0.500 acc 62 % updates 1 spread 13/16 failed 3 % length 31 entropy 0.41 sample 1.2
/// judge 3.4 train 0.8 s`, in one line
///
/// `acc` is the accuracy of the step's completions, where answers are known. `spread`: groups whose
/// rewards differ, of those that were scored. `failed` is the share of the completions without a
/// reward, if there are any; `length` their mean number of tokens.
fn training_line(metrics: &Metrics, _eval_accuracy: Option<f64>) -> String {
    let mut parts = Vec::new();
    let mut put = |name: &str, format: &dyn Fn(f64) -> String| {
        parts.extend(metrics.get(name).map(|&value| format(value)));
    };
    put("reward", &|reward| format!("reward {reward:.3}"));
    put("accuracy", &|share| format!("acc {:.0} %", share * 100.0));
    put("updates", &|n| format!("updates {n:.0}"));
    let n_scored = metrics.get("groups/scored").copied().unwrap_or_default();
    put("groups/with_spread", &|n| format!("spread {n:.0}/{n_scored:.0}"));
    if metrics.get("frac_reward_missing").is_some_and(|&share| share > 0.0) {
        put("frac_reward_missing", &|share| format!("failed {}", percent(share)));
    }
    put("completions/mean_length", &|n_tokens| format!("length {n_tokens:.0}"));
    put("entropy", &|entropy| format!("entropy {entropy:.2}"));
    for (stage, name) in [("rollout", "sample"), ("reward", "judge"), ("train", "train")] {
        put(&format!("time/{stage}_s"), &|took| format!("{name} {}", seconds(took)));
    }
    parts.join(" ") + " s"
}

/// A share above 0, never shown as 0.
fn percent(share: f64) -> String {
    match share * 100.0 {
        below if below < 1.0 => "<1 %".to_owned(),
        percent => format!("{percent:.0} %"),
    }
}

fn seconds(took: f64) -> String {
    let n_decimals = usize::from(took < 9.95);
    format!("{took:.n_decimals$}")
}

/// `loss 0.6123 accuracy 0.780 margin 0.210 eval loss 0.6321 accuracy 0.740 2100 tokens/s`
///
/// `accuracy` is the share of the pairs whose chosen completion has the larger implicit reward,
/// `margin` the mean difference of the two; behind `eval`, of held-out pairs.
fn dpo_line(metrics: &Metrics, _eval_accuracy: Option<f64>) -> String {
    let learned = match metrics.get("loss") {
        None => format!("no update: {} pairs do not fit", metrics["skipped_examples"]),
        Some(loss) => format!(
            "loss {loss:.4} accuracy {:.3} margin {:.3}",
            metrics["rewards/accuracies"], metrics["rewards/margins"],
        ),
    };
    tuning_line(&learned, metrics, "eval/rewards/accuracies")
}

/// `loss 0.1234 accuracy 0.980 eval loss 0.1321 accuracy 0.961 2100 tokens/s`
fn sft_line(metrics: &Metrics, _eval_accuracy: Option<f64>) -> String {
    let learned = match metrics.get("loss") {
        None => format!("no update: {} examples do not fit", metrics["skipped_examples"]),
        Some(loss) => format!("loss {loss:.4} accuracy {:.3}", metrics["mean_token_accuracy"]),
    };
    tuning_line(&learned, metrics, "eval/mean_token_accuracy")
}

/// What was learned, what was measured on held-out examples, and the speed.
fn tuning_line(learned: &str, metrics: &Metrics, eval_accuracy: &str) -> String {
    let mut line = learned.to_owned();
    if let (Some(loss), Some(accuracy)) = (metrics.get("eval/loss"), metrics.get(eval_accuracy)) {
        line += &format!(" eval loss {loss:.4} accuracy {accuracy:.3}");
    }
    if metrics.contains_key("loss") {
        line += &format!(" {:.0} tokens/s", metrics["tokens_per_second"]);
    }
    line
}

#[cfg(test)]
mod tests;
