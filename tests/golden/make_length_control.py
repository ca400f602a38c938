"""Makes length_control.json: Bradley-Terry fits of several groups with a slope on the lengths of
the answers, that the crate joust-reward must reproduce.

The reference is two logistic regressions over all groups, maximised with scipy. The first has a
block of columns per group and one common column for the answer shown first. The second has the
position as an offset, at the value of the first, and one common column for the difference of the
length terms. Standard errors come from the inverse of the whole Hessian of the second, projected on
strengths of mean zero within each group, plus the error of the position term times what it moves
the strengths.

Run: python make_length_control.py    (length_control.json beside this file; needs numpy, scipy)
"""

import json
import pathlib

import numpy as np
import scipy
from scipy.optimize import minimize, root
from scipy.special import expit, log_expit

SEED = 20261130
POSITION_BIAS_PRIOR_SD = 2.0
LENGTH_SLOPE_PRIOR_SD = 1.0


def draw_games(rng, logits, beta, pairs, n_votes):
    """[a, b, votes for a and b with a shown first, the same with b shown first]."""
    games = []
    for a, b in pairs:
        counts = [[0, 0], [0, 0]]
        start = int(rng.integers(2))
        for vote in range(n_votes):
            order = (start + vote) % 2
            sign = 1.0 if order == 0 else -1.0
            a_wins = rng.random() < expit(logits[a] - logits[b] + sign * beta)
            counts[order][0 if a_wins else 1] += 1
        games.append([int(a), int(b), *counts[0], *counts[1]])
    return games


def length_terms(groups):
    """Per group the terms of its players, 0 without votes."""
    distances = []
    for lengths, games in groups:
        lengths = np.array(lengths, float)
        met = sorted({player for game in games for player in game[:2] if sum(game[2:]) > 0})
        own = np.full(len(lengths), np.nan)
        if met:
            own[met] = lengths[met] - lengths[met].mean()
        distances.append(own)
    counts = [np.count_nonzero(~np.isnan(own)) for own in distances]
    free = sum(count - 1 for count in counts if count > 0)
    sd = np.sqrt(sum(np.nansum(own**2) for own in distances) / free)
    return [np.nan_to_num(np.tanh(own / sd)) for own in distances]


def maximum(x, offset, wins, losses, precision):
    """Coefficients and negative Hessian at the maximum."""

    def logit(w):
        return x @ w + offset

    def loss(w):
        at = logit(w)
        return -(wins @ log_expit(at) + losses @ log_expit(-at)) + 0.5 * precision @ w**2

    def gradient(w):
        p = expit(logit(w))
        return -x.T @ (wins * (1 - p) - losses * p) + precision * w

    def hessian(w):
        p = expit(logit(w))
        return x.T @ (((wins + losses) * p * (1 - p))[:, None] * x) + np.diag(precision)

    start = np.zeros(x.shape[1])
    options = {"gtol": 1e-6}
    near = minimize(
        loss, start, jac=gradient, hess=hessian, method="trust-exact", options=options
    ).x
    w = root(gradient, near, jac=hessian, tol=1e-14).x
    assert np.abs(gradient(w)).max() < 1e-11, gradient(w)
    return w, hessian(w)


def fit(groups, prior_sd):
    """The fit of groups, each its lengths and its games."""
    starts = np.cumsum([0] + [len(lengths) for lengths, _ in groups])
    n_all = int(starts[-1])
    terms = length_terms(groups)
    rows, signs, by_length, wins, losses = [], [], [], [], []
    for (_, games), start, own in zip(groups, starts, terms):
        for a, b, p, q, r, s in games:
            for sign, won, lost in ((1.0, p, q), (-1.0, r, s)):
                if won + lost > 0:
                    row = np.zeros(n_all)
                    row[start + a], row[start + b] = 1.0, -1.0
                    rows.append(row)
                    signs.append(sign)
                    by_length.append(own[a] - own[b])
                    wins.append(won)
                    losses.append(lost)
    players, signs, by_length = np.array(rows), np.array(signs), np.array(by_length)
    wins, losses = np.array(wins, float), np.array(losses, float)
    of_players = np.full(n_all, prior_sd**-2)

    with_position = np.column_stack([players, signs])
    precision = np.append(of_players, POSITION_BIAS_PRIOR_SD**-2)
    plain, curvature = maximum(with_position, np.zeros(len(wins)), wins, losses, precision)
    beta, beta_variance = plain[n_all], np.linalg.inv(curvature)[n_all, n_all]

    with_length = np.column_stack([players, by_length])
    precision = np.append(of_players, LENGTH_SLOPE_PRIOR_SD**-2)
    w, curvature = maximum(with_length, signs * beta, wins, losses, precision)
    covariance = np.linalg.inv(curvature)
    p = expit(with_length @ w + signs * beta)
    mixed = players.T @ ((wins + losses) * p * (1 - p) * signs)
    per_beta = np.linalg.solve(curvature[:n_all, :n_all], mixed)
    fits = []
    for (lengths, games), start in zip(groups, starts):
        n = len(lengths)
        own = slice(start, start + n)
        centre = np.eye(n) - 1.0 / n
        variance = np.diag(centre @ covariance[own, own] @ centre)
        variance = variance + (centre @ per_beta[own]) ** 2 * beta_variance
        fits.append({
            "lengths": lengths,
            "games": games,
            "theta": rounded(centre @ w[own]),
            "stderr": rounded(np.sqrt(variance)),
        })
    return {
        "prior_sd": prior_sd,
        "groups": fits,
        "position_bias": rounded([beta])[0],
        "length_slope": rounded([w[n_all]])[0],
        "length_slope_stderr": rounded([np.sqrt(covariance[n_all, n_all])])[0],
    }


def rounded(values):
    return [round(float(value), 10) + 0.0 for value in values]


def main():
    rng = np.random.default_rng(SEED)

    def group(n, n_pairs, n_votes, beta, per_sd):
        lengths = [int(length) for length in rng.lognormal(5.0, 0.5, n)]
        logits = rng.normal(0.0, 1.5, n) + per_sd * (np.array(lengths) - 170.0) / 80.0
        every = [(a, b) for a in range(n) for b in range(a + 1, n)]
        chosen = rng.choice(len(every), size=min(n_pairs, len(every)), replace=False)
        pairs = [every[idx] for idx in sorted(chosen)]
        return lengths, draw_games(rng, logits, beta, pairs, n_votes)

    step = [group(8, 16, 1, 0.5, 0.8) for _ in range(16)]
    mixed = [
        group(2, 1, 3, -0.4, -1.0),
        group(5, 10, 2, -0.4, -1.0),
        ([40, 7, 900], []),
        ([12], []),
        ([80, 80, 80], [[0, 1, 1, 0, 0, 0], [1, 2, 1, 0, 0, 1]]),
        ([10, 20, 5000], [[0, 1, 0, 2, 0, 1], [0, 2, 0, 0, 0, 0]]),
        group(9, 20, 1, -0.4, -1.0),
    ]
    alone = [group(8, 16, 1, 0.0, 1.0)]
    cases = {
        "sixteen groups of a step": fit(step, 1.5),
        "groups of unlike size, some without votes or lengths that differ": fit(mixed, 0.8),
        "a group alone": fit(alone, 1.5),
    }
    out = {
        "made_by": "make_length_control.py",
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
        "seed": SEED,
        "position_bias_prior_sd": POSITION_BIAS_PRIOR_SD,
        "length_slope_prior_sd": LENGTH_SLOPE_PRIOR_SD,
        "cases": cases,
    }
    path = pathlib.Path(__file__).with_name("length_control.json")
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")


main()
