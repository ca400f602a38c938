//! The scales of ratings: log-odds and Elo numbers.

/// The Elo number of a player of average strength.
pub const ELO_CENTRE: f64 = 1000.0;
/// Elo points for odds of ten to one.
pub const ELO_SCALE: f64 = 400.0;

/// Writes a Bradley-Terry strength as an Elo number: 1000 + theta * 400 / ln 10.
///
/// Both scales then give the same win probability, sigmoid(d theta) = 1 / (1 + 10^(-d elo / 400)).
pub fn elo_number(theta: f64) -> f64 {
    ELO_CENTRE + theta * ELO_SCALE / std::f64::consts::LN_10
}

/// The logistic function 1 / (1 + e^-x), without overflow.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let odds = x.exp();
        odds / (1.0 + odds)
    }
}
