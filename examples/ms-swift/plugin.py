"""A reward function for ms-swift's GRPO that asks a joust server: each group of completions plays a tournament.

    JOUST_URL=http://judge:8000 swift rlhf --rlhf_type grpo --external_plugins plugin.py --reward_funcs joust ...

ms-swift takes None for no reward under `--scale_rewards gdpo` only; otherwise it counts as 0. There a completion for which
the judge gave no valid vote is an error.
"""

import json
import os
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from swift.rewards import ORM, orms

# what may go better later: the queue is full, the server starts again
AGAIN = (429, 502, 503)
# with two minutes of pauses between them
TRIES = 8
# seconds one try may take
TIMEOUT = 7200.0
# groups that are sent at once
AT_ONCE = 64


class Joust(ORM):
    """One number a completion: its expected share of wins against the rest of its group."""

    def __call__(self, completions, messages, **columns):
        """Called with this process's completions, those of a prompt next to each other."""
        n = self.args.num_generations
        prompts = [turns[:-1] for turns in messages]
        answers = columns.get("solution")
        groups = []
        for start in range(0, len(completions), n):
            end = start + n
            if end > len(completions) or any(prompt != prompts[start] for prompt in prompts[start:end]):
                raise ValueError(
                    f"completions {start} to {end} are no group of {n}: keep num_generations_eval the same, and "
                    "per_device_train_batch_size * steps_per_generation a multiple of num_generations"
                )
            group = {"messages": prompts[start], "completions": completions[start:end]}
            if answers is not None and isinstance(answers[start], (str, int, float)):
                group["answer"] = answers[start]  # only rules look at it, never a judge
            groups.append(group)
        url = os.environ["JOUST_URL"].rstrip("/") + "/v1/score_group"
        with ThreadPoolExecutor(AT_ONCE) as pool:
            scored = list(pool.map(lambda group: ask(url, group), groups))
        rewards = [reward for group in scored for reward in group["rewards"]]
        missing = [at for at, reward in enumerate(rewards) if reward is None]
        if missing and self.args.scale_rewards != "gdpo":
            raise RuntimeError(
                f"the judge gave no valid vote for completions {missing}; only with --scale_rewards gdpo does ms-swift "
                "leave them out"
            )
        return rewards


def ask(url, body):
    """The server's answer; an error where there is none after the last try, or where no completion has a reward."""
    headers = {"Content-Type": "application/json"}
    if os.environ.get("JOUST_TOKEN"):
        headers["Authorization"] = f"Bearer {os.environ['JOUST_TOKEN']}"
    wait = 0.0
    for attempt in range(TRIES):
        time.sleep(wait)
        try:
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {error.read().decode()}"
            if error.code not in AGAIN:
                break
            wait = max(2.0**attempt, float(error.headers.get("Retry-After", 0)))
        except OSError as error:
            problem, wait = str(error), 2.0**attempt
    raise RuntimeError(f"{url} gave no rewards: {problem}")


orms["joust"] = Joust
