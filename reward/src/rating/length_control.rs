//! The judge's preference for longer answers as a slope of the strengths on the lengths, and the
//! strengths at equal length.
//!
//! In: the votes of groups, their fits without a slope, and a length per player. It does not know
//! what a length counts, nor whether the strengths at equal length are used.
//!
//! The slope is fitted together with the strengths, not to the fitted strengths: their prior has
//! pulled those towards 0, most those of players with few votes, and a slope on them is smaller by
//! a third to a half. What remains of the length in the rewards is the same for both after a Swiss
//! tournament (`bench/length_control.py`), where all have the same number of votes. The position
//! bias is kept as it was fitted before: who is shown first does not depend on the length, and with
//! one bias for both fits a group of equal lengths keeps its ratings to the last digit.

use super::bradley_terry::{BradleyTerry, BradleyTerryConfig, SharedError, by_position, strengths};
use super::posterior::{GroupTerms, Maximum, Posterior, Shared, VoteTerm};
use super::votes::GroupVotes;

/// Prior standard deviation of the slope, in logits.
///
/// It decides about groups that are rated alone, where chance makes the better answers longer in
/// some groups and shorter in others. In groups of eight after four rounds of Swiss, 2 logits lost
/// 0.03 of the correlation with the true order under a judge without preference, 1 logit 0.01, and
/// 0.5 logits left nearly all of a preference in the rewards. With a step of sixteen groups the
/// prior hardly matters (`bench/length_control.py`).
pub const LENGTH_SLOPE_PRIOR_SD: f64 = 1.0;

/// How far a judge prefers longer answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthSlope {
    /// Logits by which a strength rises with the length term of its answer.
    pub logits: f64,
    /// Standard error of `logits`.
    pub stderr: f64,
}

/// Votes of a group with the lengths of its answers.
#[derive(Clone, Copy, Debug)]
pub struct MeasuredGroup<'a> {
    /// The votes.
    pub votes: GroupVotes<'a>,
    /// Per player: the length of its answer.
    pub lengths: &'a [usize],
}

/// A slope that is fitted to groups together with their strengths.
pub struct LengthFit<'a> {
    groups: &'a [MeasuredGroup<'a>],
    plain: &'a [BradleyTerry],
    terms: Vec<Vec<f64>>,
    posterior: Posterior,
    maximum: Maximum,
}

impl<'a> LengthFit<'a> {
    /// Fits the strengths of groups at equal length, and one slope for all groups (maximum a
    /// posteriori). `plain` has the fits of the groups by
    /// [`bradley_terry_of_groups`](super::bradley_terry::bradley_terry_of_groups), whose position
    /// bias is kept. `None` if no two answers with votes of a group differ in length.
    ///
    /// ```text
    /// x_i = tanh((length_i - mean length of i's group) / sd)
    /// sd^2 = sum over groups of squared distances from their means / (players - groups)
    /// logit P(a wins) = theta_a - theta_b + gamma (x_a - x_b) +- beta
    /// maximised over theta and gamma: sum over votes of log P(vote)
    ///            - sum_i theta_i^2 / (2 prior_sd^2) - gamma^2 / (2 sd_gamma^2)
    /// ```
    ///
    /// theta are the strengths at equal length, gamma is the slope, beta the position bias (+ if a
    /// was shown first), sd_gamma is [`LENGTH_SLOPE_PRIOR_SD`]. The prior of a player's whole
    /// strength s_i = theta_i + gamma x_i is N(gamma x_i, prior_sd^2), and with the s_i of the
    /// maximum
    ///
    /// ```text
    /// gamma = sum_i x_i s_i / (sum_i x_i^2 + prior_sd^2 / sd_gamma^2)
    /// ```
    ///
    /// where players without votes count nothing: means and sd are those of players with votes. The
    /// tanh keeps an answer of extreme length from deciding alone. Of a group that is rated alone
    /// the sum of x^2 is small, and most of gamma is the prior's.
    ///
    /// Source: the length term of the length-controlled win rate of AlpacaEval 2, Dubois et al.,
    /// arXiv 2404.04475, which is set to 0 after the fit; there it is of the difference of two
    /// lengths, here a difference of terms of the two, so that strengths exist.
    ///
    /// # Panics
    /// If a group has not as many lengths as players, or if votes or config are not those of the
    /// plain fits.
    pub fn of(
        groups: &'a [MeasuredGroup<'a>],
        plain: &'a [BradleyTerry],
        config: &BradleyTerryConfig,
    ) -> Option<Self> {
        assert_eq!(groups.len(), plain.len(), "a fit per group. This is a bug.");
        let terms = length_terms(groups)?;
        let with_term =
            |((group, terms), plain): ((&MeasuredGroup<'_>, &Vec<f64>), &BradleyTerry)| {
                let beta = plain.position_bias.logits;
                GroupTerms::new(&group.votes, |a, b, sign| VoteTerm {
                    offset: sign * beta,
                    covariate: terms[a] - terms[b],
                })
            };
        let posterior = Posterior {
            groups: groups.iter().zip(&terms).zip(plain).map(with_term).collect(),
            precision: config.prior_sd.powi(-2),
            shared: Shared::Fitted { precision: LENGTH_SLOPE_PRIOR_SD.powi(-2) },
        };
        let maximum = posterior.maximum_from(plain.iter().map(thetas).collect());
        Some(Self { groups, plain, terms, posterior, maximum })
    }

    /// The slope.
    pub fn slope(&self) -> LengthSlope {
        LengthSlope { logits: self.maximum.at.shared, stderr: self.maximum.shared_variance.sqrt() }
    }

    /// The fits of the groups at equal length. Standard errors include what is not known of the
    /// slope. A group whose answers are equally long keeps its plain fit.
    pub fn at_equal_length(&self) -> Vec<BradleyTerry> {
        (0..self.groups.len()).map(|idx| self.group_at_equal_length(idx)).collect()
    }

    fn group_at_equal_length(&self, idx: usize) -> BradleyTerry {
        let (plain, terms) = (&self.plain[idx], &self.terms[idx]);
        if terms.iter().all(|&term| term == 0.0) {
            return plain.clone();
        }
        let theta = &self.maximum.at.thetas[idx];
        let (slope, bias) = (self.slope(), plain.position_bias);
        let by_length = self.posterior.slopes(&self.posterior.groups[idx], theta, slope.logits);
        let offset = |a: usize, b: usize| (terms[a] - terms[b]) * slope.logits;
        let group = by_position(&self.groups[idx].votes, offset);
        let by_position = self.posterior.slopes(&group, theta, bias.logits);
        let errors = [
            SharedError { mixed: &by_position.mixed, stderr: bias.stderr },
            SharedError { mixed: &by_length.mixed, stderr: slope.stderr },
        ];
        BradleyTerry {
            ratings: strengths(&by_length.curvature, theta, &errors),
            position_bias: bias,
            iterations: plain.iterations + self.maximum.iterations,
        }
    }
}

fn thetas(fit: &BradleyTerry) -> Vec<f64> {
    fit.ratings.iter().map(|rating| rating.theta).collect()
}

/// Per group and player the length term, 0 for a player without votes; `None` if all are 0.
fn length_terms(groups: &[MeasuredGroup<'_>]) -> Option<Vec<Vec<f64>>> {
    let centred: Vec<Vec<Option<f64>>> = groups.iter().map(centred_lengths).collect();
    let (mut sum, mut n_free) = (0.0, 0);
    for group in &centred {
        sum += group.iter().flatten().map(|distance| distance * distance).sum::<f64>();
        n_free += group.iter().flatten().count().saturating_sub(1);
    }
    if sum == 0.0 {
        return None;
    }
    let sd = (sum / n_free as f64).sqrt();
    let term = |distance: Option<f64>| distance.map_or(0.0, |distance| (distance / sd).tanh());
    Some(centred.into_iter().map(|group| group.into_iter().map(term).collect()).collect())
}

/// Per player with votes the distance of its length from the mean of those players.
fn centred_lengths(group: &MeasuredGroup<'_>) -> Vec<Option<f64>> {
    let GroupVotes { n, matches } = group.votes;
    assert_eq!(group.lengths.len(), n, "a length per player. This is a bug.");
    let mut has_votes = vec![false; n];
    for pair in matches.iter().filter(|pair| pair.votes_a() + pair.votes_b() > 0) {
        (has_votes[pair.a], has_votes[pair.b]) = (true, true);
    }
    let lengths = || group.lengths.iter().zip(&has_votes);
    let (mut sum, mut n_counted) = (0.0, 0);
    for (&length, _) in lengths().filter(|(_, has_votes)| **has_votes) {
        sum += length as f64;
        n_counted += 1;
    }
    let mean = sum / f64::from(n_counted.max(1));
    lengths().map(|(&length, has_votes)| has_votes.then_some(length as f64 - mean)).collect()
}

#[cfg(test)]
mod tests;
