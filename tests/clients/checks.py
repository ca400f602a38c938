"""Checks of one client: each prints a line of JSON before it and after it, which run.py reports."""

import faulthandler
import json
import pathlib
import random

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUESTION = "What is 47 + 93?"
ANSWERS = ["The answer is 130.", "The answer is 140.", "The answer is 150.", "The answer is 140."]
TOKENIZER = ROOT / "data/models/nano-policy"
# Maximum time between two lines of a client.
SILENCE_S = 300


def doing(what):
    """Says what comes next. A client that is then silent for too long prints its stack and ends."""
    faulthandler.dump_traceback_later(SILENCE_S, exit=True)
    print(json.dumps({"doing": what}), flush=True)


def check(name, call):
    """Runs a check; whatever it raises is its failure."""
    doing(f"checks {name}")
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
