//! Every metric that `metrics.jsonl` may hold, with its meaning: the source of docs/metrics.md.

/// A figure's name and meaning.
pub struct Metric {
    /// Key in `metrics.jsonl`.
    pub name: &'static str,
    /// What it measures, with its unit.
    pub meaning: &'static str,
}

const fn metric(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, meaning }
}

/// Figures of `joust train` and `joust sft`, in the order of the page.
pub const METRICS: &[Metric] = &[
    metric("step", "Step, counted from 1; 0 is the measurement before the first one."),
    metric(
        "reward",
        "Mean reward of the step's completions. With win rates it is always near 0.5: members of a group are compared with each other.",
    ),
    metric("reward_std", "Mean over groups of the rewards' standard deviation (unbiased)."),
    metric(
        "frac_reward_zero_std",
        "Share of the groups whose rewards are all equal; they teach nothing.",
    ),
    metric("frac_reward_missing", "Share of the completions without a reward."),
    metric(
        "reward/judge_failed_ratio",
        "Share of the completions without a reward because the judge gave no valid vote, or no answer is known.",
    ),
    metric("reward/matches", "Matches played."),
    metric(
        "accuracy",
        "Share of the step's completions whose final answer equals the known one. Reported, never used, unless `reward.kind` is `correct`.",
    ),
    metric("eval/accuracy", "Share of right completions on the held-out prompts."),
    metric("eval/completions/mean_length", "Tokens a held-out completion."),
    metric("judge/votes", "Judge samples, second tries included."),
    metric("judge/invalid_ratio", "Share of them without a valid verdict."),
    metric(
        "judge/first_ratio",
        "Share of the valid votes for the answer that was shown first; 0.5 without position bias.",
    ),
    metric(
        "judge/position_bias",
        "Mean over groups of the fitted position bias, in log-odds; 0 without.",
    ),
    metric(
        "judge/accuracy",
        "Among matches of a right and a wrong completion: share won by the right one. Needs known answers.",
    ),
    metric("judge/tokens", "Tokens that the judge wrote."),
    metric("judge/tokens_per_vote", "The same a vote."),
    metric("loss", "Loss, mean over the step's updates."),
    metric("grad_norm", "Norm of the gradient before clipping, mean over the updates."),
    metric("learning_rate", "Learning rate of the last update."),
    metric("updates", "Updates made in the step; 0 where no group preferred anything."),
    metric(
        "entropy",
        "Mean entropy of the policy's next-token distribution at the trained tokens, in nats.",
    ),
    metric(
        "kl",
        "Mean divergence from the reference (k3 estimate), where `trainer.beta` is above 0.",
    ),
    metric(
        "clip_ratio/low_mean",
        "Share of the tokens whose ratio is below 1 − epsilon with a negative advantage.",
    ),
    metric(
        "clip_ratio/high_mean",
        "Share of the tokens whose ratio is above 1 + epsilon_high with a positive advantage.",
    ),
    metric("clip_ratio/region_mean", "Both together."),
    metric(
        "sampling/sampling_logp_difference/mean",
        "Mean distance between the log-probabilities of sampling and of training, before the step's first update.",
    ),
    metric("sampling/sampling_logp_difference/max", "The largest such distance."),
    metric("completions/mean_length", "Tokens a completion."),
    metric("completions/min_length", "Tokens of the shortest one."),
    metric("completions/max_length", "Tokens of the longest one."),
    metric("completions/clipped_ratio", "Share of the completions that did not end by themselves."),
    metric("completions/mean_terminated_length", "Tokens a completion that ended by itself."),
    metric("dropped_prompts", "Prompts that could not be sampled from."),
    metric("num_tokens", "Tokens so far: sampled ones (`train`), trained ones (`sft`)."),
    metric("step_time", "Seconds of the step."),
    metric("time/rollout_s", "Seconds of sampling completions."),
    metric("time/reward_s", "Seconds of judging."),
    metric("time/train_s", "Seconds of updates and of publishing the weights."),
    metric("time/eval_s", "Seconds of the measurement on held-out prompts."),
    metric(
        "tokens_per_second",
        "Tokens of policy and judge (`train`) or trained ones (`sft`) a second.",
    ),
    metric(
        "mean_token_accuracy",
        "`sft`: share of the completion tokens that are the most probable ones.",
    ),
    metric("step_tokens", "`sft`: tokens of the step, prompts included."),
    metric("skipped_examples", "`sft`: examples left out because they are too long or empty."),
    metric("data_time", "`sft`: seconds of making and tokenizing the step's examples."),
];

/// A Markdown table of all metrics.
pub fn table() -> String {
    let mut text = String::from("| name | meaning |\n|---|---|\n");
    for Metric { name, meaning } in METRICS {
        text += &format!("| `{name}` | {meaning} |\n");
    }
    text
}
