"""A group reward for slime that asks a joust server: the samples of a prompt play a tournament.

    --group-rm --custom-rm-path group_rm.tournament --rm-url http://judge:8000/v1/score_group

A sample for which the judge gave no valid vote is taken out of training by slime's own mark, `remove_sample`. slime wants
a number of it all the same: it gets the mean of the rest of its group, so that the others' baseline is their own.
"""

import asyncio
import json
import os
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

# what may go better later: the queue is full, the server starts again
AGAIN = (429, 502, 503)
# with two minutes of pauses between them
TRIES = 8
# seconds one try may take
TIMEOUT = 7200.0
# groups that are sent at once
THREADS = ThreadPoolExecutor(256)


async def tournament(args, samples):
    """One reward a sample: its expected share of wins against the rest of its group."""
    prompts = [sample.prompt for sample in samples]
    if any(prompt != prompts[0] for prompt in prompts):
        raise ValueError("the samples have different prompts, wanted one group: is --group-rm set?")
    # with --apply-chat-template the prompt is full of the template's tokens; the judge is better off without them
    question = (samples[0].metadata or {}).get("question", prompts[0])
    body = {"prompt": question, "completions": [sample.response for sample in samples]}
    if isinstance(samples[0].label, (str, int, float)):
        body["answer"] = samples[0].label  # only rules look at it, never a judge
    scored = await asyncio.get_running_loop().run_in_executor(THREADS, ask, args.rm_url, body)
    known = [reward for reward in scored["rewards"] if reward is not None]
    rewards = []
    for sample, reward, rating in zip(samples, scored["rewards"], scored["ratings"], strict=True):
        sample.metadata = {**(sample.metadata or {}), "joust": rating}
        if reward is None:
            sample.remove_sample = True
            reward = sum(known) / len(known)
        rewards.append(reward)
    return rewards


def ask(url, body):
    """The server's answer; an error where there is none after the last try, or where no sample has a reward."""
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
