"""OpenRLHF's single-turn rollout with rewards from a joust server, for tournaments that its own client has no time for.

    JOUST_URL=http://judge:8000 ... --train.agent_func_path reward_executor.py

Each completion is sent on its own; the server puts the group of its prompt together. A completion without a reward ends
the run with the server's reason.
"""

import asyncio
import json
import os
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

from openrlhf.utils.agent import SingleTurnAgentExecutor

# what may go better later: the queue is full, the server starts again, the group was not complete
AGAIN = (429, 502, 503, 504)
# with two minutes of pauses between them
TRIES = 8
# seconds one try may take: collecting the group and judging it
TIMEOUT = 7200.0
# A completion holds a thread until its group is complete. They must never run out: members that are not sent for want of
# one are those that the others wait for. asyncio's own pool has at most 32.
THREADS = ThreadPoolExecutor(4096)


class AgentExecutor(SingleTurnAgentExecutor):
    """Generates as OpenRLHF does, then waits for the reward as long as it takes."""

    def __init__(self):
        super().__init__()  # no URL: it only generates
        self.url = os.environ["JOUST_URL"].rstrip("/") + "/get_reward"

    async def execute(self, prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images=None):
        output = await super().execute(prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images)
        start, end = output["action_ranges"][-1]
        said = hf_tokenizer.decode(output["observation_tokens"][start:end], skip_special_tokens=True)
        body = {"query": [prompt + said], "prompts": [prompt], "labels": [label]}
        answer = await asyncio.get_running_loop().run_in_executor(THREADS, ask, self.url, body)
        logs = {name: values[0] for name, values in answer["extra_logs"].items()}
        output.update(reward=answer["rewards"][0], scores=answer["scores"][0], extra_logs=logs)
        return output


def ask(url, body):
    """The server's answer; an error where there is none after the last try."""
    # every try of one completion has the same id: it is one member, even beside another that says the same
    headers = {"Content-Type": "application/json", "x-request-id": uuid.uuid4().hex}
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
    raise RuntimeError(f"{url} gave no reward: {problem}")
