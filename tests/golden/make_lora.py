#!/usr/bin/env python3
"""Makes tests/golden/lora: adapters of tiny models written by PEFT, and their loss and gradients.

    pip install torch==2.11.0 transformers==5.23.0 peft==0.21.2
    python tests/golden/make_lora.py

A folder a model holds what `PeftModel.save_pretrained` writes. lora.json has the mean cross-entropy
of all tokens of the rows but the first of each, and the norm of its gradient for each matrix of the
adapters. Reads tests/golden/models, made by make_models.py.
"""

import json
import shutil

import reference  # first: it sets the environment of the libraries
import peft
import torch
from make_gradients import ROWS, losses
from make_models import HERE, load

CONFIGS = {
    "tiny-qwen2": {"r": 4, "lora_alpha": 8},
    "tiny-qwen3": {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "v_proj", "down_proj"]},
    "tiny-llama": {"r": 4, "lora_alpha": 6, "use_rslora": True},
}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def golden(name, settings):
    torch.manual_seed(3)
    config = peft.LoraConfig(task_type="CAUSAL_LM", **{"target_modules": ALL, **settings})
    model = peft.get_peft_model(load(HERE / "models" / name).float(), config)
    drawn = torch.Generator().manual_seed(11)
    for tensor, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=drawn) * 0.2
    folder = HERE / "lora" / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    written = json.loads((folder / "adapter_config.json").read_text())
    written["base_model_name_or_path"] = f"tests/golden/models/{name}"
    (folder / "adapter_config.json").write_text(json.dumps(written, indent=2) + "\n")
    model = model.double()
    loss = losses(model, torch.float64) / sum(len(row) - 1 for row in ROWS)
    loss.backward()
    trained = [(key, it) for key, it in model.named_parameters() if it.requires_grad]
    norms = {key.replace(".default", ""): it.grad.norm().item() for key, it in trained}
    return {
        "settings": {"target_modules": ALL, **settings},
        "loss": round(loss.item(), 9),
        "gradient_norms": {key: float(f"{norm:.9g}") for key, norm in norms.items()},
    }


def main():
    value = {
        "_meta": {
            "script": "tests/golden/make_lora.py",
            "versions": {**reference.versions(), "peft": peft.__version__},
            "dtype": "float64, weights as in the files",
        },
        "rows": ROWS,
        "models": {name: golden(name, settings) for name, settings in CONFIGS.items()},
    }
    reference.write_json(HERE / "lora.json", value)


if __name__ == "__main__":
    main()
