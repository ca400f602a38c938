"""Loads what joust trains into peft and transformers, and compares log-probabilities.

    pip install torch==2.11.0 transformers==5.23.0 peft==0.21.2
    python tests/peft/run.py --joust target/release/joust

A few steps of GRPO train adapters of the nano policy. peft loads the checkpoint's folder on the
base model, transformers the exported, merged model; both have to give the log-probabilities of
`joust logprobs` of the merged model, and other ones than the base. Prints the distances; the exit
code is 1 if one is too large.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import peft
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASE = ROOT / "data/models/nano-policy"
ROWS = [
    {"prompt": "What is 17 + 25?", "completion": "The answer is 42."},
    {"prompt": "63 * 5 = ?", "completion": "63 * 5: 3*5=15, so 315.\nThe answer is 315."},
]
MODULES = '["q_proj", "v_proj", "down_proj"]'
LORA = f"trainer.learner.lora={{ r = 8, lora_alpha = 16, target_modules = {MODULES} }}"


def train(joust, folder):
    command = [joust, "train", "configs/quickstart.toml", LORA, "run.name=peft", "train.steps=6"]
    command += [f"run.output_dir={folder}", f"export.path={folder}/merged", "eval.max_prompts=4"]
    command += ["train.prompts_per_step=8", "trainer.learner.optim.lr=3e-3"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder / "peft/checkpoints/step_00006", folder / "merged"


def of_joust(joust, model, folder):
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    command = [joust, "logprobs", "--model", model, "--input", rows, "--dtype", "f32"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in said.stdout.splitlines()]


def distance(model, lines):
    """Largest distance of a completion's log-probability from joust's."""
    worst = 0.0
    for line in lines:
        prompt, completion = line["prompt_token_ids"], line["token_ids"]
        ids = torch.tensor([prompt + completion])
        with torch.no_grad():
            logprobs = model(ids).logits[0].float().log_softmax(-1)
        at = torch.arange(len(prompt) - 1, len(prompt) + len(completion) - 1)
        seen = logprobs[at, ids[0, len(prompt) :]]
        worst = max(worst, (seen - torch.tensor(line["logprobs"])).abs().max().item())
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--joust", type=pathlib.Path, required=True)
    joust = parser.parse_args().joust.resolve()
    load = transformers.AutoModelForCausalLM.from_pretrained
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        checkpoint, merged = train(joust, folder)
        lines = of_joust(joust, merged, folder)
        base = load(BASE, dtype=torch.float32)
        far = distance(base, lines)
        adapted = peft.PeftModel.from_pretrained(base, checkpoint)
        distances = {
            "peft": distance(adapted, lines),
            "peft, merged": distance(adapted.merge_and_unload(), lines),
            "transformers": distance(load(merged, dtype=torch.float32), lines),
        }
    print(f"base model: {far:.2g} from the trained one")
    for name, off in distances.items():
        print(f"{name}: {off:.2g}")
    if far < 0.01 or max(distances.values()) > 2e-3:
        raise SystemExit("the programs do not agree")


if __name__ == "__main__":
    main()
