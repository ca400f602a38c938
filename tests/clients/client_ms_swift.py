"""ms-swift's own loading of plugins, scoring and advantages, with examples/ms-swift.

    python client_ms_swift.py http://ADDRESS
"""

import os
import sys
import types

from checks import ROOT, check, doing, error_of, right_ones_win, sums

doing("imports torch and ms-swift")
import torch  # noqa: E402
from swift.utils import import_external_file  # noqa: E402

os.environ["JOUST_URL"] = sys.argv[1]
doing("imports the plugin")
import_external_file(str(ROOT / "examples/ms-swift/plugin.py"))

doing("imports ms-swift's GRPO")
from swift.rewards import orms  # noqa: E402
from swift.rl_core.advantage import compute_advantages  # noqa: E402
from swift.rl_core.data import GRPOSample  # noqa: E402
from swift.rl_core.grpo_algorithm import score_completions  # noqa: E402


def scored(groups, **settings):
    args = types.SimpleNamespace(**({"num_generations": 4, "scale_rewards": "gdpo"} | settings))
    samples = [
        GRPOSample(
            messages=[
                {"role": "user", "content": question},
                {"role": "assistant", "content": said},
            ]
        )
        for question, _, texts in groups
        for said in texts
    ]
    function = orms["joust"](args=args)
    return score_completions(samples, [function], [None], False, torch.device("cpu"))


def whole_groups():
    rewards = scored(sums(3, 1)).view(-1, 4).tolist()
    return [right_ones_win(group) for group in rewards][0]


# the second completion is too long for the judge: it has no reward
UNREAD = [("What is 2 + 3?", "5", ["The answer is 5.", "9 " * 3000, "It is 6.", "It is 4."])]


def left_out(estimator):
    rewards = scored(UNREAD, advantage_estimator=estimator)
    assert rewards.isnan().view(-1).tolist() == [False, True, False, False], rewards
    weights = torch.ones(1)
    advantages, _ = compute_advantages(
        rewards, weights, 4, advantage_estimator=estimator, scale_rewards="gdpo"
    )
    assert abs(advantages[1]) < 1e-6, advantages
    return advantages.tolist()


def refused(**settings):
    return lambda: error_of(lambda: scored(UNREAD, **settings), "no valid vote for completions [1]")


check("whole groups", whole_groups)
check("gdpo with grpo leaves a missing reward out", lambda: left_out("grpo"))
check("gdpo with rloo leaves a missing reward out", lambda: left_out("rloo"))
check("gdpo with reinforce_plus_plus", refused(advantage_estimator="reinforce_plus_plus"))
check("gdpo with several turns", refused(multi_turn_scheduler="gym_scheduler"))
check("group scale", refused(scale_rewards="group"))
