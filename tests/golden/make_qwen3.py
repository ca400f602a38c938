#!/usr/bin/env python3
"""Makes tests/golden/qwen3/ (the tiny Qwen3 as an FP8 checkpoint and as a GGUF file) and
tests/golden/qwen3.json, what transformers computes with both.

    pip install torch==2.11.0 transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0
    python tests/golden/make_qwen3.py

Reads tests/golden/models/tiny-qwen3, made by make_models.py.

- `fp8`: as Qwen publishes it: E4M3 with one bf16 scale per block of 128 by 128, some of them cut.
  transformers multiplies each matrix by its scales; inputs are not quantized.
- `tiny-qwen3.gguf`: matrices in Q8_0, norms in f32, names and keys as llama.cpp's converter writes
  them. transformers reads it, but for `attention.key_length`, which it takes for 128.
"""

import json
import shutil
import string

import reference  # first: it sets the environment of the libraries
import gguf
import torch
from make_models import CORPUS, HERE, LEAST_GAP, dump_json, load
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight

BASE = HERE / "models" / "tiny-qwen3"
OUT = HERE / "qwen3"
GGUF = "tiny-qwen3.gguf"
FP8 = torch.float8_e4m3fn
LARGEST = 448.0
BLOCK = [128, 128]
LEAST_MOVE = 1e-2
MODULES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OTHERS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def quantised(weight):
    """[N, K] -> E4M3 [N, K] and bf16 scales [ceil(N/128), ceil(K/128)]"""
    rows = [
        torch.stack([part.abs().amax() for part in row.split(BLOCK[1], 1)])
        for row in weight.split(BLOCK[0], 0)
    ]
    scale = (torch.stack(rows) / LARGEST).bfloat16()
    wide = scale.float().repeat_interleave(BLOCK[0], 0).repeat_interleave(BLOCK[1], 1)
    values = weight / wide[: weight.shape[0], : weight.shape[1]]
    return values.clamp(-LARGEST, LARGEST).to(FP8), scale


def write_fp8(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(BASE.iterdir()):
        if path.name != "config.json" and ".safetensors" not in path.name:
            shutil.copyfile(path, folder / path.name)
    config = json.loads((BASE / "config.json").read_text())
    config["quantization_config"] = {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": BLOCK,
    }
    dump_json(folder / "config.json", dict(sorted(config.items())))
    tensors = {}
    for name, tensor in load_file(BASE / "model.safetensors").items():
        if "_proj." in name:
            tensors[name], tensors[name + "_scale_inv"] = quantised(tensor.float())
        else:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def open_fp8(folder):
    """The model with the written weights, multiplied out by transformers."""
    tensors = load_file(folder / "model.safetensors")
    block = json.loads((folder / "config.json").read_text())["quantization_config"]
    state = {}
    for name, tensor in tensors.items():
        if name.endswith("_scale_inv"):
            continue
        if tensor.dtype == FP8:
            scale = tensors[name + "_scale_inv"].float()
            tensor = _dequantize_fp8_weight(
                tensor, scale, block["weight_block_size"], torch.float32
            )
        state[name] = tensor.float()
    assert sum(max(scale.shape) > 1 for name, scale in tensors.items() if "_inv" in name) >= 6
    model = load(BASE)
    model.load_state_dict(state)
    return model


def gguf_name(name):
    if name in OTHERS:
        return OTHERS[name]
    layer, part = name.removeprefix("model.layers.").split(".", 1)
    module, kind = part.rsplit(".", 1)
    return f"blk.{layer}.{MODULES[module]}.{kind}"


def write_gguf(path):
    config = json.loads((BASE / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("tiny")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    add_tokenizer(writer, config)
    for name, tensor in sorted(load_file(BASE / "model.safetensors").items()):
        values = tensor.float().numpy()
        if values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(gguf_name(name), gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer, config):
    tokenizer = json.loads((BASE / "tokenizer.json").read_text())
    names = {at: name for name, at in tokenizer["model"]["vocab"].items()}
    kinds = dict.fromkeys(names, gguf.TokenType.NORMAL)
    for token in tokenizer["added_tokens"]:
        names[token["id"]] = token["content"]
        special = token["special"]
        kinds[token["id"]] = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
    ids = range(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([names.get(at, f"[PAD{at}]") for at in ids])
    writer.add_token_types([kinds.get(at, gguf.TokenType.UNUSED) for at in ids])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    settings = json.loads((BASE / "tokenizer_config.json").read_text())
    writer.add_chat_template(settings["chat_template"])


def open_gguf():
    head_dim = json.loads((BASE / "config.json").read_text())["head_dim"]
    config = AutoConfig.from_pretrained(OUT, gguf_file=GGUF, head_dim=head_dim)
    return AutoModelForCausalLM.from_pretrained(
        OUT, gguf_file=GGUF, config=config, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()


def candidates(tokenizer):
    """Candidate prompts of each kind: a chat, a single token, a long text."""
    chats = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": f"What is 17 + {n}?"}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for n in range(25, 65)
    ]
    long = tokenizer.encode(" ".join(CORPUS.split() * 2))
    return [
        [tokenizer.encode(chat) for chat in chats],
        [tokenizer.encode(letter) for letter in string.ascii_uppercase],
        [long[:length] for length in range(300, 260, -1)],
    ]


def first_good(model, all_token_ids):
    """The run of the first prompt on which the two best tokens are never nearly tied."""
    for token_ids in all_token_ids:
        try:
            run = reference.greedy(model, token_ids, LEAST_GAP)
            assert len(set(run["greedy_token_ids"])) >= 16, "few distinct tokens"
            return run
        except AssertionError as error:
            print(f"a prompt of {len(token_ids)} will not do ({error})")
    raise SystemExit("no good prompt")


def golden(model):
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    runs = [first_good(model, kind) for kind in candidates(tokenizer)]
    for run in runs:
        run["greedy_text"] = tokenizer.decode(run["greedy_token_ids"], skip_special_tokens=True)
    ids = runs[2]["token_ids"]
    plain = reference.forced_logprobs(load(BASE), ids)
    moved = (reference.forced_logprobs(model, ids) - plain).abs().max().item()
    assert moved > LEAST_MOVE, f"the quantization moves the logprobs by {moved} only"
    return {"plain_max_difference": float(f"{moved:.3g}"), "prompts": runs}


def main():
    write_fp8(OUT / "fp8")
    write_gguf(OUT / GGUF)
    value = {
        "_meta": {
            "script": "tests/golden/make_qwen3.py",
            "versions": {**reference.versions(), "gguf": "0.19.0"},
            "dtype": "float32",
            "attention": "sdpa",
            "alignment": "greedy_logprobs[t] is of greedy_token_ids[t], "
            "prompt_logprobs[t] of token_ids[t + 1]",
        },
        "fp8": golden(open_fp8(OUT / "fp8")),
        "gguf": golden(open_gguf()),
    }
    reference.write_json(HERE / "qwen3.json", value)


if __name__ == "__main__":
    main()
