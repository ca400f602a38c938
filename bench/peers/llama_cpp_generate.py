"""Measures llama.cpp on the CPU by its C functions. Prints the JSON line of `joust bench engine`.

The model is a bf16 GGUF, keys and values are f16. The prompts of a batch are read once; every
repetition rewinds the contexts to their end.

    python bench/peers/llama_cpp_generate.py --model FILE.gguf --prompt 512 --new 64 \
        --batch 1,8,32 --reps 3
"""

import ctypes
import statistics
import sys
import time

import llama_cpp as lib
import numpy as np
import workload as bench

FLASH_ATTENTION = {
    "auto": lib.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "off": lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    "on": lib.LLAMA_FLASH_ATTN_TYPE_ENABLED,
}
LOG_LEVEL_ERROR = 4  # GGML_LOG_LEVEL_ERROR, which the Python package does not export
# llama.cpp rounds the context of a sequence up to a multiple of this.
CONTEXT_BLOCK_TOKENS = 256
# Maximum number of tokens per call, llama.cpp's default.
N_BATCH_TOKENS = 2048


@lib.llama_log_callback
def log_errors(level, text, user_data):
    if level == LOG_LEVEL_ERROR:
        sys.stderr.write(text.decode(errors="replace"))


class Model:
    def __init__(self, path):
        lib.llama_log_set(log_errors, ctypes.c_void_p(0))
        lib.llama_backend_init()
        self.handle = lib.llama_model_load_from_file(
            str(path).encode(), lib.llama_model_default_params()
        )
        if not self.handle:
            raise SystemExit(f"{path}: llama.cpp cannot load it")
        self.vocab = lib.llama_model_get_vocab(self.handle)
        self.n_vocab = lib.llama_vocab_n_tokens(self.vocab)

    def tokenize(self, text):
        """Token ids of a text; special tokens in the text are parsed."""
        data = text.encode()
        ids = (lib.llama_token * (len(data) + 8))()
        n_ids = lib.llama_tokenize(self.vocab, data, len(data), ids, len(ids), False, True)
        return ids[:n_ids]

    def weights_bytes(self):
        return lib.llama_model_size(self.handle)

    def kv_values_per_token(self):
        head_dim = lib.llama_model_n_embd(self.handle) // lib.llama_model_n_head(self.handle)
        return (
            2
            * lib.llama_model_n_layer(self.handle)
            * lib.llama_model_n_head_kv(self.handle)
            * head_dim
        )


class Contexts:
    """Sequences that are decoded together, each with its own context."""

    def __init__(self, model, n_sequences, n_context_tokens, n_threads, flash_attention="off"):
        n_blocks = -(-n_context_tokens // CONTEXT_BLOCK_TOKENS)
        params = lib.llama_context_default_params()
        params.n_ctx = n_sequences * n_blocks * CONTEXT_BLOCK_TOKENS
        params.n_batch = N_BATCH_TOKENS
        params.n_seq_max = n_sequences
        params.n_outputs_max = n_sequences
        params.n_threads = params.n_threads_batch = n_threads
        params.type_k = params.type_v = lib.GGML_TYPE_F16
        params.flash_attn_type = FLASH_ATTENTION[flash_attention]
        self.handle = lib.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise SystemExit(
                f"llama.cpp cannot make {n_sequences} contexts of {n_context_tokens} tokens"
            )
        self.batch = lib.llama_batch_init(N_BATCH_TOKENS, 0, 1)
        self.n_sequences = n_sequences
        self.n_vocab = model.n_vocab

    def close(self):
        lib.llama_batch_free(self.batch)
        lib.llama_free(self.handle)

    def prefill(self, sequence, tokens):
        """Reads a prompt into an empty context and returns the best next token."""
        last = len(tokens) - 1
        for start in range(0, len(tokens), N_BATCH_TOKENS):
            part = tokens[start : start + N_BATCH_TOKENS]
            positions = range(start, start + len(part))
            self._decode([(token, i, sequence, i == last) for token, i in zip(part, positions)])
        return self._best_token(-1)

    def step(self, tokens, position):
        """Appends one token to every sequence and returns the best next tokens."""
        self._decode([(token, position, sequence, True) for sequence, token in enumerate(tokens)])
        return [self._best_token(row) for row in range(self.n_sequences)]

    def rewind(self, position):
        """Removes the tokens from `position` on."""
        memory = lib.llama_get_memory(self.handle)
        for sequence in range(self.n_sequences):
            lib.llama_memory_seq_rm(memory, sequence, position, -1)

    def _decode(self, items):
        batch = self.batch
        batch.n_tokens = len(items)
        for i, (token, position, sequence, wants_logits) in enumerate(items):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wants_logits
        code = lib.llama_decode(self.handle, batch)
        if code != 0:
            raise SystemExit(f"llama_decode returned {code}, wanted 0")

    def _best_token(self, row):
        logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(self.handle, row), (self.n_vocab,))
        return int(logits.argmax())


def greedy(model, prompt, n_new_tokens, n_threads):
    """The greedy continuation of one prompt."""
    contexts = Contexts(model, 1, len(prompt) + n_new_tokens, n_threads)
    tokens = [contexts.prefill(0, prompt)]
    while len(tokens) < n_new_tokens:
        tokens += contexts.step(tokens[-1:], len(prompt) + len(tokens) - 1)
    contexts.close()
    return tokens


def measure_prefill(model, workload, flash_attention):
    """Median seconds from a prompt to its first token."""
    [prompt] = workload.prompts(1, model.n_vocab).tolist()
    contexts = Contexts(model, 1, len(prompt), workload.n_threads, flash_attention)
    seconds = []
    for _ in range(1 + workload.n_reps):
        contexts.rewind(0)
        start_s = time.perf_counter()
        contexts.prefill(0, prompt)
        seconds.append(time.perf_counter() - start_s)
    contexts.close()
    return statistics.median(seconds[1:])  # the first one warmed up


def measure_decode(model, workload, batch, flash_attention):
    """Median seconds of a step of `batch` sequences. The prefill gives the first new token."""
    prompts = workload.prompts(batch, model.n_vocab).tolist()
    n_context_tokens = workload.n_prompt_tokens + workload.n_new_tokens
    contexts = Contexts(model, batch, n_context_tokens, workload.n_threads, flash_attention)
    first = [contexts.prefill(sequence, prompt) for sequence, prompt in enumerate(prompts)]
    steps_s = []
    for _ in range(workload.n_reps):
        contexts.rewind(workload.n_prompt_tokens)
        tokens = first
        for position in range(workload.n_prompt_tokens, n_context_tokens - 1):
            start_s = time.perf_counter()
            tokens = contexts.step(tokens, position)
            steps_s.append(time.perf_counter() - start_s)
    contexts.close()
    return statistics.median(steps_s)


def main():
    parser = bench.parser(__doc__)
    parser.add_argument(
        "--flash-attention",
        choices=list(FLASH_ATTENTION),
        default="off",
        help="which of the two is faster depends on the machine and the batch (default: off)",
    )
    args = parser.parse_args()
    workload = bench.Workload.from_args(args)
    model = Model(workload.model)

    prefill_s = measure_prefill(model, workload, args.flash_attention)
    decode = []
    for batch in workload.batches:
        median_step_s = measure_decode(model, workload, batch, args.flash_attention)
        decode.append(bench.decode_figures(batch, median_step_s))

    bench.print_line(
        workload,
        "llama.cpp",
        prefill_s,
        decode,
        weights_bytes=model.weights_bytes(),
        kv_bytes_per_token=model.kv_values_per_token() * 2,  # f16
        version=lib.__version__,
        flash_attention=args.flash_attention,
        built_with=lib.llama_print_system_info().decode().strip(" |"),
    )


if __name__ == "__main__":
    main()
