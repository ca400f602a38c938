"""Groups for the clients beside this file: answers to sums; the first and last are right."""

import importlib.util
import pathlib
import random
import sys
import types

EXAMPLES = pathlib.Path(__file__).parents[3] / "examples"


def sums(n):
    """Pairs of a question and four answers; the first and the last say the same."""
    draw = random.Random(5)
    groups = []
    for _ in range(n):
        a, b = draw.randrange(20, 80), draw.randrange(20, 80)
        right = f"The answer is {a + b}."
        groups.append(
            (
                f"What is {a} + {b}?",
                [right, f"The answer is {a + b - 10}.", f"It is {a + b + 20}.", right],
            )
        )
    return groups


def shuffled(members):
    """In a random order, as rollouts finish."""
    members = list(members)
    random.Random(6).shuffle(members)
    return members


def are_right_ones_better(rewards):
    """Whether the right answers have the same reward, and a higher one than the others."""
    first, second, third, last = rewards
    return first == last and first > max(second, third)


def load(path):
    """Imports a file of the examples as the trainers do: by its path."""
    spec = importlib.util.spec_from_file_location(
        path.replace("/", "_").removesuffix(".py"), EXAMPLES / path
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stand_in(name, **contents):
    """Makes `import name` give these contents: for frameworks that cannot be installed here."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    vars(sys.modules[name]).update(contents)


def problem_of(call):
    """The error of a call that must fail."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("no error")
