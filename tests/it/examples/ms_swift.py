"""examples/ms-swift called as ms-swift's GRPO trainer calls it: with all completions of a process
at once.

    python ms_swift.py ADDRESS
"""

import argparse
import json
import os
import sys

from groups import are_right_ones_better, load, problem_of, stand_in, sums

os.environ["JOUST_URL"] = f"http://{sys.argv[1]}"


class ORM:
    """Stands in for ms-swift's."""

    def __init__(self, args=None, **kwargs):
        self.args = args


orms = {}
stand_in("swift.rewards", ORM=ORM, orms=orms)
plugin = load("ms-swift/plugin.py")


def asked(prompt):
    return [{"role": "user", "content": prompt}] if prompt else []


def rewards(groups, num_generations=4, scale_rewards="group", **settings):
    """Calls the reward function with the columns that the trainer gives it."""
    args = argparse.Namespace(
        num_generations=num_generations, scale_rewards=scale_rewards, **settings
    )
    function = orms["joust"](args=args)
    rows = [
        {"messages": asked(prompt) + [{"role": "assistant", "content": said}], "prompt_id": prompt}
        for prompt, completions in groups
        for said in completions
    ]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    completions = [row["messages"][-1]["content"] for row in rows]
    return function(completions, trainer_state=None, solution=[None] * len(rows), **columns)


groups = sums(6)
given = rewards(groups)
right = [are_right_ones_better(given[start : start + 4]) for start in range(0, len(given), 4)]
# one completion is too long for the judge; the others are compared without it
unread = [("What is 47 + 93?", ["140", "130", "word " * 3000, "It is 140."])]
problems = [
    problem_of(lambda: rewards(groups, num_generations=3)),
    problem_of(lambda: rewards(groups, num_generations=8)),
    problem_of(lambda: rewards(groups[:1], num_generations=5)),
    problem_of(lambda: rewards(unread)),
    problem_of(lambda: rewards([("", ["1", "2", "3", "4"])])),
]
# settings under which ms-swift counts a missing reward as 0, the worst of all
unsafe = [
    {"advantage_estimator": "reinforce_plus_plus"},
    {"advantage_estimator": "grpo", "multi_turn_scheduler": "gym_scheduler"},
]
problems += [
    problem_of(lambda: rewards(unread, scale_rewards="gdpo", **settings)) for settings in unsafe
]
safe = {"advantage_estimator": "rloo", "multi_turn_scheduler": None}
print(
    json.dumps(
        {
            "right": right,
            "missing": rewards(unread, scale_rewards="gdpo"),
            "missing_with_rloo": rewards(unread, scale_rewards="gdpo", **safe),
            "problems": problems,
        }
    )
)
