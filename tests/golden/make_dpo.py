"""Writes dpo.json: losses of preference pairs with their gradients, by TRL's own code.

    pip install torch==2.11.0 transformers==5.23.0 trl==1.16.0
    pip download --no-deps openrlhf==0.11.2
    python tests/golden/make_dpo.py openrlhf-0.11.2-*.whl

TRL's `DPOTrainer._compute_loss` runs on given log-probabilities instead of a model's. What TRL 1.16
lacks, label smoothing of the sigmoid loss, comes from the class `DPOLoss` of OpenRLHF 0.11.2, whose
file is taken out of the wheel. A step of whole models (tests/golden/models) is that of transformers
with TRL's loss. All numbers are f64.
"""

import re
import sys
import types
import zipfile

import reference  # first: it sets the environment of the libraries
import torch
import torch.nn as nn
import torch.nn.functional as F
from make_models import HERE, load
from trl import DPOTrainer

CASES = {
    "sigmoid": {},
    "hinge": {},
    "ipo": {},
    "exo_pair": {"label_smoothing": 0.1},
    "nca_pair": {},
    "robust": {"label_smoothing": 0.2},
    "bco_pair": {},
    "sppo_hard": {},
    "apo_zero": {},
    "apo_down": {},
    "discopop": {},
    "sigmoid_norm": {},
}


class OneProcess:
    device = torch.device("cpu")

    @staticmethod
    def gather(value):
        return value

    gather_for_metrics = gather


def trl_trainer(losses, weights, beta, label_smoothing):
    trainer = object.__new__(DPOTrainer)
    fields = {
        "model": types.SimpleNamespace(training=True),
        "ref_model": "reference",
        "accelerator": OneProcess,
        "args": types.SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=0.05),
        "aux_loss_enabled": False,
        "ld_alpha": None,
        "precompute_ref_logps": True,
        "f_divergence_type": "reverse_kl",
        "loss_types": losses,
        "loss_weights": weights,
        "beta": beta,
        "label_smoothing": label_smoothing,
        "use_weighting": False,
        "_metrics": {"train": {name: [] for name in METRICS}},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    trainer.__dict__.update(fields)
    return trainer


METRICS = ["entropy", "num_tokens", "logits/chosen", "logits/rejected", "mean_token_accuracy"]
METRICS += ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"]
METRICS += ["logps/chosen", "logps/rejected"]


def trl_loss(logps, mask, sums, losses, weights, beta, label_smoothing):
    """Loss and rewards of pairs: log-probabilities [2P, C] of the chosen completions, then of the
    rejected ones, and sums [2P] under the reference."""
    rows = logps * mask
    ones = torch.ones_like(rows)
    outputs = types.SimpleNamespace(
        log_probs=rows, entropy=ones, mean_logits=ones, is_top1=mask.bool()
    )
    # one token before the first completion token, as behind a prompt
    whole = torch.cat([torch.zeros(len(mask), 1, dtype=torch.int64), mask.long()], 1)
    chosen, rejected = sums.chunk(2)
    inputs = {
        "input_ids": torch.zeros_like(whole),
        "attention_mask": torch.ones_like(whole),
        "completion_mask": whole,
        "ref_chosen_logps": chosen,
        "ref_rejected_logps": rejected,
    }
    trainer = trl_trainer(losses, weights, beta, label_smoothing)
    loss = trainer._compute_loss(lambda **_: outputs, inputs, False)
    metrics = trainer._metrics["train"]
    return loss, {name: metrics[name][0] for name in METRICS if name.startswith("rewards/")}


def of_trl(pairs, losses, weights, beta, label_smoothing):
    """Loss, gradient with respect to the log-probability of each token, and rewards."""
    logps = pairs["logps"].clone().requires_grad_()
    loss, rewards = trl_loss(
        logps, pairs["mask"], pairs["reference"], losses, weights, beta, label_smoothing
    )
    loss.backward()
    return loss.item(), logps.grad, rewards


def of_openrlhf(loss_class, pairs, beta, label_smoothing):
    logps, mask = pairs["logps"].clone().requires_grad_(), pairs["mask"]
    sums, held_at = (logps * mask).sum(1).chunk(2), pairs["reference"].chunk(2)
    loss, _, _ = loss_class(beta, label_smoothing)(*sums, *held_at)
    loss.backward()
    return loss.item(), logps.grad


def openrlhf_loss(wheel):
    """The class `DPOLoss`, without the package's imports."""
    with zipfile.ZipFile(wheel) as files:
        [name] = [name for name in files.namelist() if name.endswith("models/loss.py")]
        text = files.read(name).decode()
    [source] = re.findall(r"^class DPOLoss\(.*?(?=^class |\Z)", text, re.S | re.M)
    names = {"nn": nn, "F": F, "torch": torch}
    exec("from typing import Tuple\n" + source, names)
    return names["DPOLoss"]


POLICY, REFERENCE = "tiny-qwen3", "tiny-qwen3-biased"  # of one vocabulary
SIZES = [(4, 5, 3), (9, 2, 7), (1, 6, 6)]  # tokens of prompt, chosen and rejected completion


def step():
    """One update of a tiny model by three pairs, held at another tiny model."""
    models = {name: load(HERE / "models" / name).double() for name in [POLICY, REFERENCE]}
    tokens = [(11 * at * at + 5 * at + 3) % 290 for at in range(99)]
    pairs = []
    for at, (n_prompt, n_chosen, n_rejected) in enumerate(SIZES):
        rest = tokens[at * 25 :]
        ends = [n_prompt, n_prompt + n_chosen, n_prompt + n_chosen + n_rejected]
        names = ["prompt", "chosen", "rejected"]
        pairs.append({n: rest[a:b] for n, a, b in zip(names, [0, *ends], ends)})

    def rows(model):
        """Log-probabilities of the completions' tokens, padded with 0."""
        width = max(max(sizes[1:]) for sizes in SIZES)
        logps = []
        for side in ["chosen", "rejected"]:
            for pair in pairs:
                row = torch.tensor([pair["prompt"] + pair[side]])
                logits = model(row[:, :-1]).logits[0]
                all_logps = logits.log_softmax(-1).gather(1, row[0, 1:, None])[:, 0]
                logps.append(F.pad(all_logps[-len(pair[side]) :], (0, width - len(pair[side]))))
        return torch.stack(logps)

    lengths = torch.tensor([len(pair[side]) for side in ["chosen", "rejected"] for pair in pairs])
    mask = (torch.arange(7)[None] < lengths[:, None]).double()
    with torch.no_grad():
        sums = rows(models[REFERENCE]).sum(1)
    loss, rewards = trl_loss(rows(models[POLICY]), mask, sums, ["sigmoid"], [1.0], 0.3, 0.0)
    loss.backward()
    parameters = list(models[POLICY].parameters())
    norm = sum(it.grad.square().sum() for it in parameters if it.grad is not None) ** 0.5
    settings = {"policy": POLICY, "reference": REFERENCE, "beta": 0.3, "pairs": pairs}
    return {**settings, "loss": loss.item(), "grad_norm": norm.item(), "rewards": rewards}


def main():
    torch.set_default_dtype(torch.float64)
    generator = torch.Generator().manual_seed(7)
    lengths = [3, 5, 1, 2, 4, 2, 6, 2]  # four chosen, four rejected
    width = max(lengths)
    mask = torch.tensor([[float(t < n) for t in range(width)] for n in lengths])
    logps = -3 * torch.rand(len(lengths), width, generator=generator)
    sums = (logps * mask).sum(1) + torch.randn(len(lengths), generator=generator) * 2
    pairs = {"logps": logps, "mask": mask, "reference": sums}
    cases = []

    def add(source, name, loss, gradient, **settings):
        cases.append({
            "source": source,
            "loss": name,
            **settings,
            "value": loss,
            "gradient": (gradient * mask).tolist(),
        })

    for name, more in CASES.items():
        for beta in [0.1, 0.5]:
            label_smoothing = more.get("label_smoothing", 0.0)
            loss, gradient, rewards = of_trl(pairs, [name], [1.0], beta, label_smoothing)
            settings = {"beta": beta, "label_smoothing": label_smoothing, "sft_weight": 0.0}
            add("trl", name, loss, gradient, **settings, rewards=rewards)
    loss, gradient, rewards = of_trl(pairs, ["sigmoid", "sft"], [1.0, 0.3], 0.1, 0.0)
    settings = {"beta": 0.1, "label_smoothing": 0.0, "sft_weight": 0.3}
    add("trl", "sigmoid", loss, gradient, **settings, rewards=rewards)
    loss_class = openrlhf_loss(sys.argv[1])
    for label_smoothing in [0.0, 0.15]:
        loss, gradient = of_openrlhf(loss_class, pairs, 0.3, label_smoothing)
        settings = {"beta": 0.3, "label_smoothing": label_smoothing, "sft_weight": 0.0}
        add("openrlhf", "sigmoid", loss, gradient, **settings)

    value = {
        "_meta": {"script": "tests/golden/make_dpo.py", "versions": reference.versions()},
        "lengths": lengths,
        "logprobs": logps.tolist(),
        "reference": sums.tolist(),
        "cases": cases,
        "step": step(),
    }
    reference.write_json(HERE / "dpo.json", value)


if __name__ == "__main__":
    main()
