"""GRPO by TRL with rewards from a joust server: the nano policy and the nano judge on a CPU.

    python examples/trl/train.py --url http://127.0.0.1:8000 --steps 20 [--asynchronous]
"""

import argparse
import json
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from tournament_reward import TournamentReward, async_tournament_reward

ROOT = Path(__file__).resolve().parents[2]
LOGGED = ("step", "reward", "reward_std", "tournament/matches")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--output", default="outputs/trl")
    parser.add_argument("--asynchronous", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(2)
    model = str(ROOT / "data/models/nano-policy")
    # transformers 5 replaces the pre-tokenizer of every qwen2 model, which is wrong for this one
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model, padding_side="left")
    with open(ROOT / "data/prompts/arithmetic-train.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    # without known answers: the judge works them out itself
    prompts = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows]
    group = 8
    make = async_tournament_reward if args.asynchronous else TournamentReward
    reward = make(args.url, num_generations=group)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(prompts),
        args=GRPOConfig(
            output_dir=args.output,
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=8 * group,
            num_generations=group,
            max_completion_length=96,
            max_steps=args.steps,
            learning_rate=1e-4,
            temperature=1.0,
            logging_steps=1,
            log_completions=True,
            save_strategy="no",
            report_to=[],
            model_init_kwargs={"dtype": "float32"},
        ),
    )
    trainer.train()
    for row in trainer.state.log_history:
        if "reward" in row:
            print(json.dumps({key: row[key] for key in LOGGED if key in row}))


if __name__ == "__main__":
    main()
