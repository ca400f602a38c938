"""Makes the model of the comparison in both formats that its programs read.

From the quantised GGUF of SmolLM2-135M-Instruct come a plain bf16 Hugging Face folder (joust,
transformers) and a bf16 GGUF of the very same weights (llama.cpp). At the end both are asked for
the same greedy continuation, and the script says whether they agree.

    python bench/peers/make_model.py --source SmolLM2-135M-Instruct.Q4_1.gguf \
        --folder DIR --gguf FILE.gguf
"""

import argparse
import re
import sys
from pathlib import Path

import gguf
import llama_cpp_generate
import torch
from model_folder import write_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
N_CHECKED = 16

# Hugging Face's name of a layer's tensor -> GGUF's.
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", type=Path, required=True, help="a quantised GGUF of the Llama family"
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="the Hugging Face folder to write"
    )
    parser.add_argument("--gguf", type=Path, required=True, help="the bf16 GGUF to write")
    args = parser.parse_args()

    model = write_folder(args.source, args.folder)
    write_gguf(model, args.source, args.gguf)
    if not check(args.folder, args.gguf):
        sys.exit(1)


def write_gguf(model, source, target):
    """Writes the weights as bf16 (norms as f32) with the metadata and vocabulary of `source`."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, arch="llama")
    copy_metadata(reader, writer)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)

    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue  # llama.cpp takes the embeddings where there is no output matrix
        n_heads = next((n for projection, n in heads.items() if projection in name), None)
        if n_heads is not None:
            weight = interleave_halves(weight, n_heads)
        kind = gguf.GGMLQuantizationType.F32 if weight.ndim == 1 else gguf.GGMLQuantizationType.BF16
        data = gguf.quantize(weight.float().numpy(), kind)
        writer.add_tensor(gguf_name(name), data, raw_dtype=kind)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def copy_metadata(reader, writer):
    """Copies the fields of the model and its tokenizer, but not those of the number format."""
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in (
            "general.architecture",
            "general.file_type",
        ):
            continue
        element = field.types[1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, field.contents(), field.types[0], element)


def interleave_halves(weight, n_heads):
    """Reorders the rows of a head from two halves (Hugging Face) to adjacent pairs (llama.cpp)."""
    rows, columns = weight.shape
    halves = weight.reshape(n_heads, 2, rows // n_heads // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)


def gguf_name(name):
    outside = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in outside:
        return outside[name]
    layer, tensor = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name).groups()
    return f"blk.{layer}.{LAYER_NAMES[tensor]}.weight"


def check(folder, gguf_path):
    """Prints whether both files give the same token ids and the same greedy continuation."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    llama_cpp_model = llama_cpp_generate.Model(gguf_path)
    prompts_agree = llama_cpp_model.tokenize(PROMPT) == prompt
    by_llama_cpp = llama_cpp_generate.greedy(
        llama_cpp_model, prompt, N_CHECKED, torch.get_num_threads()
    )

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    ids = torch.tensor([prompt])
    model.generation_config.eos_token_id = None  # llama.cpp is not stopped either
    answer = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=N_CHECKED, do_sample=False
    )
    by_transformers = answer[0, len(prompt) :].tolist()

    agree = prompts_agree and by_transformers == by_llama_cpp
    print(f"transformers: {tokenizer.decode(by_transformers)!r}")
    print(f"llama.cpp:    {tokenizer.decode(by_llama_cpp)!r}")
    print(f"{'the same' if prompts_agree else 'DIFFERENT'} {len(prompt)} prompt tokens in both")
    print(
        f"{'the same' if by_transformers == by_llama_cpp else 'DIFFERENT'} "
        f"{N_CHECKED} greedy tokens from both"
    )
    return agree


if __name__ == "__main__":
    main()
