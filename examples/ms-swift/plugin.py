"""Reward function for ms-swift's GRPO: each group plays a tournament on a joust server.

    JOUST_URL=http://judge:8000 swift rlhf --external_plugins plugin.py --reward_funcs joust ...

ms-swift reads None as a missing reward under `--scale_rewards gdpo` only, and there only with the
advantage estimators grpo and rloo and without a multi-turn scheduler; under other settings it
counts None as 0. Under those settings a completion without a valid vote is an error.
"""

import os
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

from swift.rewards import ORM, orms

# joust_client.py is in this folder or in the folder above
sys.path += [str(folder) for folder in pathlib.Path(__file__).resolve().parents[:2]]
from joust_client import ask, json_headers, token_of_environment  # noqa: E402

# Maximum number of groups at the server at once.
AT_ONCE = 64


class Joust(ORM):
    """One number per completion: its expected share of wins against the rest of its group."""

    def __call__(self, completions, messages, **columns):
        """Called with the completions of this process; the completions of a prompt are adjacent."""
        n = self.args.num_generations
        prompts = [turns[:-1] for turns in messages]
        answers = columns.get("solution")
        groups = []
        for start in range(0, len(completions), n):
            end = start + n
            is_whole = end <= len(completions)
            if not is_whole or any(prompt != prompts[start] for prompt in prompts[start:end]):
                raise ValueError(
                    f"completions {start} to {end} are no group of {n}: keep num_generations_eval "
                    "the same, and per_device_train_batch_size * steps_per_generation a multiple "
                    "of num_generations"
                )
            group = {"messages": prompts[start], "completions": completions[start:end]}
            if answers is not None and isinstance(answers[start], (str, int, float)):
                group["answer"] = answers[start]  # only a rule reads it, never a judge
            groups.append(group)
        url = os.environ["JOUST_URL"].rstrip("/") + "/v1/score_group"
        headers = json_headers(token_of_environment())
        with ThreadPoolExecutor(AT_ONCE) as pool:
            scored = list(pool.map(lambda group: ask(url, group, headers), groups))
        rewards = [reward for group in scored for reward in group["rewards"]]
        missing = [at for at, reward in enumerate(rewards) if reward is None]
        if missing and not leaves_out_none(self.args):
            raise RuntimeError(
                f"the judge gave no valid vote for completions {missing}; ms-swift leaves them out "
                "only with --scale_rewards gdpo, --advantage_estimator grpo or rloo, and without "
                "--multi_turn_scheduler"
            )
        return rewards


def leaves_out_none(args):
    """Whether ms-swift reads None as a missing reward: elsewhere it adds rewards with nansum."""
    return (
        args.scale_rewards == "gdpo"
        and getattr(args, "advantage_estimator", "grpo") in ("grpo", "rloo")
        and not getattr(args, "multi_turn_scheduler", None)
    )


orms["joust"] = Joust
