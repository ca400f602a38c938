"""examples/verl called as verl's reward loop calls it: one completion at a time, all at once, in a
random order.

    python verl.py ADDRESS whole|incomplete
"""

import asyncio
import functools
import inspect
import json
import sys

import torch

from groups import are_right_ones_better, load, problem_of, shuffled, stand_in, sums

ADDRESS, CASE = sys.argv[1:]


class RewardManagerBase:
    """Stands in for verl's."""

    def __init__(self, config, tokenizer, compute_score):
        self.config, self.tokenizer, self.compute_score = config, tokenizer, compute_score
        self.loop = asyncio.get_running_loop()


class Tokenizer:
    """Tokens are characters."""

    def decode(self, tokens, skip_special_tokens):
        assert skip_special_tokens
        return "".join(chr(token) for token in tokens.tolist())


class Data:
    """The part of verl's DataProto that a reward manager reads: tensors and objects per row."""

    def __init__(self, rows):
        self.rows = rows

    def __getitem__(self, at):
        return Data(self.rows[at]) if isinstance(at, slice) else self.rows[at]


class Row:
    def __init__(self, said, **known):
        tokens = [ord(letter) for letter in said]
        pad = [0] * (100 - len(tokens))
        # the mask begins with two tokens of the prompt
        mask = [1, 1] + [1] * len(tokens) + pad
        self.batch = {"responses": torch.tensor(tokens + pad), "attention_mask": torch.tensor(mask)}
        self.non_tensor_batch = known


async def awaited(function, fixed, *args, **kwargs):
    return await function(*args, **{**kwargs, **fixed})


def loaded(**fixed):
    """The function with its reward_kwargs, as verl makes it."""
    function = functools.partial(awaited, load("verl/reward_function.py").compute_score, fixed)
    assert inspect.iscoroutinefunction(function)
    return function


async def by_manager(compute_score, groups):
    stand_in(
        "verl.experimental.reward_loop.reward_manager.base", RewardManagerBase=RewardManagerBase
    )
    manager_class = load("verl/reward_manager.py").TournamentRewardManager
    manager = manager_class(
        config={}, tokenizer=Tokenizer(), compute_score=compute_score, reward_router_address=None
    )

    async def one(group, member, numbered):
        prompt, completions = groups[group]
        known = {
            "data_source": "sums",
            "reward_model": {"ground_truth": "?"},
            "raw_prompt": [{"role": "user", "content": prompt}],
        }
        known.update({"uid": f"uid-{group}", "extra_info": {"index": group}})
        if numbered:
            known["session_id"] = member
        early = Row("an earlier output of the same rollout", **known)
        return (group, member), await manager.run_single(
            Data([early, Row(completions[member], **known)])
        )

    members = shuffled(
        (group, member) for group in range(len(groups)) for member in range(len(groups[group][1]))
    )
    # members of the later groups have no number, as in verl's older trainer
    return dict(
        await asyncio.gather(
            *(one(group, member, group < len(groups) // 2) for group, member in members)
        )
    )


async def by_naive(compute_score, groups):
    """Without the manager: verl's own manager does not pass the prompt on."""

    async def one(group, member):
        prompt, completions = groups[group]
        info = {"question": prompt, "num_turns": None, "rollout_reward_scores": {}}
        result = await compute_score(
            data_source="sums",
            solution_str=completions[member],
            ground_truth=["a list"],
            extra_info=info,
        )
        return (group, member), {"reward_score": result["score"], "reward_extra_info": result}

    members = shuffled((group, member) for group in range(len(groups)) for member in range(4))
    return dict(await asyncio.gather(*(one(*member) for member in members)))


def told(results, n_groups):
    # verl makes an array of each key of the first sample from all samples
    keys = list(results[0, 0]["reward_extra_info"])
    assert all(list(result["reward_extra_info"]) == keys for result in results.values())
    torch.tensor(
        [[result["reward_extra_info"][key] for key in keys] for result in results.values()]
    )
    rewards = [[results[group, at]["reward_score"] for at in range(4)] for group in range(n_groups)]
    return {"keys": keys, "right": [are_right_ones_better(group) for group in rewards]}


if CASE == "incomplete":
    alone = loaded(url=f"http://{ADDRESS}", tries=2)
    problems = [
        problem_of(lambda: asyncio.run(by_manager(alone, [("What is 1 + 2?", ["3"])]))),
        problem_of(
            lambda: asyncio.run(
                by_manager(loaded(url="http://127.0.0.1:9", tries=1), [("q", ["3"])])
            )
        ),
        problem_of(
            lambda: asyncio.run(by_naive(loaded(url=f"http://{ADDRESS}"), [("", ["3"] * 4)]))
        ),
    ]
    print(json.dumps(problems))
else:
    function = loaded(url=f"http://{ADDRESS}/", tries=6)
    first, second = sums(20)[:10], sums(20)[10:]
    managed = told(asyncio.run(by_manager(function, first)), 10)
    print(
        json.dumps({"manager": managed, "naive": told(asyncio.run(by_naive(function, second)), 10)})
    )
