"""Makes pooled_ratings.json: Bradley-Terry fits of several groups with one position term, and of a
large group, that the crate joust-reward must reproduce.

The reference is one logistic regression over all groups, maximised with scipy: a block of columns
per group and one common column for the answer shown first. Standard errors come from the inverse of
the whole Hessian, projected on strengths of mean zero within each group.

Run: python make_pooled_ratings.py    (pooled_ratings.json beside this file; needs numpy, scipy)
"""

import json
import pathlib

import numpy as np
import scipy
from scipy.optimize import minimize, root
from scipy.special import expit, log_expit

SEED = 20261129
POSITION_BIAS_PRIOR_SD = 2.0


def draw_games(rng, theta, beta, pairs, n_votes):
    """[a, b, votes for a and b with a shown first, the same with b shown first]."""
    games = []
    for a, b in pairs:
        counts = [[0, 0], [0, 0]]
        start = int(rng.integers(2))
        for vote in range(n_votes):
            order = (start + vote) % 2
            sign = 1.0 if order == 0 else -1.0
            a_wins = rng.random() < expit(theta[a] - theta[b] + sign * beta)
            counts[order][0 if a_wins else 1] += 1
        games.append([int(a), int(b), *counts[0], *counts[1]])
    return games


def fit(groups, prior_sd):
    """Maximum a posteriori of all strengths and the common term."""
    starts = np.cumsum([0] + [n for n, _ in groups])
    n_all = int(starts[-1])
    rows, wins, losses = [], [], []
    for (_, games), start in zip(groups, starts):
        for a, b, p, q, r, s in games:
            for sign, won, lost in ((1.0, p, q), (-1.0, r, s)):
                if won + lost == 0:
                    continue
                row = np.zeros(n_all + 1)
                row[start + a], row[start + b], row[n_all] = 1.0, -1.0, sign
                rows.append(row)
                wins.append(won)
                losses.append(lost)
    x, wins, losses = np.array(rows), np.array(wins, float), np.array(losses, float)
    precision = np.full(n_all + 1, prior_sd**-2)
    precision[n_all] = POSITION_BIAS_PRIOR_SD**-2

    def loss(w):
        return -(wins @ log_expit(x @ w) + losses @ log_expit(-x @ w)) + 0.5 * precision @ w**2

    def gradient(w):
        p = expit(x @ w)
        return -x.T @ (wins * (1 - p) - losses * p) + precision * w

    def hessian(w):
        p = expit(x @ w)
        return x.T @ (((wins + losses) * p * (1 - p))[:, None] * x) + np.diag(precision)

    options = {"gtol": 1e-6}
    near = minimize(
        loss, np.zeros(n_all + 1), jac=gradient, hess=hessian, method="trust-exact", options=options
    ).x
    w = root(gradient, near, jac=hessian, tol=1e-14).x
    assert np.abs(gradient(w)).max() < 1e-11, gradient(w)
    covariance = np.linalg.inv(hessian(w))
    fits = []
    for (n, games), start in zip(groups, starts):
        own = slice(start, start + n)
        centre = np.eye(n) - 1.0 / n
        fits.append({
            "n": n,
            "games": games,
            "theta": rounded(centre @ w[own]),
            "stderr": rounded(np.sqrt(np.diag(centre @ covariance[own, own] @ centre))),
        })
    return {
        "prior_sd": prior_sd,
        "groups": fits,
        "position_bias": rounded([w[n_all]])[0],
        "position_bias_stderr": rounded([np.sqrt(covariance[n_all, n_all])])[0],
    }


def rounded(values):
    return [round(float(value), 10) + 0.0 for value in values]


def main():
    rng = np.random.default_rng(SEED)

    def pairs_of(n, n_pairs):
        every = [(a, b) for a in range(n) for b in range(a + 1, n)]
        chosen = rng.choice(len(every), size=min(n_pairs, len(every)), replace=False)
        return [every[idx] for idx in sorted(chosen)]

    def group(n, n_pairs, n_votes, beta):
        theta = rng.normal(0.0, 1.5, n)
        return n, draw_games(rng, theta, beta, pairs_of(n, n_pairs), n_votes)

    step = [group(8, 12, 1, 0.7) for _ in range(16)]
    mixed = [group(2, 1, 3, -0.4), group(5, 10, 2, -0.4), (3, []), (1, []), group(9, 20, 1, -0.4)]
    large = [group(200, 800, 1, 0.5)]
    cases = {
        "sixteen groups of a step": fit(step, 1.5),
        "groups of unlike size, one without matches": fit(mixed, 0.8),
        "a large group in which few meet": fit(large, 1.5),
    }
    out = {
        "made_by": "make_pooled_ratings.py",
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
        "seed": SEED,
        "position_bias_prior_sd": POSITION_BIAS_PRIOR_SD,
        "cases": cases,
    }
    path = pathlib.Path(__file__).with_name("pooled_ratings.json")
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")


main()
