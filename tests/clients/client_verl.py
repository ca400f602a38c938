"""verl's reward loop with examples/verl: its managers, Ray workers and advantages.

    python client_verl.py http://ADDRESS manager|naive
"""

import os
import sys

import numpy as np
import ray
import torch
from checks import ROOT, TOKENIZER, check, right_ones_win, sums
from hydra import compose, initialize_config_module
from tensordict import TensorDict
from transformers import AutoTokenizer

from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopManager

URL, CASE = sys.argv[1:]
EXAMPLE = ROOT / "examples/verl"
MANAGERS = {
    "manager": [
        "reward.reward_manager.source=importlib",
        "reward.reward_manager.name=TournamentRewardManager",
        f"reward.reward_manager.module.path={EXAMPLE}/reward_manager.py",
    ],
    "naive": ["reward.reward_manager.source=register", "reward.reward_manager.name=naive"],
}
OVERRIDES = [
    "algorithm.adv_estimator=grpo",
    "actor_rollout_ref.rollout.n=4",
    f"actor_rollout_ref.model.path={TOKENIZER}",
    f"reward.custom_reward_function.path={EXAMPLE}/reward_function.py",
    f"+reward.custom_reward_function.reward_kwargs.url={URL}",
    "reward.num_workers=2",
    *MANAGERS[CASE],
]


def objects(values):
    """An array of objects, also where they are lists."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def batch(rows, as_parts):
    """Rows of question, label, completion, group and member as verl's rollout gives them."""
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    prompts = [tokenizer.encode(row[0]) for row in rows]
    said = [tokenizer.encode(row[2]) + [tokenizer.eos_token_id] for row in rows]
    n_prompt, n_said = max(map(len, prompts)), max(map(len, said))
    left = torch.tensor([[0] * (n_prompt - len(ids)) + ids for ids in prompts])
    right = torch.tensor([ids + [0] * (n_said - len(ids)) for ids in said])
    mask = torch.tensor(
        [
            [0] * (n_prompt - len(a)) + [1] * (len(a) + len(b)) + [0] * (n_said - len(b))
            for a, b in zip(prompts, said)
        ]
    )
    tensors = {
        "prompts": left,
        "responses": right,
        "attention_mask": mask,
        "input_ids": torch.cat([left, right], 1),
        "position_ids": (mask.cumsum(1) - 1).clamp(0),
    }

    def content(text):
        return [{"type": "text", "text": text}] if as_parts else text

    known = {
        "uid": objects([f"{CASE}-{as_parts}-{row[3]}" for row in rows]),
        "session_id": np.array([row[4] for row in rows]),
        "raw_prompt": objects([[{"role": "user", "content": content(row[0])}] for row in rows]),
        "data_source": objects(["sums"] * len(rows)),
        "reward_model": objects([{"style": "rule", "ground_truth": row[1]} for row in rows]),
        "extra_info": objects([{"question": row[0]} for row in rows]),
    }
    return DataProto(batch=TensorDict(tensors, batch_size=len(rows)), non_tensor_batch=known)


def scored(manager, seed, as_parts=False):
    rows = [
        (question, label, text, group, member)
        for group, (question, label, texts) in enumerate(sums(4, seed))
        for member, text in enumerate(texts)
    ]
    output = manager.compute_rm_score(batch(rows, as_parts))
    rewards = output.batch["rm_scores"].sum(-1).view(-1, 4).tolist()
    return [right_ones_win(group) for group in rewards][0]


with initialize_config_module("verl.trainer.config", version_base=None):
    config = compose("ppo_trainer", overrides=OVERRIDES)
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
ray.init(num_cpus=4, include_dashboard=False, object_store_memory=200_000_000)
manager = RewardLoopManager(config)
check(f"{CASE}: rewards of a batch", lambda: scored(manager, 1))
if CASE == "manager":
    check(f"{CASE}: prompts of parts", lambda: scored(manager, 2, as_parts=True))
ray.shutdown()
