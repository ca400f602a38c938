"""Checks of one client: each prints a line of JSON, which run.py collects."""

import json
import pathlib
import random

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUESTION = "What is 47 + 93?"
ANSWERS = ["The answer is 130.", "The answer is 140.", "The answer is 150.", "The answer is 140."]
TOKENIZER = ROOT / "data/models/nano-policy"


def check(name, call):
    """Runs a check; whatever it raises is its failure."""
    try:
        said = call()
        is_ok = True
    except Exception as error:
        said, is_ok = f"{type(error).__name__}: {error}", False
    print(json.dumps({"check": name, "ok": is_ok, "said": str(said)[:200]}), flush=True)


def error_of(call, words):
    """The error of a call that must fail with these words."""
    try:
        found = call()
    except Exception as error:
        assert words in str(error), error
        return f"refused: {error}"
    raise AssertionError(f"no error: {found}")


def right_ones_win(rewards):
    """The second and fourth of ANSWERS are right."""
    first, second, third, fourth = rewards
    assert second == fourth and second > max(first, third), rewards
    return rewards


def sums(n, seed):
    """Questions, each with a right answer, two wrong ones and the right one again."""
    draw = random.Random(seed)
    for _ in range(n):
        a, b = draw.randrange(20, 80), draw.randrange(20, 80)
        said = [f"The answer is {a + b + off}." for off in (10, 0, -10, 0)]
        yield f"What is {a} + {b}?", str(a + b), said
