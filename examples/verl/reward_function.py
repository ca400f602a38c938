"""Reward function for verl: the completions of a prompt play a tournament on a joust server.

    reward.custom_reward_function.path=reward_function.py
    +reward.custom_reward_function.reward_kwargs.url=http://judge:8000

verl asks for one completion at a time; the server puts the groups together. With reward_manager.py
the groups are verl's own. Without it a group is identified by its prompt, which the data set must
have under extra_info.question.
"""

import asyncio
import math
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

# joust_client.py is in this folder or in the folder above
sys.path += [str(folder) for folder in pathlib.Path(__file__).resolve().parents[:2]]
from joust_client import BUSY_OR_INCOMPLETE, ask, json_headers, new_request_id  # noqa: E402

# A completion holds a thread until its group is complete, so there must be a thread for each
# completion: a completion without a thread is not sent, and its group waits for it. The default
# pool of asyncio has at most 32; Ray lets 1,000 calls into a reward worker.
THREADS = ThreadPoolExecutor(1024)


async def compute_score(
    data_source,
    solution_str,
    ground_truth,
    extra_info,
    url,
    token=None,
    timeout=7200.0,
    tries=8,
    prompt=None,
    group=None,
    member=None,
    **_,
):
    """The completion's expected share of wins in its group; an error if it has no reward.

    url: address of the server; token: one of the server's, if it requires tokens; timeout: maximum
    time of one try in seconds, collecting and judging included; tries: number of tries, eight with
    pauses of two minutes in all. The reward manager gives prompt, group and member.
    """
    headers = json_headers(token) | new_request_id()
    if group is not None:
        headers["x-joust-group"] = group
    if member is not None:
        headers["x-joust-member"] = str(member)
    body = {"prompt": prompt or extra_info["question"], "response": solution_str}
    if isinstance(ground_truth, (str, int, float)):
        body["label"] = ground_truth  # only a rule reads it, never a judge
    url = url.rstrip("/") + "/remote_rm?key=score"
    call = partial(ask, url, body, headers, BUSY_OR_INCOMPLETE, tries, timeout)
    answer = await asyncio.get_running_loop().run_in_executor(THREADS, call)
    # verl makes an array per key: all completions need the same keys, and numbers
    return {key: math.nan if value is None else value for key, value in answer.items()}
