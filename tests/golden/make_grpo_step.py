#!/usr/bin/env python3
"""Makes tests/golden/grpo_step.json: one GRPO step of TRL's own trainer on fixed completions, some
of them truncated, some without a reward.

    pip install torch==2.11.0 transformers==5.23.0 trl==1.16.0
    python tests/golden/make_grpo_step.py

The model is tests/golden/models/tiny-qwen2 in float32. Completions come from TRL's `rollout_func`,
rewards from a reward function; masks, advantages, loss and gradient are the trainer's. The
reference of the cases with beta is the same model with a halved output matrix.
"""

import reference  # first: it sets the environment of the libraries

import json
import tempfile
from pathlib import Path

import datasets
import torch
import transformers
import trl

HERE = Path(__file__).resolve().parent
MODEL = HERE / "models" / "tiny-qwen2"
EOS = 296
GROUP_SIZE = 4
MAX_LENGTH = 8

PROMPTS = [[10, 11, 12], [20, 21, 22, 23]]
# completions that end in EOS ended by themselves, the others reached the limit
COMPLETIONS = [
    [40, 41, EOS],
    [50, 51, 52, 53, 54, 55, 56, 57],
    [60, EOS],
    [70, 71, 72, 73, 74, 75, 76, 77],
    [80, 81, 82, 83, EOS],
    [90, 91, 92, 93, 94, 95, 96, 97],
    [100, 101, 102, EOS],
    [110, 111, 112, 113, 114, EOS],
]
REWARDS = [1.0, 0.25, 0.0, 0.5, 0.75, 0.125, 0.0, 1.0]
# the second group has a single reward left
MISSING = [1.0, None, 0.0, None, None, None, 0.5, None]

LOSSES = ["grpo", "dapo", "dr_grpo"]
CASES = [
    ("whole", {}, REWARDS),
    ("truncated", {"mask_truncated_completions": True}, REWARDS),
    ("missing", {}, MISSING),
    ("truncated_and_missing", {"mask_truncated_completions": True}, MISSING),
    ("missing_with_beta", {"beta": 0.3}, MISSING),
    ("truncated_with_beta", {"mask_truncated_completions": True, "beta": 0.3}, REWARDS),
    ("missing_batch_scale", {"scale_rewards": "batch"}, MISSING),
    ("entropy_bonus", {"entropy_coef": 0.2}, REWARDS),
    ("top_entropy", {"top_entropy_quantile": 0.3, "beta": 0.3}, REWARDS),
    (
        "top_entropy_and_bonus",
        {
            "top_entropy_quantile": 0.5,
            "entropy_coef": 0.2,
            "mask_truncated_completions": True,
            "temperature": 0.7,
        },
        MISSING,
    ),
]


def rollout(prompts, trainer):
    return {
        "prompt_ids": [PROMPTS[idx // GROUP_SIZE] for idx in range(len(COMPLETIONS))],
        "completion_ids": COMPLETIONS,
        "logprobs": None,
    }


def step(loss_type, settings, rewards):
    with tempfile.TemporaryDirectory() as folder:
        config = trl.GRPOConfig(
            output_dir=folder,
            loss_type=loss_type,
            per_device_train_batch_size=len(COMPLETIONS),
            num_generations=GROUP_SIZE,
            max_completion_length=MAX_LENGTH,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            **{"beta": 0.0, **settings},
        )
        trainer = trl.GRPOTrainer(
            model=transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32),
            processing_class=transformers.AutoTokenizer.from_pretrained(MODEL),
            reward_funcs=lambda completions, **_: rewards,
            rollout_func=rollout,
            train_dataset=datasets.Dataset.from_list([{"prompt": "a"}, {"prompt": "b"}]),
            args=config,
        )
        if trainer.ref_model is not None:
            with torch.no_grad():
                trainer.ref_model.get_output_embeddings().weight.mul_(0.5)
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
        prompts = [{"prompt": "ab"[idx // GROUP_SIZE]} for idx in range(len(COMPLETIONS))]
        inputs = trainer._generate_and_score_completions(prompts)
        loss = trainer._compute_loss(trainer.model, inputs)
        loss.backward()
        squares = [p.grad.double().square().sum() for p in trainer.model.parameters()]
        return {
            "loss": loss.item(),
            "grad_norm": sum(squares).sqrt().item(),
            "advantages": inputs["advantages"].tolist(),
        }


def main():
    cases = [
        {
            "name": name,
            "loss_type": loss_type,
            "settings": settings,
            "rewards": rewards,
            **step(loss_type, settings, rewards),
        }
        for name, settings, rewards in CASES
        for loss_type in LOSSES
    ]
    golden = {
        "_meta": {**reference.versions(), "trl": trl.__version__},
        "group_size": GROUP_SIZE,
        "max_completion_length": MAX_LENGTH,
        "eos": EOS,
        "prompts": PROMPTS,
        "completions": COMPLETIONS,
        "cases": cases,
    }
    reference.write_json(HERE / "grpo_step.json", golden)


if __name__ == "__main__":
    main()
