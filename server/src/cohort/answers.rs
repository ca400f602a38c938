//! What the members of a judged or given-up group are answered.
//!
//! Knows no request and no cohort.

use joust_schema::tables::{Reward, Status};

use super::terms::MemberAnswer;
use crate::judged::{GroupKey, JudgeTokens, Judged};
use crate::problem::Problem;

/// Result of one member of a judged group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberScore {
    pub(crate) group: GroupKey,
    /// Index in the group.
    pub(crate) member: usize,
    pub(crate) reward: f64,
    pub(crate) win_rate: Option<f64>,
    pub(crate) rating: Option<f64>,
    pub(crate) rating_stderr: Option<f64>,
    pub(crate) rank: Option<i32>,
    pub(crate) wins: i32,
    pub(crate) losses: i32,
    /// The member's share of the judge's tokens.
    pub(crate) tokens: JudgeTokens,
}

/// The problem of a given-up group as its members get it. A problem of this server alone stays what
/// it is: the same request succeeds later, or at the server that follows. So do a group that is not
/// valid, which no retry changes, and one whose result takes too long.
pub(super) fn problem_of_members(problem: &Problem) -> Problem {
    match problem {
        Problem::ServerStopping
        | Problem::JudgeStopped
        | Problem::QueueFull { .. }
        | Problem::Invalid(_)
        | Problem::TooLate(_) => problem.clone(),
        other => Problem::GivenUp(other.to_string()),
    }
}

/// Answers of a group's members, in their order.
pub(super) fn member_answers(judged: &Judged) -> Vec<MemberAnswer<MemberScore>> {
    let (tokens, n_members) = (JudgeTokens::of(&judged.result), judged.result.rewards.len());
    let refused = judged.result.why_all_failed().filter(|_| judged.result.is_refused);
    let is_lost = judged.result.lost_members();
    let answer = |(member, row): (usize, &Reward)| match row.reward {
        Some(reward) if row.status == Status::Scored => Ok(MemberScore {
            group: judged.key,
            member,
            reward,
            win_rate: row.win_rate,
            rating: row.rating,
            rating_stderr: row.rating_stderr,
            rank: row.rank,
            wins: row.wins,
            losses: row.losses,
            tokens: tokens.share(member, n_members),
        }),
        _ if is_lost[member] => Err(Problem::GivenUp(failure(judged))),
        _ => match &refused {
            Some(reason) => Err(Problem::Invalid(reason.clone())),
            None => {
                let status = row.status;
                Err(Problem::NoVotes(format!("the judge gave no valid vote ({status})")))
            }
        },
    };
    judged.result.rewards.iter().enumerate().map(answer).collect()
}

/// Why a member has no vote at all.
fn failure(judged: &Judged) -> String {
    let first = judged.result.tally().first_failure.unwrap_or_default();
    let shown: String = first.lines().next().unwrap_or_default().chars().take(600).collect();
    format!("the judge failed at all votes on this completion: {shown}")
}
