"""OpenRLHF's single-turn rollout with rewards from a joust server.

    JOUST_URL=http://judge:8000 ... --train.agent_func_path reward_executor.py

For tournaments that take longer than OpenRLHF's own client waits. Each completion is one request;
the server puts the group of a prompt together. A completion without a reward ends the run with the
server's reason.
"""

import asyncio
import os
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

from openrlhf.utils.agent import SingleTurnAgentExecutor

# joust_client.py is in this folder or in the folder above
sys.path += [str(folder) for folder in pathlib.Path(__file__).resolve().parents[:2]]
import joust_client  # noqa: E402

# Number of tries of a request; the pauses between eight tries add up to two minutes.
TRIES = joust_client.TRIES
# A completion holds a thread until its group is complete, so there must be a thread for each
# completion: a completion without a thread is not sent, and its group waits for it. The default
# pool of asyncio has at most 32.
THREADS = ThreadPoolExecutor(4096)


class AgentExecutor(SingleTurnAgentExecutor):
    """Generates as OpenRLHF does, then waits for the reward."""

    def __init__(self):
        super().__init__()  # without a URL it only generates
        self.url = os.environ["JOUST_URL"].rstrip("/") + "/get_reward"

    async def execute(
        self, prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images=None
    ):
        output = await super().execute(
            prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images
        )
        start, end = output["action_ranges"][-1]
        tokens = output["observation_tokens"][start:end]
        said = hf_tokenizer.decode(tokens, skip_special_tokens=True)
        body = {"query": [prompt + said], "prompts": [prompt], "labels": [label]}
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(THREADS, reward_of, self.url, body)
        logs = {name: values[0] for name, values in answer["extra_logs"].items()}
        output.update(reward=answer["rewards"][0], scores=answer["scores"][0], extra_logs=logs)
        return output


def reward_of(url, body):
    """The server's answer; an error if there is none after the last try."""
    headers = joust_client.json_headers(joust_client.token_of_environment())
    headers |= joust_client.new_request_id()
    retried = joust_client.BUSY_OR_INCOMPLETE
    return joust_client.ask(url, body, headers, retried, tries=TRIES)
