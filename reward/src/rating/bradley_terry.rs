//! Bradley-Terry strengths of groups with standard errors, and the judge's position bias, from vote
//! counts.
//!
//! Knows settings and ratings; `posterior` finds the maximum. It does not depend on the order of
//! matches or votes. Every player gets a rating: a player without a match has strength 0 and the
//! error of the prior, and the caller decides whether that counts.

use std::sync::LazyLock;

use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curvature::Curvature;
use super::posterior::{GroupTerms, Posterior, Shared, VoteTerm};
use super::scale::sigmoid;
use super::votes::{GroupVotes, MatchVotes};
use super::win_rate::expected_win_rate;

/// Prior standard deviation of the position bias, in logits.
///
/// Weakly informative: public judge logs prefer the first position in 56 to 63 of 100 votes (0.2 to
/// 0.5 logits), some judges in 90 (2 logits). A narrower prior leaves more of the bias in the
/// strengths of a group that is rated alone: with 1 logit, three rounds of Swiss kept a correlation
/// of 0.09 with the times shown first at 1 logit of bias, with 2 logits 0.03
/// (`bench/position_bias.py`), for 0.002 less correlation with the true order without any bias.
pub const POSITION_BIAS_PRIOR_SD: f64 = 2.0;

/// How the strengths are fitted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct BradleyTerryConfig {
    /// Standard deviation of the Gaussian prior on each strength, in logits. A smaller value pulls
    /// completions with few votes closer together.
    // beyond, the curvature is singular in floating point
    #[schemars(range(min = 1e-3, max = 1e4))]
    pub prior_sd: f64,
    /// Whether a term for the judge's preference for the answer that is shown first is fitted.
    pub position_bias: bool,
}

impl Default for BradleyTerryConfig {
    /// A spread of 1.5 logits is that of the simulated groups by which the number of Swiss rounds
    /// was chosen.
    fn default() -> Self {
        Self { prior_sd: 1.5, position_bias: true }
    }
}

impl BradleyTerryConfig {
    /// All problems, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        // read for every group
        static KEYS: LazyLock<ConfigKeys> = LazyLock::new(ConfigKeys::of::<BradleyTerryConfig>);
        validate(self, &KEYS)
    }
}

/// A player's strength within its group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength {
    /// Strength in logits; the group's mean is 0.
    pub theta: f64,
    /// Standard error of `theta`, in logits.
    pub stderr: f64,
    /// Expected share of wins against the rest of the group without position bias; 0.5 in a group
    /// of one.
    pub win_rate: f64,
}

/// How far a judge prefers the answer that is shown first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PositionBias {
    /// Log-odds by which it prefers that answer; 0 if it was not fitted.
    pub logits: f64,
    /// Standard error of `logits`; 0 if it was not fitted.
    pub stderr: f64,
}

/// A fitted group.
#[derive(Clone, Debug, PartialEq)]
pub struct BradleyTerry {
    /// One strength per player.
    pub ratings: Vec<Strength>,
    /// The judge's position bias.
    pub position_bias: PositionBias,
    /// Newton steps taken.
    pub iterations: usize,
}

/// Fits strengths and position bias to the votes of a group (maximum a posteriori): the fit of
/// [`bradley_terry_of_groups`] to this group alone.
///
/// # Panics
/// As [`bradley_terry_of_groups`].
pub fn bradley_terry(
    n: usize,
    matches: &[MatchVotes],
    config: &BradleyTerryConfig,
) -> BradleyTerry {
    let mut fits = bradley_terry_of_groups(&[GroupVotes { n, matches }], config);
    fits.pop().expect("A group has a fit. This is a bug.")
}

/// Fits strengths of several groups, and one position bias of the judge of all of them (maximum a
/// posteriori). The fits are in the order of the groups.
///
/// ```text
/// logit P(a wins | a shown first) = theta_a - theta_b + beta
/// logit P(a wins | b shown first) = theta_a - theta_b - beta
/// maximised: sum over votes of log P(vote)
///            - sum_i theta_i^2 / (2 prior_sd^2) - beta^2 / (2 sd_beta^2)
/// stderr_i^2 = e^T H^-1 e, with e = unit_i - 1/n on the strengths of i's group
/// win_rate_i = mean over j != i of sigmoid(theta_i - theta_j)
/// ```
///
/// sd_beta is [`POSITION_BIAS_PRIOR_SD`]. The prior keeps the fit finite if a player won or lost
/// everything, the usual case in a small group; at the maximum a group's strengths add up to 0.
/// H is the negative Hessian there; its inverse is projected on strengths of mean 0, since the
/// group's common level is no finding. It includes what is not known of beta.
///
/// A judge that always names the answer shown first gives equal strengths to players that were
/// shown first as often as second; otherwise beta explains what it can and the rest stays in the
/// strengths. Several groups tell more about beta than one, and less is left.
///
/// Source: Bradley and Terry, "Rank Analysis of Incomplete Block Designs", 1952; the order term is
/// that of Davidson and Beaver, "On Extending the Bradley-Terry Model to Incorporate Within-Pair
/// Order Effects", 1977.
///
/// # Panics
/// If a match names a player outside `0..n` or one player twice, or if the config does not
/// validate.
pub fn bradley_terry_of_groups(
    groups: &[GroupVotes<'_>],
    config: &BradleyTerryConfig,
) -> Vec<BradleyTerry> {
    if !config.position_bias {
        // nothing is common: no group's last digits depend on another's
        let bias = PositionBias::default();
        let alone =
            |group: &GroupVotes<'_>| bradley_terry_with_bias(group.n, group.matches, config, bias);
        return groups.iter().map(alone).collect();
    }
    check(groups, config);
    let posterior = Posterior {
        groups: groups.iter().map(|group| by_position(group, |_, _| 0.0)).collect(),
        precision: config.prior_sd.powi(-2),
        shared: Shared::Fitted { precision: POSITION_BIAS_PRIOR_SD.powi(-2) },
    };
    let maximum = posterior.maximum();
    let position_bias =
        PositionBias { logits: maximum.at.shared, stderr: maximum.shared_variance.sqrt() };
    let fit = |(group, theta): (&GroupTerms, &Vec<f64>)| {
        let iterations = maximum.iterations;
        fitted(&posterior, group, theta, position_bias, iterations)
    };
    posterior.groups.iter().zip(&maximum.at.thetas).map(fit).collect()
}

/// Fits the strengths of a group to a position bias that is known from elsewhere. With the bias of
/// a fit of several groups, the strengths and errors are those of that fit.
///
/// # Panics
/// As [`bradley_terry_of_groups`].
pub fn bradley_terry_with_bias(
    n: usize,
    matches: &[MatchVotes],
    config: &BradleyTerryConfig,
    position_bias: PositionBias,
) -> BradleyTerry {
    let groups = [GroupVotes { n, matches }];
    check(&groups, config);
    let posterior = Posterior {
        groups: vec![by_position(&groups[0], |_, _| 0.0)],
        precision: config.prior_sd.powi(-2),
        shared: Shared::Fixed(position_bias.logits),
    };
    let maximum = posterior.maximum();
    let (group, theta) = (&posterior.groups[0], &maximum.at.thetas[0]);
    fitted(&posterior, group, theta, position_bias, maximum.iterations)
}

/// The votes of a group, with the position bias as the shared coefficient and an offset per pair of
/// players.
pub(super) fn by_position(
    group: &GroupVotes<'_>,
    offset: impl Fn(usize, usize) -> f64,
) -> GroupTerms {
    GroupTerms::new(group, |a, b, sign| VoteTerm { offset: offset(a, b), covariate: sign })
}

fn check(groups: &[GroupVotes<'_>], config: &BradleyTerryConfig) {
    for GroupVotes { n, matches } in groups {
        for pair in *matches {
            let fits = pair.a != pair.b && pair.a < *n && pair.b < *n;
            assert!(fits, "match {} against {} in a group of {n}. This is a bug.", pair.a, pair.b);
        }
    }
    let problems = config.validate();
    assert!(problems.is_empty(), "{problems:?}. This is a bug.");
}

/// The fit of a group at the maximum of a posterior by position.
fn fitted(
    posterior: &Posterior,
    group: &GroupTerms,
    theta: &[f64],
    position_bias: PositionBias,
    iterations: usize,
) -> BradleyTerry {
    let slopes = posterior.slopes(group, theta, position_bias.logits);
    let error = SharedError { mixed: &slopes.mixed, stderr: position_bias.stderr };
    let ratings = strengths(&slopes.curvature, theta, &[error]);
    BradleyTerry { ratings, position_bias, iterations }
}

/// The error of a shared coefficient, which is in all strengths.
pub(super) struct SharedError<'a> {
    /// Mixed curvature of strengths and coefficient.
    pub(super) mixed: &'a [f64],
    /// Standard error of the coefficient.
    pub(super) stderr: f64,
}

/// Strengths, standard errors and win rates at the maximum. The errors of the coefficients count as
/// independent.
pub(super) fn strengths(
    curvature: &Curvature,
    theta: &[f64],
    shared: &[SharedError<'_>],
) -> Vec<Strength> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let level = mean(theta);
    let thetas: Vec<f64> = theta.iter().map(|theta| theta - level).collect();
    let mut variances = curvature.centred_variances();
    for SharedError { mixed, stderr } in shared {
        // how the strengths move with the coefficient
        let per_unit = curvature.solve(mixed);
        let level_per_unit = mean(&per_unit);
        for (variance, per_unit) in variances.iter_mut().zip(per_unit) {
            let error = (per_unit - level_per_unit) * stderr;
            *variance += error * error;
        }
    }
    let n_each = vec![1; thetas.len()];
    let win_rates = expected_win_rate(&n_each, &|a, b| sigmoid(thetas[a] - thetas[b]));
    let strength = |player: usize| Strength {
        theta: thetas[player],
        stderr: variances[player].sqrt(),
        win_rate: win_rates[player].unwrap_or(0.5),
    };
    (0..thetas.len()).map(strength).collect()
}
