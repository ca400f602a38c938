//! What commands tell about votes that failed or were cut off, and the failure of a command that
//! got no vote at all.
//!
//! It does not know how votes are counted.

use anyhow::bail;
use joust_reward::VoteTally;

/// Lines about votes without a reply and votes that were cut off; none if there are no such votes.
pub(crate) fn vote_warnings(tally: &VoteTally) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(reason) = &tally.first_failure {
        lines.push(format!(
            "{} of {} votes have no reply of the judge; the first: {reason}",
            tally.n_failed, tally.n_votes
        ));
    }
    if tally.n_cut_off > 0 {
        lines.push(format!(
            "{} of {} votes were cut off: reward.judge.max_thinking_tokens, or the context of the \
             judge's server, is too short for them",
            tally.n_cut_off, tally.n_votes
        ));
    }
    lines
}

/// Fails if more than the share `max_failed` of the votes have no reply.
///
/// # Errors
/// The reason of the first vote.
pub(crate) fn refuse_lost_votes(tally: &VoteTally, max_failed: f64) -> anyhow::Result<()> {
    if !tally.exceeds(max_failed) {
        return Ok(());
    }
    bail!(
        "{} of {} votes have no reply of the judge, more than reward.max_failed = {max_failed} \
         allows, so that the rewards made of the others may be wrong: {}",
        tally.n_lost,
        tally.n_asked,
        tally.first_failure.as_deref().unwrap_or_default()
    )
}

/// Fails if votes were wanted and none came, or none has a verdict.
///
/// # Errors
/// The first reason.
pub(crate) fn refuse_no_votes(tally: &VoteTally) -> anyhow::Result<()> {
    match tally.why_none_came() {
        Some(reason) if tally.n_failed == tally.n_votes => {
            bail!("none of {} votes came: {reason}", tally.n_votes)
        }
        Some(reason) => bail!("none of {} votes has a verdict: {reason}", tally.n_votes),
        None => Ok(()),
    }
}
