"""OpenRLHF as the server sees it: its client of remote reward models by its published protocol, and
the executor of examples/openrlhf called as its rollout worker calls it.

    python openrlhf.py ADDRESS whole|incomplete
"""

import asyncio
import json
import os
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import torch

from groups import are_right_ones_better, load, problem_of, shuffled, stand_in, sums

ADDRESS, CASE = sys.argv[1:]
END = "<|im_end|>"


def remote_rm(prompt, said, tries=5):
    """Lists of one entry; every failure is retried after a second, then there is no reward."""
    body = {"query": [f"{prompt}{said}{END}"], "prompts": [prompt], "labels": ["null"]}
    for _ in range(tries):
        try:
            url = f"http://{ADDRESS}/get_reward"
            request = urllib.request.Request(
                url, json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=180) as response:
                answer = json.load(response)
        except OSError:
            time.sleep(1)
            continue
        scores = answer.get("scores")
        # as OpenRLHF's trainer converts them
        info = {"reward": torch.tensor([answer["rewards"]]), "score": torch.tensor([scores])}
        info.update({name: torch.tensor([value]) for name, value in answer["extra_logs"].items()})
        return info
    return None


class SingleTurnAgentExecutor:
    """Stands in for OpenRLHF's: generates and leaves the reward open. Tokens are characters."""

    def __init__(self, remote_rm_url=None):
        assert remote_rm_url is None

    async def execute(
        self, prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images=None
    ):
        said = await llm_engine.generate(prompt)
        tokens = [ord(letter) for letter in prompt + said]
        ranges = [(len(prompt), len(tokens))]
        return {
            "prompt": prompt,
            "observation_tokens": tokens,
            "action_ranges": ranges,
            "reward": None,
            "scores": None,
        }


class Tokenizer:
    def decode(self, tokens, skip_special_tokens):
        text = "".join(map(chr, tokens))
        return text.replace(END, "") if skip_special_tokens else text


class Engine:
    """Gives one completion of a group at a time, in their order."""

    def __init__(self, groups):
        self.left = {prompt: list(completions) for prompt, completions in groups}

    async def generate(self, prompt):
        return self.left[prompt].pop(0) + END


def by_url():
    groups = sums(8)
    members = [
        (prompt, at, said) for prompt, completions in groups for at, said in enumerate(completions)
    ]
    with ThreadPoolExecutor(len(members)) as pool:
        infos = dict(pool.map(lambda one: (one[:2], remote_rm(one[0], one[2])), shuffled(members)))
    shapes = {name: list(value.shape) for name, value in infos[groups[0][0], 0].items()}
    numbers = all(
        value.dtype in (torch.float32, torch.int64)
        for info in infos.values()
        for value in info.values()
    )
    same = all(info.keys() == shapes.keys() for info in infos.values())
    bounded = all(0 <= info["score"].item() <= 1 for info in infos.values())
    right = [
        are_right_ones_better([infos[prompt, at]["reward"].item() for at in range(4)])
        for prompt, _ in groups
    ]
    return {"shapes": shapes, "numbers": numbers, "same": same, "bounded": bounded, "right": right}


def by_executor():
    os.environ["JOUST_URL"] = f"http://{ADDRESS}"
    stand_in("openrlhf.utils.agent", SingleTurnAgentExecutor=SingleTurnAgentExecutor)
    module = load("openrlhf/reward_executor.py")

    async def rollouts(groups):
        executor, engine = module.AgentExecutor(), Engine(groups)
        prompts = shuffled(prompt for prompt, completions in groups for _ in completions)
        calls = [
            executor.execute(prompt, None, None, 4096, Tokenizer(), engine) for prompt in prompts
        ]
        return await asyncio.gather(*calls)

    module.TRIES = 2
    if CASE == "incomplete":
        return problem_of(lambda: asyncio.run(rollouts([("What is 1 + 2?", ["3"])])))
    # more completions wait at once than asyncio has threads
    groups = sums(12)
    outputs = asyncio.run(rollouts(groups))
    rewards = {}
    for output in outputs:
        assert isinstance(output["reward"], float) and output["scores"] == output["reward"], output
        assert all(isinstance(value, (int, float)) for value in output["extra_logs"].values()), (
            output
        )
        rewards.setdefault(output["prompt"], []).append(output["reward"])
    return {"right": [are_right_ones_better(rewards[prompt]) for prompt, _ in groups]}


if CASE == "incomplete":
    print(json.dumps({"url": remote_rm("What is 2 + 2?", "4", tries=2), "executor": by_executor()}))
else:
    print(json.dumps({"url": by_url(), "executor": by_executor()}))
