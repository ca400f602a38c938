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

/// `reward 0.500 accuracy 0.617 eval 0.584 updates 1 equal 44 % failed 0 % 2100 tokens/s`
///
/// `equal` is the share of the groups whose rewards are all equal, `failed` the share of the
/// completions without a reward.
fn training_line(metrics: &Metrics, eval_accuracy: Option<f64>) -> String {
    let named = [("reward", "reward"), ("accuracy", "accuracy"), ("judge/accuracy", "judge")];
    let mut parts: Vec<String> = named
        .iter()
        .filter_map(|(key, name)| Some(format!("{name} {:.3}", metrics.get(*key)?)))
        .collect();
    if let Some(accuracy) = eval_accuracy {
        parts.push(format!("eval {accuracy:.3}"));
    }
    if let Some(updates) = metrics.get("updates") {
        parts.push(format!("updates {updates:.0}"));
    }
    for (key, name) in [("frac_reward_zero_std", "equal"), ("frac_reward_missing", "failed")] {
        if let Some(share) = metrics.get(key) {
            parts.push(format!("{name} {:.0} %", share * 100.0));
        }
    }
    if let Some(speed) = metrics.get("tokens_per_second") {
        parts.push(format!("{speed:.0} tokens/s"));
    }
    parts.join(" ")
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
