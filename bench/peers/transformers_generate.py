"""Measures `generate` of transformers on the CPU. Prints the JSON line of `joust bench engine`.

A stopping criterion that never stops reads the clock after every token: the first token is the
prefill of the whole batch, every later token is a decode step.

    python bench/peers/transformers_generate.py --model DIR --prompt 512 --new 64 \
        --batch 1,8,32 --reps 3
"""

import statistics
import time

import torch
import transformers
import workload as bench
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList


class Clock(StoppingCriteria):
    """Records the time of every token."""

    def __init__(self):
        self.start_s = time.perf_counter()
        self.token_s = []

    def __call__(self, input_ids, scores, **kwargs):
        self.token_s.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)

    def prefill_s(self):
        return self.token_s[0] - self.start_s

    def steps_s(self):
        return [after - before for before, after in zip(self.token_s, self.token_s[1:])]


def main():
    args = bench.parser(__doc__).parse_args()
    workload = bench.Workload.from_args(args)
    torch.set_num_threads(workload.n_threads)
    transformers.logging.set_verbosity_error()

    model = AutoModelForCausalLM.from_pretrained(workload.model, dtype=torch.bfloat16).eval()
    model.generation_config.eos_token_id = None  # nothing stops before the last token
    model.generation_config.pad_token_id = 0  # silences a warning; no prompt is padded
    config = model.config

    def generate(batch, n_new_tokens):
        ids = torch.from_numpy(workload.prompts(batch, config.vocab_size))
        clock = Clock()
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n_new_tokens,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([clock]),
        )
        assert len(clock.token_s) == n_new_tokens, (
            f"{len(clock.token_s)} tokens came, wanted {n_new_tokens}"
        )
        return clock

    generate(1, 2)  # warms up
    prefill_s = statistics.median(generate(1, 1).prefill_s() for _ in range(workload.n_reps))
    decode = []
    for batch in workload.batches:
        steps_s = [
            step
            for _ in range(workload.n_reps)
            for step in generate(batch, workload.n_new_tokens).steps_s()
        ]
        decode.append(bench.decode_figures(batch, statistics.median(steps_s)))

    bench.print_line(
        workload,
        "transformers",
        prefill_s,
        decode,
        weights_bytes=sum(weight.nbytes for weight in model.parameters()),
        # keys and values in bf16
        kv_bytes_per_token=2
        * config.num_hidden_layers
        * config.num_key_value_heads
        * config.head_dim
        * 2,
        version=transformers.__version__,
        torch=torch.__version__,
        attention=config._attn_implementation,
    )


if __name__ == "__main__":
    main()
