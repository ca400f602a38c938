"""What a judge's preference for longer answers leaves in the rewards of a Swiss tournament.

An independent model of the program's tournament, rating and length control: eight answers of four
rounds with one vote per match, strengths with a standard deviation of 1.5 logits, lengths within a
group that are lognormal (a standard deviation of 0.4). A judge that is not honest adds so many
logits for the longer answer of a match. Prints, for each judge, the mean within-group correlation
of a reward with the length of its answer and with the true win rate at equal length, without
control, with a slope that is fitted to the strengths afterwards, and with one that is fitted
together with them, over a step of 16 groups and over each group alone; and the mean slope.

Run: python bench/length_control.py [STEPS]    (needs numpy; the errors printed are of the means)
"""

import random
import sys

import numpy as np

N, GROUPS, ROUNDS = 8, 16, 4
PRIOR_SD, BIAS_SD, SLOPE_SD = 1.5, 2.0, 1.0


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pair(order, met):
    """The first pairing from the top of the ranking without a rematch."""
    if not order:
        return []
    top, rest = order[0], order[1:]
    for at, other in enumerate(rest):
        if (min(top, other), max(top, other)) not in met:
            others = pair(rest[:at] + rest[at + 1 :], met)
            if others is not None:
                return [(top, other), *others]
    return None


def tournament(quality, length, bias, rng):
    """Votes as (first, second, first won)."""
    points, met, votes = [0] * N, set(), []
    for _ in range(ROUNDS):
        order = sorted(range(N), key=lambda i: (-points[i], i))
        for first, second in pair(order, met):
            met.add((min(first, second), max(first, second)))
            if rng.random() < 0.5:
                first, second = second, first
            longer = np.sign(length[first] - length[second])
            logit = quality[first] - quality[second] + bias * longer
            won = rng.random() < sigmoid(logit)
            points[first if won else second] += 1
            votes.append((first, second, won))
    return votes


def length_terms(lengths):
    """tanh of the distance from the group's mean, in standard deviations within groups."""
    centred = lengths - lengths.mean(axis=1, keepdims=True)
    variance = (centred**2).sum() / (lengths.size - len(lengths))
    return np.tanh(centred / variance**0.5)


def fit(groups, terms):
    """Strengths and slope (maximum a posteriori), with one position term.

    Without terms there is no slope.
    """
    n_all = N * len(groups)
    x, won, row = np.zeros((sum(map(len, groups)), n_all + 2)), [], 0
    for group, votes in enumerate(groups):
        for first, second, first_won in votes:
            x[row, group * N + first], x[row, group * N + second], x[row, n_all] = 1, -1, 1
            if terms is not None:
                x[row, -1] = terms[group, first] - terms[group, second]
            won.append(first_won)
            row += 1
    precision = np.full(n_all + 2, PRIOR_SD**-2)
    precision[n_all], precision[-1] = BIAS_SD**-2, SLOPE_SD**-2
    at, won = np.zeros(n_all + 2), np.array(won, float)
    for _ in range(30):
        p = sigmoid(x @ at)
        curvature = x.T @ ((p * (1 - p))[:, None] * x) + np.diag(precision)
        step = np.linalg.solve(curvature, x.T @ (won - p) - precision * at)
        at = at + step
        if np.abs(step).max() < 1e-9:
            break
    return at[:n_all].reshape(-1, N), at[-1]


def win_rates(theta):
    beats = sigmoid(theta[:, :, None] - theta[:, None, :])
    return (beats.sum(axis=2) - 0.5) / (N - 1)


def rewards(groups, lengths):
    """Rewards and slopes of each control."""
    terms = length_terms(lengths)
    plain, _ = fit(groups, None)
    together, slope = fit(groups, terms)
    after = (terms * plain).sum() / ((terms**2).sum() + PRIOR_SD**2 / SLOPE_SD**2)
    return {
        "without": (win_rates(plain), 0.0),
        "afterwards": (win_rates(plain - after * terms), after),
        "together": (win_rates(together), slope),
    }


def correlations(rates, with_values):
    pairs = zip(rates, with_values)
    return [np.corrcoef(a, b)[0, 1] if np.std(a) > 1e-9 else 0.0 for a, b in pairs]


def main():
    n_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for related in (0.0, 0.5):
        for bias in (0.0, 0.8, 1.6):
            rng, draws = random.Random(1), np.random.default_rng(1)
            seen = {}
            for _ in range(n_steps):
                by_length = draws.normal(size=(GROUPS, N))
                own = draws.normal(size=(GROUPS, N))
                lengths = np.round(draws.uniform(200, 2000, (GROUPS, 1)) * np.exp(0.4 * by_length))
                quality = PRIOR_SD * (related * by_length + (1 - related**2) ** 0.5 * own)
                true = win_rates(quality)
                groups = [tournament(q, l, bias, rng) for q, l in zip(quality, lengths)]
                alone = [rewards([v], l[None]) for v, l in zip(groups, lengths)]
                of_step = rewards(groups, lengths)
                for name, (rates, slope) in of_step.items():
                    of_groups = np.concatenate([own[name][0] for own in alone])
                    slopes = [own[name][1] for own in alone]
                    for unit, r, s in (("step", rates, [slope]), ("group", of_groups, slopes)):
                        row = seen.setdefault((unit, name), ([], [], []))
                        row[0].extend(correlations(r, lengths))
                        row[1].extend(correlations(r, true))
                        row[2].extend(s)
            print(f"{bias} logits for the longer answer, quality and length correlate {related}")
            for (unit, name), row in sorted(seen.items(), reverse=True):
                with_length, with_truth = [np.array(values) for values in row[:2]]
                error = max(v.std() / len(v) ** 0.5 for v in (with_length, with_truth))
                print(
                    f"  per {unit:5} {name:10}: with length {with_length.mean():+.3f}, "
                    f"with truth {with_truth.mean():.3f} (± {error:.3f}), "
                    f"slope {np.mean(row[2]):+.2f} ± {np.std(row[2]):.2f}",
                    flush=True,
                )


main()
