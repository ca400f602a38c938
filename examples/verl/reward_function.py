"""A reward function for verl that asks a joust server: the completions of a prompt play a tournament.

    reward.custom_reward_function.path=reward_function.py
    +reward.custom_reward_function.reward_kwargs.url=http://judge:8000

verl asks for one completion at a time; the server puts the groups together. With reward_manager.py beside it the groups
are verl's own; without it they are known by their prompt, which the data must have under extra_info.question.
"""

import asyncio
import json
import math
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

# what may go better later: the queue is full, the server starts again, the group was not complete
AGAIN = (429, 502, 503, 504)
# A completion holds a thread until its group is complete. They must never run out: members that are not sent for want of
# one are those that the others wait for. asyncio's own pool has at most 32; Ray lets 1,000 calls into a reward worker.
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
    """The completion's expected share of wins in its group. One without a reward is an error.

    url: the server; token: one of the server's, where it asks for one; timeout: seconds one try may take, collecting and
    judging included; tries: with two minutes of pauses between them. prompt, group and member come from the manager.
    """
    # every try of one completion has the same id: it is one member, even beside another that says the same
    headers = {"Content-Type": "application/json", "x-request-id": uuid.uuid4().hex}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if group is not None:
        headers["x-joust-group"] = group
    if member is not None:
        headers["x-joust-member"] = str(member)
    body = {"prompt": prompt or extra_info["question"], "response": solution_str}
    if isinstance(ground_truth, (str, int, float)):
        body["label"] = ground_truth  # only rules look at it, never a judge
    url = url.rstrip("/") + "/remote_rm?key=score"
    loop = asyncio.get_running_loop()
    answer = await loop.run_in_executor(THREADS, ask, url, body, headers, timeout, tries)
    # verl wants the same keys of every completion, and makes arrays of them
    return {key: math.nan if value is None else value for key, value in answer.items()}


def ask(url, body, headers, timeout, tries):
    """The server's answer; an error where there is none after the last try."""
    wait = 0.0
    for attempt in range(tries):
        time.sleep(wait)
        try:
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {error.read().decode()}"
            if error.code not in AGAIN:
                break
            wait = max(2.0**attempt, float(error.headers.get("Retry-After", 0)))
        except OSError as error:
            problem, wait = str(error), 2.0**attempt
    raise RuntimeError(f"{url} gave no reward: {problem}")
