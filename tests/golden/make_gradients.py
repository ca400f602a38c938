#!/usr/bin/env python3
"""Makes tests/golden/gradients.json: loss and gradients of tiny models by transformers and torch.

    pip install torch==2.11.0 transformers==5.23.0
    python tests/golden/make_gradients.py

The loss is the mean cross-entropy of all tokens of the rows but the first of each. The gradients'
norms are those of tensors as the engine fuses them: `qkv_proj` of queries, keys and values,
`gate_up_proj` of both halves of the MLP. Reads tests/golden/models, made by make_models.py.
"""

import re

import reference  # first: it sets the environment of the libraries
import torch
from make_models import HERE, load

MODELS = ["tiny-qwen2", "tiny-llama", "tiny-qwen3", "tiny-qwen3-biased", "tiny-mistral"]
SIZES = [(24, 5), (9, 60)]  # number of tokens, and the first
ROWS = [[(7 * at * at + 3 * at + first) % 290 for at in range(n)] for n, first in SIZES]
FUSED = {"[qkv]_proj": "qkv_proj", "(gate|up)_proj": "gate_up_proj"}


def fused_name(name):
    for part, fused in FUSED.items():
        name = re.sub(rf"\.{part}\.", f".{fused}.", name)
    return name


def losses(model, kind):
    """Sum of the rows' cross-entropies."""
    rows = [torch.tensor([row]) for row in ROWS]
    logits = [model(row[:, :-1]).logits[0].to(kind) for row in rows]
    both = zip(logits, rows)
    return sum(-x.log_softmax(-1).gather(1, row[0, 1:, None]).sum() for x, row in both)


def golden(name):
    model = load(HERE / "models" / name).double()
    n_targets = sum(len(row) - 1 for row in ROWS)
    loss = losses(model, torch.float64) / n_targets
    loss.backward()
    squares = {}
    for tensor, parameter in model.named_parameters():
        tensor = fused_name(tensor)
        squares[tensor] = squares.get(tensor, 0.0) + parameter.grad.square().sum().item()
    return {
        "rows": ROWS,
        "n_targets": n_targets,
        "loss": round(loss.item(), 9),
        "grad_norm": float(f"{sum(squares.values()) ** 0.5:.9g}"),
        "gradient_norms": {key: float(f"{value ** 0.5:.9g}") for key, value in squares.items()},
    }


def main():
    value = {
        "_meta": {
            "script": "tests/golden/make_gradients.py",
            "versions": reference.versions(),
            "dtype": "float64, weights as in the files",
        },
        "models": {name: golden(name) for name in MODELS},
    }
    reference.write_json(HERE / "gradients.json", value)


if __name__ == "__main__":
    main()
