#!/usr/bin/env python3
"""Makes tests/golden/fp8/ (the tiny qwen2 model as FP8 checkpoints) and tests/golden/fp8.json.

    pip install torch==2.11.0 transformers==5.23.0 compressed-tensors==0.20.0 accelerate==1.15.0
    OMP_NUM_THREADS=1 python tests/golden/make_fp8.py [OUTPUT_FOLDER]

The same versions give the same bytes. Reads tests/golden/models/tiny-qwen2, made by make_models.py.

- `channel`: compressed-tensors, one f32 scale per output channel, activations quantized per token.
- `tensor`: compressed-tensors, one bf16 scale per matrix, activations with a stored scale; some
  layers are not quantized.
- `block`: as in DeepSeek-V3 and Qwen3, one f32 scale per block; the blocks are cut at the edges.

"prompts" is computed by transformers in f32 with the weights `q * scale` of the files and
activations that are not quantized. "activations" is the same with the inputs of the quantized
matrices quantized per token. An input near the middle between two FP8 numbers is then rounded up or
down depending on the order of a sum, which differs between machines, and the logits move by tenths:
"rounding_max_difference" is the largest difference of the logits at any position when the inputs
move by about the precision of f32. It is small for the short prompts, which were chosen for that;
only those can be compared closely. "plain_max_difference" is the distance from the model before
quantization at the last token of the prompts. "witness_max_difference" is the largest distance at
any position between the libraries' results for the same files.
"""

import json
import re
import shutil
import string
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import reference  # before the libraries: it sets what torch reads when it is imported
import torch
from compressed_tensors.utils.match import match_named_modules
from make_models import CORPUS, HERE, LEAST_GAP, dump_json, load
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CompressedTensorsConfig, FineGrainedFP8Config
from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight
from transformers.quantizers.quantizers_utils import should_convert_module

BASE = HERE / "models" / "tiny-qwen2"
FP8 = torch.float8_e4m3fn
LARGEST = 448.0
LEAST_SCALE = 1 / (LARGEST * 512)  # of an activation: its reciprocal stays far from overflow
BLOCK = [48, 40]  # neither divides a side of a matrix
DIVIDING_BLOCK = [16, 32]
WITNESS_TOLERANCE = 1e-4
LEAST_MOVE = 1e-2
F32_NOISE = 2e-7  # of the largest input of a token
N_NOISES = 16
STABLE = 2e-4
STABLE_LENGTHS = [1, 5, 10, 16]
DECODER_LINEAR = re.compile(
    r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
)


def compressed_tensors_config(ignore, weights, input_activations):
    """The `quantization_config` that llm-compressor writes, without optional fields."""
    fp8 = {"num_bits": 8, "type": "float", "symmetric": True}
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "ignore": ignore,
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**fp8, "dynamic": False, **weights},
                "input_activations": {**fp8, **input_activations},
            }
        },
    }


def block_config(block):
    return {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "weight_block_size": block,
        "modules_to_not_convert": ["lm_head"],
    }


CONFIGS = {
    "channel": compressed_tensors_config(
        ["lm_head"], {"strategy": "channel"}, {"strategy": "token", "dynamic": True}
    ),
    "tensor": compressed_tensors_config(
        ["lm_head", "model.layers.1.mlp.down_proj", r"re:.*layers\.0\.self_attn\..*"],
        {"strategy": "tensor"},
        {"strategy": "tensor", "dynamic": False},
    ),
    "block": block_config(BLOCK),
}


def scale_of(largest):
    """Zeros have scale 1."""
    return torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))


def round_to_fp8(values):
    return values.clamp(-LARGEST, LARGEST).to(FP8)


def spread(scale, shape, block):
    """Scale of each value; the last blocks may be cut. [ceil(N/bn), ceil(K/bk)] -> [N, K]"""
    wide = scale.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
    return wide[: shape[0], : shape[1]]


def block_scale(weight, block):
    """[N, K] -> [ceil(N/bn), ceil(K/bk)]"""
    rows = [
        torch.stack([part.abs().amax() for part in row.split(block[1], dim=1)])
        for row in weight.split(block[0], dim=0)
    ]
    return scale_of(torch.stack(rows))


def quantise(config, weight, largest_input):
    """The stored tensors of a weight [N, K] by suffix of their names; `tensor` reads the input."""
    if config["quant_method"] == "fp8":
        block = config["weight_block_size"]
        scale = block_scale(weight, block)
        q = round_to_fp8(weight / spread(scale, weight.shape, block))
        return {"weight": q, "weight_scale_inv": scale}
    if config["config_groups"]["group_0"]["weights"]["strategy"] == "channel":
        scale = scale_of(weight.abs().amax(1, keepdim=True))  # [N, 1]
        return {"weight": round_to_fp8(weight / scale), "weight_scale": scale}
    scale = scale_of(weight.abs().amax()).reshape(1).bfloat16()
    return {
        "weight": round_to_fp8(weight / scale.float()),
        "weight_scale": scale,
        "input_scale": scale_of(largest_input).reshape(1).bfloat16(),
    }


def is_ignored(config, module):
    names = config.get("ignore") or config["modules_to_not_convert"]
    patterns = [name.removeprefix("re:") for name in names if name.startswith("re:")]
    return module in names or any(re.match(pattern, module) for pattern in patterns)


def quantised_modules(config, model):
    """Names of the matrices to quantize; the library must choose the same."""
    chosen = [
        name
        for name, _ in model.named_modules()
        if DECODER_LINEAR.fullmatch(name) and not is_ignored(config, name)
    ]
    if config["quant_method"] == "fp8":
        theirs = [
            name
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear)
            and should_convert_module(name, config["modules_to_not_convert"])
        ]
    else:
        targets = config["config_groups"]["group_0"]["targets"]
        theirs = [name for name, _ in match_named_modules(model, targets, config["ignore"])]
    assert chosen == theirs, (chosen, theirs)
    return chosen


def largest_inputs(model, all_token_ids):
    """Largest absolute input of each linear layer over some prompts."""
    largest = {}

    def watch(name):
        def hook(_, args):
            seen = args[0].abs().amax()
            largest[name] = torch.maximum(largest.get(name, seen), seen)

        return hook

    linears = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    handles = [module.register_forward_pre_hook(watch(name)) for name, module in linears]
    for token_ids in all_token_ids:
        reference.forced_logits(model, token_ids)
    for handle in handles:
        handle.remove()
    return largest


def write_checkpoint(folder, config, tensors):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(BASE.iterdir()):
        if path.name != "config.json" and ".safetensors" not in path.name:
            shutil.copyfile(path, folder / path.name)
    base_config = json.loads((BASE / "config.json").read_text())
    dump_json(
        folder / "config.json", dict(sorted({**base_config, "quantization_config": config}.items()))
    )
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def save_quantised(folder, config, base, largest):
    """Writes the base model as a checkpoint."""
    tensors = dict(base.state_dict())
    for module in quantised_modules(config, base):
        parts = quantise(config, tensors[module + ".weight"], largest.get(module))
        tensors.update({f"{module}.{ending}": tensor for ending, tensor in parts.items()})
    write_checkpoint(folder, config, tensors)


def read(folder):
    """Loads the model from which everything else is computed."""
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    return config, load_file(folder / "model.safetensors")


def dequantise(config, tensors):
    """State dict in f32."""
    state = {}
    for name, tensor in tensors.items():
        if name.endswith(("_scale", "_scale_inv")):
            continue
        if tensor.dtype == FP8 and config["quant_method"] == "fp8":
            scale = tensors[name + "_scale_inv"]
            tensor = tensor.float() * spread(scale, tensor.shape, config["weight_block_size"])
        elif tensor.dtype == FP8:
            tensor = tensor.float() * tensors[name + "_scale"].float()
        state[name] = tensor
    return state


def with_weights(state):
    """The base model's code with other weights."""
    model = load(BASE)
    model.load_state_dict(state)
    return model


def dequantised(folder):
    return with_weights(dequantise(*read(folder)))


def quantise_inputs(model, modules, noise=0.0):
    """Makes linear layers quantize their inputs, one scale per token, after adding some noise."""

    def hook(_, args):
        x = args[0].float()  # [B, T, K]
        if noise > 0:
            distance = noise * x.abs().amax(-1, keepdim=True)
            x = x + distance * torch.randn(x.shape)
        scale = (x.abs().amax(-1, keepdim=True) / LARGEST).clamp_min(LEAST_SCALE)  # [B, T, 1]
        q = round_to_fp8(x * scale.reciprocal())
        return ((q.float() * scale).to(args[0].dtype),)

    for name in modules:
        model.get_submodule(name).register_forward_pre_hook(hook)
    return model


def farthest(model, other, all_token_ids):
    """Largest difference of two models' logits at any position."""
    pairs = [[reference.forced_logits(m, ids) for m in (model, other)] for ids in all_token_ids]
    return max((a - b).abs().max().item() for a, b in pairs)


def farthest_at_the_end(model, other, all_token_ids):
    pairs = [[reference.forced_logits(m, ids)[-1] for m in (model, other)] for ids in all_token_ids]
    return max((a - b).abs().max().item() for a, b in pairs)


def assert_reading_matters(config, tensors, model, all_token_ids):
    """A wrong reading of the scales must be farther away than any tolerance."""
    wrong = {}
    for name, tensor in tensors.items():
        if tensor.dtype != FP8:
            continue
        if config["quant_method"] == "fp8":  # blocks of equal sizes
            scale = tensors[name + "_scale_inv"]
            block = [-(-size // n) for size, n in zip(tensor.shape, scale.shape)]
            wrong[name] = tensor.float() * spread(scale, tensor.shape, block)
        elif tensors[name + "_scale"].numel() > 1:  # the next row's scale
            wrong[name] = tensor.float() * tensors[name + "_scale"].roll(1, 0)
        else:  # the product in the kind of the scale
            wrong[name] = (tensor.bfloat16() * tensors[name + "_scale"]).float()
    other = with_weights({**dequantise(config, tensors), **wrong})
    moved = farthest(model, other, all_token_ids)
    assert moved > LEAST_MOVE, f"scales read wrongly move the logits by {moved} only"


def witness_channel(folder, model, all_token_ids):
    """Compares weights alone, and with activations, which the library quantizes as it runs."""
    plain = load(folder, quantization_config=CompressedTensorsConfig(dequantize=True))
    running = load(folder, quantization_config=CompressedTensorsConfig(dequantize=False))
    modules = quantised_modules(read(folder)[0], model)
    quantising = quantise_inputs(dequantised(folder), modules)
    return {
        "compressed-tensors": farthest(model, plain, all_token_ids),
        "compressed-tensors, activations": farthest(quantising, running, all_token_ids),
    }


def witness_tensor(folder, model, all_token_ids):
    """Compares with compressed-tensors.

    `dequantize=True` multiplies in the dtype of the scale, bf16, whatever the model's dtype.
    `dequantize=False` widens the scale and multiplies in the first run; afterwards the quantization
    of activations is switched off.
    """
    _, tensors = read(folder)
    rounded = load(
        folder, quantization_config=CompressedTensorsConfig(dequantize=True)
    ).state_dict()
    for name, tensor in tensors.items():
        if tensor.dtype == FP8:
            in_bf16 = tensor.bfloat16() * tensors[name + "_scale"]
            assert torch.equal(rounded[name], in_bf16.float()), name
    plain = load(folder, quantization_config=CompressedTensorsConfig(dequantize=False))
    reference.forced_logits(plain, all_token_ids[0])
    for module in plain.modules():
        module.quantization_enabled = False
    return {"compressed-tensors": farthest(model, plain, all_token_ids)}


def witness_block(folder, model, all_token_ids):
    """Compares with transformers and compressed-tensors.

    `FineGrainedFP8Config(dequantize=True)` takes the block's size from the scale's shape, as if no
    block were cut: it raises "Weight shape (128, 64) not divisible by scale grid (3, 2)" (and would
    misread [64, 64] silently). So it reads a checkpoint whose blocks divide the matrices. The cut
    blocks are read by transformers' other routine, which its GPU path uses for gradients, and by
    compressed-tensors, which calls the scale `weight_scale`. FP8Linear, the GPU path, needs kernels
    from the hub.
    """
    config, tensors = read(folder)
    for name, tensor in tensors.items():
        if tensor.dtype == FP8:
            scale = tensors[name + "_scale_inv"]
            theirs = _dequantize_fp8_weight(
                tensor, scale, config["weight_block_size"], torch.float32
            )
            assert torch.equal(theirs, model.state_dict()[name]), name
    with tempfile.TemporaryDirectory() as work:
        renamed = Path(work) / "renamed"
        as_compressed_tensors = compressed_tensors_config(
            ["lm_head"],
            {"strategy": "block", "block_structure": BLOCK},
            {"strategy": "token", "dynamic": True},
        )
        tensors = {name.replace("_scale_inv", "_scale"): t for name, t in tensors.items()}
        write_checkpoint(renamed, as_compressed_tensors, tensors)
        cut = load(renamed, quantization_config=CompressedTensorsConfig(dequantize=True))

        whole = Path(work) / "whole"
        save_quantised(whole, block_config(DIVIDING_BLOCK), load(BASE), {})
        theirs = load(whole, quantization_config=FineGrainedFP8Config(dequantize=True))
        return {
            "compressed-tensors": farthest(model, cut, all_token_ids),
            "transformers, blocks that divide": farthest(dequantised(whole), theirs, all_token_ids),
        }


WITNESSES = {"channel": witness_channel, "tensor": witness_tensor, "block": witness_block}


def candidates(tokenizer):
    """Candidate prompts of each kind: a chat, a single token, a long text."""
    questions = [f"What is 17 + {n}?" for n in range(25, 65)]
    chats = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question in questions
    ]
    long = long_text(tokenizer)
    return [
        [tokenizer.encode(chat, add_special_tokens=False) for chat in chats],
        [tokenizer.encode(letter, add_special_tokens=False) for letter in string.ascii_uppercase],
        [long[:length] for length in range(300, 260, -1)],
    ]


def long_text(tokenizer):
    return tokenizer.encode(" ".join(CORPUS.split() * 2), add_special_tokens=False)


def first_good(what, model, all_token_ids):
    """The first suitable prompt, and its run."""
    for token_ids in all_token_ids:
        try:
            run = reference.greedy(model, token_ids, LEAST_GAP)
            n_distinct = len(set(run["greedy_token_ids"]))
            assert n_distinct >= 16, f"{n_distinct} distinct tokens among 64"
            return run
        except AssertionError as error:
            print(f"{what}: a prompt of {len(token_ids)} will not do ({error})", file=sys.stderr)
    raise SystemExit(f"{what}: no good prompt among {len(all_token_ids)}")


class Activations:
    """A checkpoint computed with quantized inputs, and the uncertainty of its logits."""

    def __init__(self, folder):
        modules = quantised_modules(read(folder)[0], load(BASE))
        self.base = load(BASE)
        self.model = quantise_inputs(dequantised(folder), modules)
        self.in_f64 = quantise_inputs(dequantised(folder).double(), modules)
        self.noisy = quantise_inputs(dequantised(folder), modules, F32_NOISE)

    def rounding_max_difference(self, token_ids):
        torch.manual_seed(0)
        others = [self.in_f64] + [self.noisy] * N_NOISES
        return max(farthest(self.model, other, [token_ids]) for other in others)

    def first_stable(self, text, length):
        """The first piece of a text without inputs near the middle of two FP8 numbers."""
        for start in range(len(text) - length):
            token_ids = text[start : start + length]
            if self.rounding_max_difference(token_ids) < STABLE:
                return token_ids
        raise SystemExit(f"no {length} tokens whose rounding is sure")

    def row(self, token_ids):
        return {
            "token_ids": token_ids,
            "plain_max_difference": digits(farthest_at_the_end(self.model, self.base, [token_ids])),
            "rounding_max_difference": digits(self.rounding_max_difference(token_ids)),
            "last_prompt_logits": reference.rounded(
                reference.forced_logits(self.model, token_ids)[-1], 5
            ),
            "prompt_logprobs": reference.rounded(reference.forced_logprobs(self.model, token_ids)),
        }


def activations(folder, all_token_ids, text):
    """Rows of the given prompts, then of short ones that can be compared closely."""
    quantising = Activations(folder)
    stable = [quantising.first_stable(text, length) for length in STABLE_LENGTHS]
    for token_ids in stable:
        moved = farthest_at_the_end(quantising.model, dequantised(folder), [token_ids])
        assert moved > LEAST_MOVE, f"quantised activations move the logits by {moved} only"
    return [quantising.row(token_ids) for token_ids in all_token_ids + stable]


def digits(value):
    return float(f"{value:.3g}")


def make(name, folder):
    """Writes one checkpoint and returns its goldens."""
    base = load(BASE)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    kinds = candidates(tokenizer)
    save_quantised(folder, CONFIGS[name], base, largest_inputs(base, [kind[0] for kind in kinds]))

    # from here on only the written files are read
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = dequantised(folder)
    runs = [first_good(name, model, kind) for kind in kinds]
    for run in runs:
        run["greedy_text"] = tokenizer.decode(run["greedy_token_ids"], skip_special_tokens=True)
    all_token_ids = [run["token_ids"] for run in runs]
    plain_max_difference = farthest_at_the_end(model, base, all_token_ids)
    assert plain_max_difference > LEAST_MOVE, plain_max_difference
    assert_reading_matters(*read(folder), model, all_token_ids)
    witnesses = WITNESSES[name](folder, model, all_token_ids)
    for what, difference in witnesses.items():
        assert difference < WITNESS_TOLERANCE, f"{name}: {what} differs by {difference}"
    golden = {
        "plain_max_difference": digits(plain_max_difference),
        "witness_max_difference": {what: digits(value) for what, value in witnesses.items()},
        "prompts": runs,
    }
    if name == "channel":
        golden["activations"] = activations(folder, all_token_ids, long_text(tokenizer))
    return golden


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    libraries = {name: version(name) for name in ("compressed-tensors", "accelerate")}
    golden = {
        "_meta": {
            "script": "tests/golden/make_fp8.py",
            "versions": {**reference.versions(), **libraries},
            "dtype": "float32",
            "attention": "sdpa",
            "alignment": "greedy_logprobs[t] is of greedy_token_ids[t], "
            "prompt_logprobs[t] of token_ids[t + 1]",
        },
        "models": {name: make(name, out / "fp8" / name) for name in CONFIGS},
    }
    reference.write_json(out / "fp8.json", golden)


if __name__ == "__main__":
    main()
