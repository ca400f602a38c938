//! The tables that the stages exchange and that a run leaves behind, column by column.
//!
//! The meaning of a null is in the comment of its column; it is never "zero".

mod values;

pub use values::{FinishReason, Status, Verdict};

use crate::ids::{GroupId, MatchId, Member, PolicyVersion, PromptId};
use crate::table::table;

table! {
    /// One sampled completion.
    Rollout, RolloutColumns, "rollouts", "1.1" {
        /// Training step, counted from 1; 0 outside of training.
        step: i64,
        /// The group it belongs to.
        group_id: GroupId,
        /// Its index in the group.
        member: Member,
        /// The prompt of the group.
        prompt_id: PromptId,
        /// The weights that sampled it.
        policy_version: PolicyVersion,
        /// The text that the policy continued, chat template applied.
        prompt: String,
        /// The sampled text, without special tokens and stop text.
        completion: String,
        /// The tokens of `prompt`.
        prompt_token_ids: Vec<i32>,
        /// The sampled tokens, the stop token included.
        completion_token_ids: Vec<i32>,
        /// Log-probability of each sampled token at sampling time, under the untempered softmax.
        /// NaN where it is not known: a server that samples with a temperature, top-k or top-p
        /// tells `behaviour_logprobs` alone.
        completion_logprobs: Vec<f32>,
        /// Log-probability of each sampled token under the distribution that it was drawn from:
        /// tempered, renormalised over the tokens that top-k and top-p keep. Null where it is not
        /// known. Since 1.1.
        behaviour_logprobs: Option<Vec<f32>>,
        /// Why sampling ended.
        finish_reason: FinishReason,
        /// Key of its draws.
        seed: i64,
    }
}

table! {
    /// One match of two members.
    Match, MatchColumns, "matches", "1.2" {
        /// Training step; 0 outside of training.
        step: i64,
        /// The group whose members meet.
        group_id: GroupId,
        /// Unique within the file.
        match_id: MatchId,
        /// Round of the tournament, counted from 1.
        round: i32,
        /// The first of the two.
        member_a: Member,
        /// The second of the two.
        member_b: Member,
        /// Valid votes for `member_a`.
        votes_a: i32,
        /// Valid votes for `member_b`.
        votes_b: i32,
        /// Votes without a verdict after their second try.
        votes_invalid: i32,
        /// Whether voting stopped before all votes were cast.
        decided_early: bool,
        /// The member with more valid votes; null for a draw and where no vote is valid.
        winner: Option<Member>,
        /// Those of `votes_a` for which `member_a` was shown first; null in files of version 1.0.
        a_first_votes_a: Option<i32>,
        /// Those of `votes_b` for which `member_a` was shown first; null in files of version 1.0.
        a_first_votes_b: Option<i32>,
        /// Log-odds by which the judge prefers the answer shown first, as the ratings of the group
        /// take it; 0 if `position_bias` is off, null where the ratings are not Bradley-Terry's.
        position_bias: Option<f64>,
        /// Standard error of `position_bias`; null where that is.
        position_bias_stderr: Option<f64>,
        /// Number of members of the group with the completion of `member_a`, which play as one;
        /// null in files before version 1.2.
        copies_a: Option<i32>,
        /// Number of members of the group with the completion of `member_b`; null in files before
        /// version 1.2.
        copies_b: Option<i32>,
    }
}

table! {
    /// One judge sample.
    Vote, VoteColumns, "votes", "1.1" {
        /// The match that it belongs to.
        match_id: MatchId,
        /// Its index in the match, counted from 0.
        vote: i32,
        /// Number of earlier attempts at the same vote.
        attempt: i32,
        /// Whether `member_a` was shown as the first answer.
        a_shown_first: bool,
        /// Which of the shown answers won.
        verdict: Verdict,
        /// The judge's whole output, or the reason why it gave none.
        text: String,
        /// Number of tokens of the judge's prompt.
        prompt_tokens: i32,
        /// Number of prompt tokens whose computation was shared.
        cached_prompt_tokens: i32,
        /// Number of tokens that the judge wrote.
        completion_tokens: i32,
        /// Milliseconds from the judge's first work on it to its end; null in training runs, whose
        /// dumps repeat byte for byte.
        latency_ms: Option<f64>,
        /// Key of its draws.
        seed: i64,
        /// The judge: model and a hash of its prompt template.
        judge: String,
        /// Whether the limit of tokens or the end of the context ended the output; null where the
        /// judge gave none. Since 1.1.
        cut_off: Option<bool>,
    }
}

table! {
    /// The reward of one completion. A reward of several parts has a column `part_NAME` for each of
    /// them behind these, with the number that the part gave; null where it gave none.
    Reward, RewardColumns, "rewards", "1.0" {
        /// Its group.
        group_id: GroupId,
        /// Its index in the group.
        member: Member,
        /// Whether it has a reward, or the reason why not.
        status: Status,
        /// The reward; null unless `status` is `scored`.
        reward: Option<f64>,
        /// Expected share of wins against the rest of the group, in [0, 1]; null without ratings.
        win_rate: Option<f64>,
        /// Elo number: base 10, scale 400, centre 1000; null without ratings.
        rating: Option<f64>,
        /// Standard error of `rating`, in the same unit; null where the method gives none.
        rating_stderr: Option<f64>,
        /// Matches won.
        wins: i32,
        /// Matches lost.
        losses: i32,
        /// 1 for the best of the group, equals share the better rank; null without ratings.
        rank: Option<i32>,
        /// The trainer's advantage; null until trained on, and where it was not: no reward, a
        /// truncated completion that is left out, a group that others replace.
        advantage: Option<f64>,
    }
}

table! {
    /// One completion with all that other tables hold about it: the table for people.
    Completion, CompletionColumns, "completions", "1.1" {
        /// Training step; 0 outside of training.
        step: i64,
        /// The text that the policy continued.
        prompt: String,
        /// The sampled text.
        completion: String,
        /// The reward; null unless `status` is `scored`.
        reward: Option<f64>,
        /// The trainer's advantage; null where it was not trained on.
        advantage: Option<f64>,
        /// Its group.
        group_id: GroupId,
        /// Its index in the group.
        member: Member,
        /// The prompt of the group.
        prompt_id: PromptId,
        /// The weights that sampled it; null where it was not sampled by this program.
        policy_version: Option<PolicyVersion>,
        /// Whether it has a reward, or the reason why not.
        status: Status,
        /// Expected share of wins against the rest of the group; null without ratings.
        win_rate: Option<f64>,
        /// Elo number; null without ratings.
        rating: Option<f64>,
        /// Standard error of `rating`; null where the method gives none.
        rating_stderr: Option<f64>,
        /// Matches won.
        wins: i32,
        /// Matches lost.
        losses: i32,
        /// 1 for the best of the group; null without ratings.
        rank: Option<i32>,
        /// Why sampling ended; null where it was not sampled by this program.
        finish_reason: Option<FinishReason>,
        /// Number of tokens sampled; null where it was not sampled by this program.
        completion_tokens: Option<i32>,
        /// The known answer, where the data set has one.
        answer: Option<String>,
        /// Whether the completion's final answer equals `answer`; null where there is none.
        correct: Option<bool>,
    }
}

#[cfg(test)]
mod tests;
