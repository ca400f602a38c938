//! Why a step had no update: what its completions and their rewards look like.
//!
//! It knows scored groups, and not what is done about it.

use joust_reward::rule::Correctness;
use joust_schema::tables::FinishReason;

use super::refill::has_spread;
use super::scored::ScoredGroup;

/// Why nothing can be learned from groups; none for no groups.
pub(super) fn why_nothing_is_learned(groups: &[ScoredGroup]) -> Option<String> {
    let completions = || groups.iter().flat_map(|group| &group.rollout.completions);
    let rewards = || groups.iter().flat_map(|group| &group.result.rewards);
    let known = || groups.iter().flat_map(ScoredGroup::known_correctness);
    let n = completions().count();
    if n == 0 {
        return None;
    }
    let are_cut_off = completions().all(|row| row.finish_reason == FinishReason::Length);
    let are_all = |wanted| known().count() == n && known().all(|found| *found == wanted);
    Some(if rewards().all(|row| row.reward.is_none()) {
        format!("none of its {n} completions has a reward")
    } else if are_cut_off {
        format!("all of its {n} completions reached rollout.max_completion_length")
    } else if are_all(Correctness::NoAnswer) {
        format!("in none of its {n} completions was an answer found")
    } else if groups.iter().all(has_equal_texts) {
        "the completions of each group are equal".to_owned()
    } else if groups.iter().any(|group| has_spread(&group.result)) {
        "where rewards differ, too few completions are left that did not reach \
         rollout.max_completion_length (trainer.mask_truncated_completions)"
            .to_owned()
    } else {
        "the rewards of each group are equal".to_owned()
    })
}

fn has_equal_texts(group: &ScoredGroup) -> bool {
    let completions = &group.rollout.completions;
    completions.windows(2).all(|pair| pair[0].completion == pair[1].completion)
}
