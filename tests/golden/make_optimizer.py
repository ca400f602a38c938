#!/usr/bin/env python3
"""Makes tests/golden/adamw.json: AdamW of torch with gradient clipping, and transformers'
schedules.

    pip install torch==2.11.0 transformers==5.23.0
    python tests/golden/make_optimizer.py

Seed 0, float64. The same versions give the same bytes.
"""

import json
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).resolve().parent
WEIGHT_DECAY, BETAS, EPS, MAX_NORM = 0.05, (0.9, 0.98), 1e-8, 1.0


def schedule(make, n_steps=20, warmup=5):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    if make is transformers.get_constant_schedule_with_warmup:
        scheduler = make(optimizer, warmup)
    else:
        scheduler = make(optimizer, warmup, n_steps)
    factors = []
    for _ in range(n_steps + 1):
        factors.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return factors


def main():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    parameters = {
        "matrix": torch.nn.Parameter(torch.randn(3, 4)),
        "vector": torch.nn.Parameter(torch.randn(4)),
    }
    optimizer = torch.optim.AdamW(
        [
            {"params": [parameters["matrix"]], "weight_decay": WEIGHT_DECAY},
            {"params": [parameters["vector"]], "weight_decay": 0.0},
        ],
        betas=BETAS,
        eps=EPS,
        foreach=False,
    )
    lists = lambda tensors: {name: tensor.tolist() for name, tensor in tensors.items()}
    initial = lists({name: p.detach().clone() for name, p in parameters.items()})
    steps = []
    for step in range(6):
        # small gradients stay below the clipping norm, large ones exceed it
        scale = [0.1, 3.0, 0.05, 1.0, 10.0, 0.2][step]
        grads = {name: scale * torch.randn(p.shape) for name, p in parameters.items()}
        for name, p in parameters.items():
            p.grad = grads[name].clone()
        norm = torch.nn.utils.clip_grad_norm_(list(parameters.values()), MAX_NORM, foreach=False)
        lr = 1e-2 * (step + 1) / 3
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        after = lists({name: p.detach().clone() for name, p in parameters.items()})
        steps.append({"lr": lr, "grads": lists(grads), "grad_norm": norm.item(), "after": after})
    golden = {
        "_meta": {"torch": "2.11.0", "transformers": transformers.__version__},
        "betas": BETAS,
        "eps": EPS,
        "weight_decay": WEIGHT_DECAY,
        "max_grad_norm": MAX_NORM,
        "initial": initial,
        "steps": steps,
        "schedules": {
            "warmup": 5,
            "total": 20,
            "cosine": schedule(transformers.get_cosine_schedule_with_warmup),
            "linear": schedule(transformers.get_linear_schedule_with_warmup),
            "constant": schedule(transformers.get_constant_schedule_with_warmup),
        },
    }
    (HERE / "adamw.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
