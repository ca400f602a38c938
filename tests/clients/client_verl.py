"""verl's reward loop with examples/verl: its managers, Ray workers and advantages.

    python client_verl.py http://ADDRESS manager|naive
"""

import os
import sys
import tempfile

from checks import ROOT, TOKENIZER, check, doing, right_ones_win, sums

# Ray lowers the priority of its workers by 15: beside other programs on the machine their imports
# would take a quarter of an hour instead of half a minute. A token would be written into the user's
# home, and statistics would be sent.
os.environ |= {"RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled"}
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

doing("imports torch and Ray")
import numpy as np  # noqa: E402
import ray  # noqa: E402
import torch  # noqa: E402
from hydra import compose, initialize_config_module  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

doing("imports verl")
from verl import DataProto  # noqa: E402
from verl.experimental.reward_loop.reward_loop import RewardLoopManager  # noqa: E402

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


def started():
    """verl's manager; its workers import verl anew and load the example's files."""
    manager = RewardLoopManager(config)
    ray.get([worker.__ray_ready__.remote() for worker in manager.reward_loop_workers])
    return manager


with initialize_config_module("verl.trainer.config", version_base=None):
    config = compose("ppo_trainer", overrides=OVERRIDES)
# not below the checkout: paths of Ray's sockets may have 107 bytes
with tempfile.TemporaryDirectory(prefix="joust-ray-", ignore_cleanup_errors=True) as folder:
    doing("starts Ray")
    settings = {"include_dashboard": False, "object_store_memory": 200_000_000}
    ray.init(num_cpus=4, _temp_dir=folder, **settings)
    doing("starts verl's reward workers")
    manager = started()
    check(f"{CASE}: rewards of a batch", lambda: scored(manager, 1))
    if CASE == "manager":
        check(f"{CASE}: prompts of parts", lambda: scored(manager, 2, as_parts=True))
    ray.shutdown()
