#!/usr/bin/env python3
"""Makes tests/golden/advantages.json: advantages and losses of RLOO and REINFORCE++ in float64, by
verl's functions and TRL's trainer.

    pip install torch==2.11.0 transformers==5.23.0 trl==1.16.0 tensordict omegaconf
    pip install ray codetiming hydra-core torchdata orjson pylatexenc
    pip install --no-deps verl==0.9.1
    python tests/golden/make_advantages.py

verl: `compute_rloo_outcome_advantage`, `compute_reinforce_plus_plus_outcome_advantage`,
`compute_reinforce_plus_plus_baseline_outcome_advantage`, `compute_grpo_outcome_advantage` and
`compute_policy_loss_vanilla` of verl.trainer.ppo.core_algos, and `apply_kl_penalty`. TRL:
`RLOOTrainer._compute_loss`, and the lines of `RLOOTrainer._generate_and_score_completions` that
make advantages of rewards, executed as they stand in the installed source.
"""

import reference  # first: it sets the environment of the libraries

import ast
import inspect
import json
import textwrap
import types
from pathlib import Path

import numpy as np
import torch
import trl
import verl
from trl.trainer import rloo_trainer
from verl.trainer.config import AlgoConfig
from verl.trainer.ppo import core_algos

HERE = Path(__file__).resolve().parent
torch.set_default_dtype(torch.float64)
GROUP_SIZE = 4

# a plain group, one with equal rewards, one with two values
REWARDS = [0.25, 1.0, 0.0, 0.625, 0.5, 0.5, 0.5, 0.5, 1.0, 0.0, 0.0, 1.0]
LENGTHS = [3, 7, 1, 5, 2, 6, 4, 3, 8, 2, 5, 1]
MISSING = [0.25, None, 0.0, 0.625, 0.5, 0.5, None, None, None, 0.0, None, None]


def mask(lengths):
    width = max(lengths)
    return torch.tensor([[float(t < n) for t in range(width)] for n in lengths])


def token_rewards(rewards, lengths):
    """Each reward at its completion's last token."""
    rows = torch.zeros(len(rewards), max(lengths))
    for row, (reward, n) in enumerate(zip(rewards, lengths)):
        rows[row, n - 1] = reward
    return rows


def of_rows(advantages):
    """One number a row: all tokens of a row have the same."""
    first = advantages[:, 0]
    for row, n in enumerate(LENGTHS):
        assert torch.allclose(advantages[row, :n], first[row], rtol=0, atol=1e-12)
    return first.tolist()


def verl_advantages():
    rows, seen = token_rewards(REWARDS, LENGTHS), mask(LENGTHS)
    index = np.array([row // GROUP_SIZE for row in range(len(REWARDS))])
    config = AlgoConfig(gamma=1.0)
    rloo, _ = core_algos.compute_rloo_outcome_advantage(rows, seen, index)
    plain, _ = core_algos.compute_reinforce_plus_plus_outcome_advantage(rows, seen, config=config)
    based, _ = core_algos.compute_reinforce_plus_plus_baseline_outcome_advantage(rows, seen, index)
    return {
        "rloo": of_rows(rloo),
        "reinforce_plus_plus": of_rows(plain),
        "reinforce_plus_plus_baseline": of_rows(based),
    }


def trl_lines(start, end):
    """The lines of TRL's method between two of its lines, as a function of their names."""
    source = inspect.getsource(rloo_trainer.RLOOTrainer._generate_and_score_completions)
    lines = source.splitlines()
    first = next(at for at, line in enumerate(lines) if start in line)
    last = next(at for at, line in enumerate(lines) if at > first and end in line)
    return textwrap.dedent("\n".join(lines[first : last + 1]))


def trl_advantages(rewards, kl=None):
    """`kl`: log-probabilities of policy and reference, and the weight of their divergence."""
    code = trl_lines(
        "grouped_rewards = rewards.view(-1, num_generations)",
        "advantages = torch.nan_to_num(advantages, nan=0.0)",
    )
    rewards = torch.tensor([float("nan") if it is None else it for it in rewards])
    names = dict(vars(rloo_trainer))
    names.update(
        rewards=rewards,
        num_generations=GROUP_SIZE,
        self=types.SimpleNamespace(normalize_advantages=False),
    )
    if kl is not None:
        old, reference, names["self"].beta = kl
        names.update(
            old_per_token_logps=old,
            ref_per_token_logps=reference,
            completion_mask=mask(LENGTHS),
            gather=lambda tensor: tensor,
        )
        first, last = "per_token_kl = old_per_token_logps", "rewards = rewards - self.beta * kl"
        exec(trl_lines(first, last), names)
    exec(code, names)
    return names["advantages"].tolist()


def verl_penalized(tensors, controller, penalty):
    """Token rewards by `apply_kl_penalty`, executed as it stands in the installed source: its
    module imports a whole serving stack."""
    path = Path(verl.__file__).parent / "trainer/ppo/ray_trainer.py"
    functions = ast.parse(path.read_text()).body
    wanted = [it for it in functions if getattr(it, "name", None) == "apply_kl_penalty"]
    names = {"core_algos": core_algos, "torch": torch, "masked_mean": core_algos.verl_F.masked_mean}
    names["DataProto"] = object
    exec(compile(ast.Module(wanted, []), path.name, "exec"), names)

    class Batch(dict):
        batch_size = [len(REWARDS)]

    data = types.SimpleNamespace(batch=Batch(tensors))
    data, _ = names["apply_kl_penalty"](data, controller, penalty)
    return data.batch["token_level_rewards"]


def with_kl_in_reward():
    """Advantages of rewards from which a divergence from the reference is taken."""
    seen, weight = mask(LENGTHS), 0.3
    old, reference = logprobs(5, LENGTHS, 0.9), logprobs(6, LENGTHS, 0.9)
    index = np.array([row // GROUP_SIZE for row in range(len(REWARDS))])
    values = lambda rows: [rows[row, :n].tolist() for row, n in enumerate(LENGTHS)]
    cases = {}
    for name, penalty in [("k1", "kl"), ("abs", "abs"), ("k2", "mse"), ("k3", "low_var_kl")]:
        tensors = {
            "response_mask": seen,
            "token_level_scores": token_rewards(REWARDS, LENGTHS),
            "old_log_probs": old,
            "ref_log_prob": reference,
        }
        rows = verl_penalized(tensors, core_algos.FixedKLController(weight), penalty)
        config = AlgoConfig(gamma=1.0)
        plain, _ = core_algos.compute_reinforce_plus_plus_outcome_advantage(
            rows, seen, config=config
        )
        grpo, _ = core_algos.compute_grpo_outcome_advantage(
            rows, seen, index, norm_adv_by_std_in_grpo=False
        )
        rloo, _ = core_algos.compute_rloo_outcome_advantage(rows, seen, index)
        cases[name] = {
            "reinforce_plus_plus": values(plain),
            "grpo_without_std": of_rows(grpo),
            "rloo": of_rows(rloo),
        }
    return {
        "weight": weight,
        "old": values(old),
        "reference": values(reference),
        "verl": cases,
        "trl_rloo": trl_advantages(REWARDS, (old, reference, weight)),
    }


def logprobs(seed, lengths, scale):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(lengths), max(lengths), generator=generator)
    return -0.2 - scale * noise


class Accelerator:
    num_processes = 1

    def gather(self, tensor):
        return tensor

    def reduce(self, tensor, reduction):
        return tensor


def trl_loss(advantages, new, old, seen):
    """The loss of RLOOTrainer, whose model gives the log-probabilities `new`."""

    class Trainer:
        aux_loss_enabled = False
        epsilon_low = epsilon_high = 0.2
        accelerator = Accelerator()
        model = types.SimpleNamespace(training=True)

        def __init__(self):
            self._metrics = {"train": __import__("collections").defaultdict(list)}

        def _get_per_token_logps_and_entropies(self, *args, **kwargs):
            return new, torch.zeros_like(new), None

    ids = torch.zeros(seen.shape, dtype=torch.long)
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": torch.ones(len(ids), 1),
        "completion_ids": ids,
        "completion_mask": seen,
        "old_logps": (old * seen).sum(1),
        "advantages": torch.tensor(advantages),
    }
    return rloo_trainer.RLOOTrainer._compute_loss(Trainer(), None, inputs)


def verl_loss(advantages, new, old, seen):
    from verl.workers.config import ActorConfig

    config = ActorConfig(
        strategy="fsdp", rollout_n=GROUP_SIZE, ppo_micro_batch_size_per_gpu=1, clip_ratio=0.2
    )
    config.global_batch_info.update(
        dp_size=1, batch_num_tokens=seen.sum(), global_batch_size=len(seen), loss_scale_factor=None
    )
    rows = torch.tensor(advantages).unsqueeze(1) * seen
    loss, _ = core_algos.compute_policy_loss_vanilla(
        old_log_prob=old,
        log_prob=new,
        advantages=rows,
        response_mask=seen,
        loss_agg_mode="token-mean",
        config=config,
    )
    return loss


def loss_case(function, advantages, scale):
    seen = mask(LENGTHS)
    old = logprobs(3, LENGTHS, 0.5)
    new = (old + scale * (logprobs(4, LENGTHS, 1.0) + 0.7)).requires_grad_()
    loss = function(advantages, new, old, seen)
    (gradient,) = torch.autograd.grad(loss, new)
    values = lambda rows: [rows[row, :n].tolist() for row, n in enumerate(LENGTHS)]
    return {
        "advantages": advantages,
        "old": values(old),
        "new": values(new.detach()),
        "loss": loss.item(),
        "gradient": values(gradient * seen),
    }


def main():
    verl_rows = verl_advantages()
    trl_rows = trl_advantages(REWARDS)
    golden = {
        "_meta": {
            "script": Path(__file__).name,
            "torch": torch.__version__,
            "trl": trl.__version__,
            "verl": verl.__version__,
        },
        "group_size": GROUP_SIZE,
        "rewards": REWARDS,
        "lengths": LENGTHS,
        "missing_rewards": MISSING,
        "verl": verl_rows,
        "kl_in_reward": with_kl_in_reward(),
        "trl": {"rloo": trl_rows, "rloo_missing": trl_advantages(MISSING)},
        "losses": {
            "trl_rloo": [loss_case(trl_loss, trl_rows, scale) for scale in [0.0, 0.3]],
            "verl_reinforce_plus_plus": [
                loss_case(verl_loss, verl_rows["reinforce_plus_plus"], scale)
                for scale in [0.0, 1.2]
            ],
        },
    }
    text = json.dumps(golden, indent=1)
    (HERE / "advantages.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
