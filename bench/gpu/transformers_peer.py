#!/usr/bin/env python3
"""transformers in bf16 on this machine's GPU: prefill of 4,096 tokens, and decoding after 2,048
at several batch sizes, by a loop over the model's own forward with its own cache; random weights of
the model folder's shape.

    python bench/gpu/transformers_peer.py MODEL_FOLDER
"""

import json
import sys
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

N_STEPS = 16
# on a CPU, with a small model, to check the script itself
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(run):
    """The median of three runs after one that warms up."""
    times = []
    for _ in range(4):
        synchronize()
        start = time.time()
        run()
        synchronize()
        times.append(time.time() - start)
    return sorted(times[1:])[1]


@torch.inference_mode()
def main():
    config = AutoConfig.from_pretrained(sys.argv[1])
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(DEVICE):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        ).eval()
    ids = torch.randint(0, config.vocab_size, (1, 4096), device=DEVICE)
    prefill = seconds(lambda: model(ids, logits_to_keep=1))
    print(
        json.dumps({"part": "prefill", "prompt": 4096, "tokens_per_s": 4096 / prefill}), flush=True
    )
    for batch in (1, 8, 16):
        try:
            cache = DynamicCache()
            for row in range(0, 2048, 512):
                chunk = torch.randint(0, config.vocab_size, (batch, 512), device=DEVICE)
                model(chunk, past_key_values=cache, logits_to_keep=1)
            token = torch.randint(0, config.vocab_size, (batch, 1), device=DEVICE)
            times = []
            for _ in range(N_STEPS):
                synchronize()
                start = time.time()
                token = model(token, past_key_values=cache).logits[:, -1:].argmax(-1)
                synchronize()
                times.append(time.time() - start)
            step = sorted(times)[len(times) // 2]
            print(
                json.dumps(
                    {
                        "part": "decode",
                        "batch": batch,
                        "prompt": 2048,
                        "step_ms": step * 1e3,
                        "tokens_per_s": batch / step,
                    }
                ),
                flush=True,
            )
        except torch.OutOfMemoryError:
            print(
                json.dumps(
                    {"part": "decode", "batch": batch, "prompt": 2048, "out_of_memory": True}
                ),
                flush=True,
            )
        cache = None
        if DEVICE == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
