//! Summary at the end of a run: what was measured, paths; of tournaments one, with a thought of
//! the judge.
//!
//! Of the config it knows what a run leaves.

use std::fmt::Display;
use std::path::PathBuf;

use joust_run::training::{FinishedRun, ScoredGroup};
use joust_run::{Error, Event, FinishedTuning, Observer, counted};
use joust_schema::ids::Member;
use joust_schema::tables::Verdict;
use joust_trainer::LearnerConfig;

use crate::output::line;

/// Prints the summary once a run has finished.
pub(crate) struct Summary {
    has_adapters: bool,
    /// The folder of the exported model.
    exported: Option<PathBuf>,
}

impl Summary {
    /// For a run of a learner with these settings.
    pub(crate) fn of(learner: &LearnerConfig) -> Self {
        Self { has_adapters: learner.lora.is_some(), exported: None }
    }

    fn print(&self, run: &FinishedRun) {
        print_bracket(&run.last_groups);
        line(format!("\n{}", made(run.steps, run.seconds)));
        if let (Some(before), Some(after)) = (run.accuracy_before, run.accuracy) {
            line(format!(
                "Accuracy on held-out prompts: {:.1} % before, {:.1} % now ({:+.1} points).",
                before * 100.0,
                after * 100.0,
                (after - before) * 100.0
            ));
        }
        let dir = run.dir.display();
        line(format!("Every step's tables: {dir}/step_*/ (rollouts, matches, votes, rewards)"));
        line(format!("The view to open:    {dir}/completions/*.parquet (pandas, polars, DuckDB)"));
        self.print_files(run.dir.display());
    }

    fn print_tuning(&self, run: &FinishedTuning) {
        line(made(run.steps, run.seconds));
        if let Some([first, last]) = run.eval_losses {
            line(format!("Loss on held-out examples: {first:.4} at first, {last:.4} now."));
        }
        self.print_files(run.dir.display());
    }

    fn print_files(&self, dir: impl Display) {
        line(format!("Metrics by step:     {dir}/metrics.jsonl"));
        let (what, folders) = match self.has_adapters {
            false => ("The model:   ", "Hugging Face folders"),
            true => ("The adapters:", "PEFT folders"),
        };
        line(format!("{what}        {dir}/checkpoints/ ({folders})"));
        if let Some(path) = &self.exported {
            line(format!("The exported model:  {}", path.display()));
        }
    }
}

/// How many steps a run has, and how long its last start took.
fn made(steps: u64, seconds: f64) -> String {
    let (minutes, seconds) = (seconds as u64 / 60, seconds as u64 % 60);
    format!("{}, {minutes} min {seconds} s in this start.", counted(steps, "step"))
}

impl Observer for Summary {
    fn observe(&mut self, event: Event<'_>) -> Result<(), Error> {
        match event {
            Event::ModelExported { path } => self.exported = Some(path.to_owned()),
            Event::TrainingFinished { run } => self.print(run),
            Event::TuningFinished { run } => self.print_tuning(run),
            _ => {}
        }
        Ok(())
    }
}

/// Prints the tournament of the group whose rewards differ most, and its first thought.
fn print_bracket(groups: &[ScoredGroup]) {
    let spread = |group: &ScoredGroup| {
        let rewards = || group.result.rewards.iter().filter_map(|row| row.reward);
        rewards().fold(f64::MIN, f64::max) - rewards().fold(f64::MAX, f64::min)
    };
    let group = groups
        .iter()
        .filter(|group| !group.result.matches.is_empty())
        .max_by(|a, b| spread(a).total_cmp(&spread(b)));
    let Some(group) = group else { return };
    line(format!("\nOne tournament of the last step: {}", shorten(&group.rollout.question, 90)));
    print_matches(group);
    print_standings(group);
    let votes = &group.result.votes;
    if let Some(vote) = votes.iter().find(|vote| vote.verdict != Verdict::Invalid) {
        line(format!("\nOne thought of the judge (match {}):", vote.match_id));
        for text in vote.text.trim().lines().filter(|text| !text.is_empty()) {
            line(format!("  {text}"));
        }
    }
}

fn print_matches(group: &ScoredGroup) {
    let last_line = |member: Member| -> String {
        let text = group.rollout.completions[member.idx()].completion.trim();
        shorten(text.lines().last().unwrap_or_default(), 40)
    };
    let mut round = 0;
    for row in &group.result.matches {
        if row.round != round {
            round = row.round;
            line(format!("  round {round}"));
        }
        let mark = |member: Member| {
            if row.winner == Some(member) { "▶" } else { " " }
        };
        line(format!(
            "    {} {}: {:<40}  {}–{}  {} {}: {}",
            mark(row.member_a),
            row.member_a,
            last_line(row.member_a),
            row.votes_a,
            row.votes_b,
            mark(row.member_b),
            row.member_b,
            last_line(row.member_b)
        ));
    }
}

fn print_standings(group: &ScoredGroup) {
    let rewards = group.result.rewards.iter();
    let mut ranking: Vec<_> = rewards.filter(|row| row.rank.is_some()).collect();
    ranking.sort_by_key(|row| (row.rank, row.member));
    line("  standings");
    for row in ranking {
        let part = |name: &str, value: Option<f64>, n_decimals: usize| {
            value.map_or(String::new(), |value| format!("{name}{value:.n_decimals$}"))
        };
        line(format!(
            "    {:>2}. member {}{}{}{}  {} won, {} lost{}",
            row.rank.unwrap_or_default(),
            row.member,
            part("  reward ", row.reward, 3),
            part("  rating ", row.rating, 0),
            part(" ± ", row.rating_stderr, 0),
            row.wins,
            row.losses,
            match group.is_correct(row.member) {
                Some(true) => "  (right)",
                Some(false) => "  (wrong)",
                None => "",
            }
        ));
    }
}

fn shorten(text: &str, n_chars: usize) -> String {
    let text = text.replace('\n', " ");
    match text.chars().count() > n_chars {
        true => text.chars().take(n_chars - 1).chain(['…']).collect(),
        false => text,
    }
}
