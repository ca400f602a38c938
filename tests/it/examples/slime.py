"""slime as the server sees it: its remote_rm by its published protocol, and the group reward of
examples/slime called as its rollout calls it.

    python slime.py ADDRESS whole|incomplete
"""

import argparse
import asyncio
import json
import random
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from groups import are_right_ones_better, load, problem_of, shuffled, sums

ADDRESS, CASE = sys.argv[1:]


class Sample:
    """The fields of slime's Sample that a reward function sees."""

    def __init__(self, prompt, response, metadata):
        self.prompt, self.response, self.label, self.metadata = prompt, response, None, metadata
        self.reward, self.remove_sample = None, False


def remote_rm(prompt, said, query="", tries=10):
    """One sample per request; the JSON is the sample's reward as it is. Every error is retried."""
    body = {"prompt": prompt, "response": said, "label": None}
    url = f"http://{ADDRESS}/remote_rm{query}"
    for attempt in range(tries):
        try:
            request = urllib.request.Request(
                url, json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)
        except OSError:
            if attempt + 1 == tries:
                raise
            time.sleep(min(2**attempt, 30) + random.random())


def by_url():
    groups = sums(8)
    members = [
        (prompt, at, said) for prompt, completions in groups for at, said in enumerate(completions)
    ]
    with ThreadPoolExecutor(64) as pool:  # its connections
        rewards = dict(
            pool.map(lambda one: (one[:2], remote_rm(one[0], one[2])), shuffled(members))
        )
    assert all(isinstance(reward, float) for reward in rewards.values()), rewards
    with ThreadPoolExecutor(4) as pool:
        chat = [{"role": "user", "content": "What is 40 + 41?"}]
        keyed = list(
            pool.map(
                lambda said: remote_rm(chat, said, "?key=score"),
                ["81", "82", "91", "The answer is 81."],
            )
        )
    assert all(isinstance(one["score"], float) for one in keyed), keyed
    return [are_right_ones_better([rewards[prompt, at] for at in range(4)]) for prompt, _ in groups]


async def group_rewards(args, groups, metadata=None):
    function = load("slime/group_rm.py").tournament
    samples = [
        [Sample(prompt, said, metadata or {}) for said in completions]
        for prompt, completions in groups
    ]
    rewards = await asyncio.gather(*(function(args, group) for group in samples))
    for group, given in zip(samples, rewards, strict=True):
        for sample, reward in zip(group, given, strict=True):
            sample.reward = reward
    return samples


args = argparse.Namespace(rm_url=f"http://{ADDRESS}/v1/score_group", group_rm=True)
if CASE == "incomplete":
    alone = problem_of(lambda: remote_rm("What is 1 + 2?", "3", tries=2))
    # one completion is too long for the judge; the others are compared without it
    (group,) = asyncio.run(
        group_rewards(args, [("What is 47 + 93?", ["140", "130", "word " * 3000, "It is 140."])])
    )
    missing = [
        [sample.reward, sample.remove_sample, sample.metadata["joust"]["status"]]
        for sample in group
    ]
    mixed = [("one", ["1"]), ("another", ["2"])]
    problems = [
        problem_of(
            lambda: asyncio.run(
                load("slime/group_rm.py").tournament(args, [Sample(p, s[0], {}) for p, s in mixed])
            )
        ),
        problem_of(lambda: asyncio.run(group_rewards(args, [("", ["3", "4"])]))),
    ]
    print(json.dumps({"alone": alone, "missing": missing, "problems": problems}))
else:
    groups = sums(10)
    templated = [(f"<|im_start|>{prompt}", completions) for prompt, completions in groups[:1]]
    samples = asyncio.run(group_rewards(args, groups))
    (asked,) = asyncio.run(group_rewards(args, templated, {"question": groups[0][0]}))
    by_group = [are_right_ones_better([sample.reward for sample in group]) for group in samples]
    same = [sample.reward for sample in asked] == [sample.reward for sample in samples[0]]
    kept = not any(sample.remove_sample for group in samples for sample in group)
    print(json.dumps({"url": by_url(), "group": by_group, "question": same, "kept": kept}))
