//! Every metric that `metrics.jsonl` may hold, with its meaning: the source of docs/metrics.md.

/// A metric's name and meaning.
pub struct Metric {
    /// Key in `metrics.jsonl`.
    pub name: &'static str,
    /// What it measures, with its unit.
    pub meaning: &'static str,
}

const fn metric(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, meaning }
}

/// Metrics of `joust train`, `joust sft` and `joust dpo`, in the order of the page.
pub const METRICS: &[Metric] = &[
    metric(
        "step",
        "Number of the step, counted from 1. Step 0 is the measurement before the first step.",
    ),
    metric(
        "reward",
        "Mean reward of the step's completions. Win rates have a mean near 0.5, because the \
         members of a group are compared with each other.",
    ),
    metric(
        "reward_std",
        "Standard deviation of the rewards of a group (unbiased), mean over the groups.",
    ),
    metric(
        "frac_reward_zero_std",
        "Share of the groups whose rewards are all equal. Such groups have no gradient, unless \
         `trainer.baseline` is `none` or `trainer.scale_rewards` is `whiten`.",
    ),
    metric("groups/scored", "Number of groups that were scored."),
    metric(
        "groups/with_spread",
        "Number of groups whose rewards differ: those that something can be learned from.",
    ),
    metric(
        "groups/refilled",
        "Number of groups that were sampled in place of groups without spread \
         (`train.max_refills`).",
    ),
    metric(
        "groups/refill_rounds",
        "Number of times that groups without spread were replaced (`train.max_refills`).",
    ),
    metric(
        "groups/no_spread_ratio_before_refill",
        "Share of the step's first groups, before any was replaced, that have no spread \
         (`train.max_refills`).",
    ),
    metric("frac_reward_missing", "Share of the completions without a reward."),
    metric(
        "reward/judge_failed_ratio",
        "Share of the completions without a reward because the judge gave no valid vote or no \
         answer is known.",
    ),
    metric("reward/matches", "Number of matches."),
    metric(
        "rewards/NAME/mean",
        "Mean of the numbers that the part `NAME` of `reward.parts` gave the step's completions, \
         before its weight.",
    ),
    metric(
        "rewards/NAME/std",
        "Standard deviation of these numbers over all completions of the step (unbiased).",
    ),
    metric(
        "rewards/NAME/missing",
        "Number of completions to which the part gave no number, although it was asked.",
    ),
    metric(
        "accuracy",
        "Share of the step's completions whose final answer equals the known one. It has no \
         influence on training unless the reward is made of known answers.",
    ),
    metric(
        "answers/missing_ratio",
        "Share of the completions with a known answer that have no final answer: an unfinished \
         thought, a text without a number. They count as wrong.",
    ),
    metric(
        "answers/not_understood_ratio",
        "Share of the completions with a known answer where the rule cannot read one of the two \
         answers, and their texts differ. They count as wrong.",
    ),
    metric(
        "eval/accuracy",
        "Share of the completions of held-out prompts whose final answer equals the known one.",
    ),
    metric(
        "eval/completions/mean_length",
        "Mean number of tokens per completion of the held-out prompts.",
    ),
    metric(
        "eval/dropped_prompts",
        "Number of held-out prompts that could not be sampled from. They count as wrong.",
    ),
    metric(
        "eval/loss",
        "Loss on the held-out examples (`sft`) or pairs (`dpo`), as `loss` of one update on all of \
         them. After a step that refreshes the reference (`trainer.sync_ref_model`), `eval/*` of \
         `dpo` are measured against the new reference, as in TRL.",
    ),
    metric("eval/mean_token_accuracy", "`mean_token_accuracy` of the held-out examples (`sft`)."),
    metric("eval/entropy", "`entropy` at the learned tokens of the held-out examples."),
    metric("eval/rewards/chosen", "`rewards/chosen` of the held-out pairs (`dpo`)."),
    metric("eval/rewards/rejected", "`rewards/rejected` of the held-out pairs (`dpo`)."),
    metric("eval/rewards/margins", "`rewards/margins` of the held-out pairs (`dpo`)."),
    metric("eval/rewards/accuracies", "`rewards/accuracies` of the held-out pairs (`dpo`)."),
    metric("eval/logps/chosen", "`logps/chosen` of the held-out pairs (`dpo`)."),
    metric("eval/logps/rejected", "`logps/rejected` of the held-out pairs (`dpo`)."),
    metric(
        "eval/skipped_examples",
        "Number of held-out examples that are not measured, for the reasons of `skipped_examples`.",
    ),
    metric("judge/votes", "Number of votes, second tries included."),
    metric("judge/invalid_ratio", "Share of the votes without a valid verdict."),
    metric("judge/no_reply_ratio", "Share of the votes without any reply of the judge."),
    metric(
        "judge/cut_off_ratio",
        "Share of the votes that the token limit or the end of the judge's context cut off.",
    ),
    metric(
        "judge/first_ratio",
        "Share of the valid votes for the answer that was shown first. A judge without position \
         bias has 0.5.",
    ),
    metric(
        "judge/position_bias",
        "Position bias in log-odds, fitted to the votes of all groups of the step together. A \
         judge without position bias has 0. Groups that replace others are rated with a bias of \
         their own, round by round (`train.max_refills`): this is that of the first groups.",
    ),
    metric("judge/position_bias_stderr", "Standard error of `judge/position_bias`."),
    metric(
        "judge/length_slope",
        "Preference of the judge for longer answers, fitted to the votes of all groups of the step \
         together: log-odds per unit of tanh((characters - mean of the group) / standard deviation \
         within groups). Longer answers that are better give a slope too. It is measured with \
         `reward.rating.length_control` and without, and left out where the rating is not \
         `bradley_terry` or the answers of each group are equally long. It is that of the first \
         groups of the step, as `judge/position_bias`.",
    ),
    metric("judge/length_slope_stderr", "Standard error of `judge/length_slope`."),
    metric(
        "judge/accuracy",
        "Share of the matches between a right and a wrong completion that the right one won. It \
         needs known answers.",
    ),
    metric("judge/tokens", "Number of tokens that the judge wrote."),
    metric("judge/tokens_per_vote", "Mean number of tokens that the judge wrote per vote."),
    metric("loss", "Loss, mean over the step's updates; left out of a step without an update."),
    metric("grad_norm", "Norm of the gradient before clipping, mean over the step's updates."),
    metric("learning_rate", "Learning rate of the step's last update."),
    metric(
        "updates",
        "Number of updates in the step. It is 0 if no completion has an advantage: if the rewards \
         of every group are equal.",
    ),
    metric(
        "entropy",
        "Mean entropy of the policy's next-token distribution at the tokens that have a gradient, \
         in nats: completions with advantage 0 are left out, unless `trainer.loss.kl.weight` or \
         `trainer.loss.entropy.weight` is above 0.",
    ),
    metric(
        "kl",
        "Mean divergence from the reference per token, if `trainer.loss.kl.weight` is above 0.",
    ),
    metric(
        "clip_ratio/low_mean",
        "Share of the tokens with an importance ratio below the bounds of the loss and a negative \
         advantage.",
    ),
    metric(
        "clip_ratio/high_mean",
        "Share of the tokens with an importance ratio above the bounds of the loss and a positive \
         advantage.",
    ),
    metric("clip_ratio/region_mean", "Sum of `clip_ratio/low_mean` and `clip_ratio/high_mean`."),
    metric(
        "sampling/sampling_logp_difference/mean",
        "Mean distance between the log-probability with which a token was drawn (tempered, \
         renormalised over the tokens that top-k and top-p keep) and the one that training gives \
         it at the same temperature, over the whole vocabulary, before the step's first update.",
    ),
    metric("sampling/sampling_logp_difference/max", "Largest distance of this kind."),
    metric(
        "sampling/retries",
        "Number of calls that servers (`rollout.kind`) had to be asked again: after a failure, a \
         bad answer or a stale group.",
    ),
    metric(
        "sampling/bad_answers",
        "Number of answers of servers that were thrown away because they were not what was asked \
         for: too few choices, other tokens or numbers, an aborted completion.",
    ),
    metric(
        "sampling/stale_groups",
        "Number of groups that were thrown away because their server did not hold the newest \
         version of the policy when it answered.",
    ),
    metric(
        "sampling/servers_down",
        "Number of servers that did not hold the newest version of the policy when the sampling \
         of the step, or of a measurement before it, began.",
    ),
    metric(
        "sampling/updates_behind",
        "Number of updates that the policy has seen since the completions of the step were sampled \
         from it (`train.ahead`).",
    ),
    metric(
        "sampling/kl",
        "Divergence of the distributions that were sampled from, from those that training gives, \
         per token, before the step's first update.",
    ),
    metric(
        "sampling/effective_sample_size",
        "Share of the tokens that are left if each is weighted by its probability in training \
         divided by that in sampling: (Σw)² / (n·Σw²). 1 where both are equal.",
    ),
    metric("completions/mean_length", "Mean number of tokens per completion."),
    metric("completions/min_length", "Number of tokens of the shortest completion."),
    metric("completions/max_length", "Number of tokens of the longest completion."),
    metric(
        "completions/clipped_ratio",
        "Share of the completions that a limit ended, not a stop token or stop text.",
    ),
    metric(
        "completions/mean_terminated_length",
        "Mean number of tokens per completion that a stop token or stop text ended.",
    ),
    metric("dropped_prompts", "Number of prompts that could not be sampled from."),
    metric(
        "num_tokens",
        "Number of tokens in all steps so far: sampled (`train`), of examples (`sft`, `dpo`).",
    ),
    metric("step_time", "Seconds per step."),
    metric(
        "time/rollout_s",
        "Seconds of sampling completions: until the last group of the step is whole.",
    ),
    metric(
        "time/reward_s",
        "Seconds of scoring: from the first group that a part of the reward or the judge has got \
         until the last one is scored. A group is scored as soon as it is whole, so that scoring \
         overlaps with sampling; but an `engine` judge, and one with a verdict cache, begins once \
         all groups are whole.",
    ),
    metric(
        "time/overlap_s",
        "Seconds in which completions were sampled and groups were scored. They count in both \
         `time/rollout_s` and `time/reward_s`: `step_time` is the sum of these two and \
         `time/train_s`, without `time/overlap_s`, and the time of writing the step's tables.",
    ),
    metric(
        "time/wait_s",
        "Seconds in which training waited for the groups of the step (`train.ahead`); in \
         `step_time`, in place of the seconds of sampling and scoring.",
    ),
    metric("time/train_s", "Seconds of updates and of publishing the weights to the workers."),
    metric("time/eval_s", "Seconds of the measurement on held-out prompts or examples."),
    metric(
        "tokens_per_second",
        "Number of tokens per second: sampled by policy and judge (`train`), trained (`sft`, \
         `dpo`).",
    ),
    metric(
        "mean_token_accuracy",
        "Share of the learned tokens that are the model's most probable ones (`sft`).",
    ),
    metric(
        "rewards/chosen",
        "Mean implicit reward of the chosen completions: `trainer.beta` times the log-ratio of \
         policy and reference (`dpo`).",
    ),
    metric("rewards/rejected", "Mean implicit reward of the rejected completions (`dpo`)."),
    metric("rewards/margins", "Mean difference of the two implicit rewards of a pair (`dpo`)."),
    metric(
        "rewards/accuracies",
        "Share of the pairs whose chosen completion has the larger implicit reward (`dpo`).",
    ),
    metric("logps/chosen", "Mean log-probability of a whole chosen completion (`dpo`)."),
    metric("logps/rejected", "Mean log-probability of a whole rejected completion (`dpo`)."),
    metric(
        "step_tokens",
        "Number of tokens in the step, prompts included (`sft`, `dpo`; there a prompt counts for \
         each completion).",
    ),
    metric(
        "skipped_examples",
        "Number of examples left out because they are too long or empty (`sft`, `dpo`), or because \
         both completions are the same (`dpo`).",
    ),
    metric("data_time", "Seconds of making and tokenising the step's examples (`sft`, `dpo`)."),
];

/// A Markdown table of all metrics.
pub fn table() -> String {
    let mut text = String::from("| name | meaning |\n|---|---|\n");
    for Metric { name, meaning } in METRICS {
        text += &format!("| `{name}` | {meaning} |\n");
    }
    text
}
