"""What a judge's preference for the first position leaves in the rewards of a Swiss tournament.

An independent model of the program's tournament and rating: eight equal answers, one vote per
match, a judge that prefers the answer shown first by so many logits. Prints the mean correlation of
a reward with the times that the answer was shown first less the times it was second, and the range
of the rewards in a group, for pairing by score alone and for pairing that evens out who was first,
with a position term per group and per step of 16 groups.

Run: python bench/position_bias.py [STEPS]    (needs numpy; the errors printed are of the means)
"""

import random
import sys

import numpy as np

N, GROUPS, PRIOR_SD, BIAS_SD = 8, 16, 1.5, 2.0


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pair(order, allowed):
    """The first pairing from the top of the ranking in which every pair is allowed."""
    if not order:
        return []
    top, rest = order[0], order[1:]
    for at, other in enumerate(rest):
        if allowed(top, other):
            others = pair(rest[:at] + rest[at + 1 :], allowed)
            if others is not None:
                return [(top, other), *others]
    return None


def tournament(rounds, bias, rng, evens_out):
    """Votes as (first, second, first won), and per answer times first less times second."""
    points, balance, met, votes = [0] * N, [0] * N, set(), []
    for _ in range(rounds):
        order = sorted(range(N), key=lambda i: (-points[i], i))
        middle = sorted(balance)[N // 2 - 1 : N // 2 + 1]

        def fresh(a, b, met=met):
            return (min(a, b), max(a, b)) not in met

        def even(a, b, middle=middle):
            low, high = sorted((balance[a], balance[b]))
            return fresh(a, b) and low <= middle[0] and high >= middle[1]

        pairs = (pair(order, even) if evens_out else None) or pair(order, fresh)
        for a, b in pairs:
            met.add((min(a, b), max(a, b)))
            coin = rng.random() < 0.5 if balance[a] == balance[b] else balance[a] < balance[b]
            first, second = (a, b) if coin else (b, a)
            balance[first] += 1
            balance[second] -= 1
            won = rng.random() < sigmoid(bias)
            points[first if won else second] += 1
            votes.append((first, second, won))
    return votes, balance


def win_rates(groups):
    """Win rates of each group, with one position term for all of them (maximum a posteriori)."""
    rows = sum(len(votes) for votes in groups)
    x, won, row = np.zeros((rows, N * len(groups) + 1)), np.zeros(rows), 0
    for group, votes in enumerate(groups):
        for first, second, first_won in votes:
            x[row, group * N + first], x[row, group * N + second], x[row, -1] = 1, -1, 1
            won[row], row = first_won, row + 1
    precision = np.full(x.shape[1], PRIOR_SD**-2)
    precision[-1] = BIAS_SD**-2
    at = np.zeros(x.shape[1])
    for _ in range(20):
        p = sigmoid(x @ at)
        curvature = x.T @ ((p * (1 - p))[:, None] * x) + np.diag(precision)
        at = at + np.linalg.solve(curvature, x.T @ (won - p) - precision * at)
    beats = sigmoid(at[:-1].reshape(-1, N)[:, :, None] - at[:-1].reshape(-1, N)[:, None, :])
    return (beats.sum(axis=2) - 0.5) / (N - 1)


def main():
    n_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for rounds in (3, 4):
        for bias in (0.5, 1.0, 40.0):
            for evens_out in (False, True):
                rng = random.Random(1)
                seen = {"group": [], "step": []}
                for _ in range(n_steps):
                    played = [tournament(rounds, bias, rng, evens_out) for _ in range(GROUPS)]
                    votes = [votes for votes, _ in played]
                    alone = np.concatenate([win_rates([own]) for own in votes])
                    for name, rates in (("group", alone), ("step", win_rates(votes))):
                        for rate, (_, balance) in zip(rates, played):
                            varies = np.std(rate) > 1e-9 and np.std(balance) > 0
                            value = np.corrcoef(rate, balance)[0, 1] if varies else 0.0
                            seen[name].append((value, np.ptp(rate)))
                for name, values in seen.items():
                    values = np.array(values)
                    error = values[:, 0].std() / len(values) ** 0.5
                    pairing = "evened out" if evens_out else "by score"
                    print(
                        f"{rounds} rounds, bias {bias:4}, {pairing:10}, term per {name:5}: "
                        f"correlation {values[:, 0].mean():+.3f} ± {error:.3f}, "
                        f"range {values[:, 1].mean():.3f}",
                        flush=True,
                    )


main()
