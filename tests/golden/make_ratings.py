"""Makes ratings.json: Bradley-Terry fits that the crate joust-reward must reproduce.

Two independent references:

- `cases`: the posterior with a position term, written as a logistic regression (one row of a design
  matrix per member pair and presentation order) and maximised with scipy; standard errors from the
  inverse of its Hessian, projected on strengths of mean zero.
- `prior_free`: connected groups without a dominated part, fitted without prior and position term by
  choix (Newton's method on the pairwise likelihood, and iterative Luce spectral ranking).

A match is the list [a, b, votes for a and for b with a shown first, the same with b shown first].

Run: python make_ratings.py    (writes ratings.json beside this file, the same bytes every time)
"""

import importlib.metadata
import json
import pathlib

import choix
import numpy as np
import scipy
from scipy.optimize import minimize, root
from scipy.special import expit, log_expit

SEED = 20260214
POSITION_BIAS_PRIOR_SD = 2.0


def draw_games(rng, theta, beta, pairs, n_votes):
    """Votes of each pair, the presentation order alternating from a random start."""
    games = []
    for a, b in pairs:
        counts = {"a_first": [0, 0], "b_first": [0, 0]}
        start = int(rng.integers(2))
        for vote in range(n_votes):
            order, sign = [("a_first", 1.0), ("b_first", -1.0)][(start + vote) % 2]
            a_wins = rng.random() < expit(theta[a] - theta[b] + sign * beta)
            counts[order][0 if a_wins else 1] += 1
        games.append({"a": int(a), "b": int(b), **counts})
    return games


def fit_posterior(n, games, prior_sd, position_bias):
    """Maximum a posteriori and projected standard errors by scipy."""
    rows, wins, losses = [], [], []
    for game in games:
        for order, sign in (("a_first", 1.0), ("b_first", -1.0)):
            row = np.zeros(n + 1)
            row[game["a"]], row[game["b"]] = 1.0, -1.0
            row[n] = sign if position_bias else 0.0
            rows.append(row)
            wins.append(game[order][0])
            losses.append(game[order][1])
    x, wins, losses = np.array(rows), np.array(wins, float), np.array(losses, float)
    precision = np.full(n + 1, prior_sd**-2)
    precision[n] = POSITION_BIAS_PRIOR_SD**-2

    def loss(w):
        return -(wins @ log_expit(x @ w) + losses @ log_expit(-x @ w)) + 0.5 * precision @ w**2

    def gradient(w):
        p = expit(x @ w)
        return -x.T @ (wins * (1 - p) - losses * p) + precision * w

    def hessian(w):
        p = expit(x @ w)
        return x.T @ (((wins + losses) * p * (1 - p))[:, None] * x) + np.diag(precision)

    near = minimize(
        loss,
        np.zeros(n + 1),
        jac=gradient,
        hess=hessian,
        method="trust-exact",
        options={"gtol": 1e-6},
    ).x
    w = root(gradient, near, jac=hessian, tol=1e-14).x
    assert np.abs(gradient(w)).max() < 1e-11, gradient(w)
    covariance = np.linalg.inv(hessian(w))
    centre = np.eye(n) - 1.0 / n
    stderr = np.sqrt(np.diag(centre @ covariance[:n, :n] @ centre))
    theta = centre @ w[:n]
    return theta, stderr, w[n], np.sqrt(covariance[n, n]) if position_bias else 0.0


def expected_win_rates(theta):
    """Mean over the other members of sigmoid(theta_i - theta_j)."""
    p = expit(theta[:, None] - theta[None, :])
    return (p.sum(axis=1) - 0.5) / (len(theta) - 1)


def rounded(values):
    """Rounds to ten decimals, which both references determine: the same bytes in each run."""
    return [round(float(value), 10) + 0.0 for value in np.atleast_1d(values)]


def flat(games):
    return [[game["a"], game["b"], *game["a_first"], *game["b_first"]] for game in games]


def all_pairs(n):
    return [(a, b) for a in range(n) for b in range(a + 1, n)]


def posterior_case(rng, name, n, pairs, n_votes, beta, prior_sd, position_bias):
    theta = rng.normal(0.0, 1.5, n)
    games = draw_games(rng, theta, beta, pairs, n_votes)
    theta, stderr, bias, bias_stderr = fit_posterior(n, games, prior_sd, position_bias)
    return {
        "name": name,
        "n": n,
        "prior_sd": prior_sd,
        "position_bias_fitted": position_bias,
        "games": flat(games),
        "theta": rounded(theta),
        "stderr": rounded(stderr),
        "win_rate": rounded(expected_win_rates(theta)),
        "position_bias": rounded(bias)[0],
        "position_bias_stderr": rounded(bias_stderr)[0],
    }


def prior_free_case(rng, name, n, pairs, n_votes):
    theta = rng.normal(0.0, 0.7, n)
    games = draw_games(rng, theta, 0.0, pairs, n_votes)
    wins = []
    for game in games:
        for order in ("a_first", "b_first"):
            wins += [(game["a"], game["b"])] * game[order][0] + [(game["b"], game["a"])] * game[
                order
            ][1]
    newton = choix.opt_pairwise(n, wins, alpha=0.0, method="Newton-CG", tol=1e-13)
    spectral = choix.ilsr_pairwise(n, wins, alpha=0.0, max_iter=1000, tol=1e-13)
    newton, spectral = newton - newton.mean(), spectral - spectral.mean()
    assert np.abs(newton - spectral).max() < 1e-7, (newton, spectral)
    # both references must agree
    return {
        "name": name,
        "n": n,
        "games": flat(games),
        "theta": [round(float(v), 6) + 0.0 for v in spectral],
    }


def one_case_a_line(document):
    """JSON with a line for each key and each case."""
    lines = []
    for key, value in document.items():
        if key in ("cases", "prior_free"):
            value = "[\n" + ",\n".join("  " + json.dumps(case) for case in value) + "\n ]"
        else:
            value = json.dumps(value)
        lines.append(f' "{key}": {value}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    rng = np.random.default_rng(SEED)
    ring = [(i, (i + 1) % 8) for i in range(8)]
    chords = ring + [(i, i + 3) for i in range(5)]
    bracket = [(0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (4, 6), (0, 4)]
    cases = [
        posterior_case(rng, "round robin of 8, one vote", 8, all_pairs(8), 1, 0.4, 1.5, True),
        posterior_case(
            rng,
            "round robin of 4, five votes, no position term",
            4,
            all_pairs(4),
            5,
            0.4,
            1.5,
            False,
        ),
        posterior_case(rng, "bracket of 8, three votes", 8, bracket, 3, 0.5, 1.5, True),
        posterior_case(rng, "ring of 8, one vote, wide prior", 8, ring, 1, -0.3, 6.0, True),
        posterior_case(
            rng, "ring with chords, two votes, narrow prior", 8, chords, 2, 1.5, 0.3, True
        ),
        posterior_case(rng, "two members, one vote", 2, [(0, 1)], 1, 0.0, 1.5, True),
        posterior_case(rng, "three members, one without a game", 3, [(1, 2)], 5, 0.5, 1.5, True),
        posterior_case(
            rng, "round robin of 16, sixteen votes", 16, all_pairs(16), 16, 0.3, 1.5, True
        ),
    ]
    prior_free = [
        prior_free_case(rng, "round robin of 6, forty votes", 6, all_pairs(6), 40),
        prior_free_case(rng, "ring with chords, sixty votes", 8, chords, 60),
    ]
    document = {
        "made_by": "tests/golden/make_ratings.py",
        "versions": {
            "choix": importlib.metadata.version("choix"),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "seed": SEED,
        "position_bias_prior_sd": POSITION_BIAS_PRIOR_SD,
        "cases": cases,
        "prior_free": prior_free,
    }
    path = pathlib.Path(__file__).with_name("ratings.json")
    path.write_text(one_case_a_line(document))


if __name__ == "__main__":
    main()
