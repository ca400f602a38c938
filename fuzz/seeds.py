"""Writes the first inputs of each corpus: small, of every kind that a parser knows, good and bad.

    python3 fuzz/seeds.py

Needs nothing but Python. Names begin with `seed-`; inputs that fuzzing found beside them keep the
names that it gave them. Bodies of requests are those of tests/wire.
"""

import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / "tests/wire"))

import cases  # noqa: E402

VERDICTS = {
    "first": "<think>\nhm\n</think>\n\n\\boxed{Assistant 1}",
    "second": "so</think>\\boxed{Assistant 2}",
    "font": "</think>$\\boxed{\\text{\\mathbf{Assistant}~2.}}$",
    "bold": "</think>\\boxed{**Solution 1**}",
    "two": "</think>\\boxed{Assistant 1} no, \\boxed {assistant\\,2}",
    "cut": "</think>\\boxed{Assistant 1} then \\boxed{Assist",
    "no-thought": "\\boxed{Assistant 1}",
    "mention": "</think> in \\boxed and \\boxed{Assistant 1}",
    "third": "</think>\\boxed{Assistant 3}",
    "unicode": "</think>\\boxed{Ａssistant １}\u202e",
    "braces": "</think>\\boxed{{{{Assistant 1}}}",
}

# the known answer, then the completion
ANSWERS = {
    "number": "140\nThe answer is 140.",
    "thousands": "1200\nIt is 1,200.00 in all.",
    "boxed": "3/2\nso \\boxed{\\frac{3}{2}}",
    "gsm8k": "5 + 7 = 12 #### 12\n#### 12",
    "negative": "-5\nit is \\boxed{-5}",
    "percent": "50%\n\\boxed{50\\%}",
    "unit": "3 cm\n\\boxed{3\\text{ cm}}",
    "interval": "(0, 1]\n\\boxed{\\left(0,1\\right]}",
    "list": "1, 2, 3\n\\boxed{1,2,3}",
    "root": "\\sqrt{2}\n\\boxed{\\sqrt2}",
    "exponent": "1e-5\n\\boxed{10^{-5}}",
    "huge": "1e400\n\\boxed{1" + "0" * 400 + "}",
    "matrix": "\\begin{pmatrix}1\\\\2\\end{pmatrix}\n\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}",
    "text": "Paris\nThe answer is: **Paris**.",
    "thought": "4\n<think>5 \\boxed{5}</think> 4",
    "cut": "4\n<think>\\boxed{4}",
    "deep": "1\n\\boxed" + "{" * 60 + "1" + "}" * 60,
    "fractions": "1\n\\boxed{" + "\\frac{1}{" * 20 + "1" + "}" * 20 + "}",
    "sign": "7\n5 -3 = \u22127 item-7",
    "empty": "\n",
}

CONFIGS = {
    "sections": '[run]\nname = "x"\nseed = 7\n[train]\nsteps = 3\n',
    "judge": '[reward.judge]\nkind = "http"\nurls = ["http://h/v1"]\nmodel = "m"\n',
    "kinds": '[reward]\njudge = { kind = "replay", dump = "d" }\n'
    'tournament = { kind = "knockout" }',
    "votes": '[reward.tournament]\nvotes = { max = 16, stop = "posterior", threshold = 0.9 }',
    "unknown": "[train]\nstps = 3\n[trainer.learner.optim]\nlearning_rate = 1\n",
    "bounds": "[train]\nsteps = -1\n[rollout]\ntemperature = nan\ngroup_size = 4000000000\n",
    "types": "run = 1\n[train]\nsteps = [1]\n[eval]\nevery = 'x'\n",
    "broken": "[run\nname = ",
    "twice": "[run]\n[run]\nname = 1",
    "dates": "[run]\nname = 1979-05-27T07:32:00Z\n",
    "deep": "a = " + "[" * 60 + "]" * 60,
    "serve": "[serve]\nport = 0\ntimeout_s = 1e300\ntls_cert = 'x'\n",
    "sft": "[model]\npath = 'm'\n[data]\narithmetic = {}\n[trainer]\nepochs = 1\n",
    "overrides": "[run]\nseed = 1\n--- overrides\nrun.seed=2\n--train.steps=3\nrun.name=7\n"
    "reward.judge.kind=\"http\"\na.b.c={ d = 1 }\nx\n=\n..=1\n",
    "quoted": '"run".\'name\' = "\\u0000\\U0010ffff"\r\n',
}

TEMPLATES = {
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "generation": "{%- for m in messages -%}{% generation %}{{ m.content }}{% endgeneration %}"
    "{%- endfor -%}",
    "methods": "{{ messages[0].content.split('+')[-1].strip().upper().replace('9', '8') }}",
    "format": "{{ '%s %05.2f %r' % ('a', 1.5, 'b') }}{{ '{} {a}'.format(1, a=2) }}",
    "tojson": "{{ messages | tojson(indent=2) }}{{ {'b': 1, 'a': 'ä<'} | tojson }}",
    "raise": "{{ raise_exception('no system message') }}",
    "time": "{{ strftime_now('%d %B %Y') }}",
    "macro": "{% macro f(x, n) %}{{ x * n }}{% if n > 0 %}{{ f(x, n - 1) }}{% endif %}"
    "{% endmacro %}{{ f('ab', 4) }}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{% if loop.last %}{% break %}{% endif %}{% endfor %}{{ ns.n }}",
    "slices": "{{ messages[::-1][0:2] | length }}{{ messages[-1]['content'][5:1:-1] }}",
    "tests": "{% if tools is defined and tools is not none or x is string %}{{ tools }}{% endif %}",
    "undefined": "{{ nothing.at.all }}",
    "loops": "{% for a in range(9) %}{% for b in range(9) %}{{ a ~ b }}{% endfor %}{% endfor %}",
    "broken": "{% for m in messages %}{{ m",
    "crlf": "{%- if true %}\r\n  x\r\n{%- endif %}\r\n",
    "call": "{% set items = [] %}{{ items.append(1) }}{{ messages.items() }}{{ ''.join([1]) }}",
}

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "vocab_size": 4,
    "tie_word_embeddings": True,
}

MODEL_CONFIGS = {
    "llama": LLAMA,
    "qwen2": LLAMA | {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 8},
    "llama3": LLAMA
    | {
        "rope_theta": 5e5,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
    "rope-parameters": LLAMA
    | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
    "yarn": LLAMA | {"rope_scaling": {"type": "yarn", "factor": 4.0}},
    "fp8": LLAMA
    | {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    "compressed": LLAMA
    | {
        "torch_dtype": "bfloat16",
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "format": "float-quantized",
            "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
        },
    },
    "huge": LLAMA | {"hidden_size": 2**63, "num_attention_heads": 2**62, "head_dim": 2**61},
    "zero": LLAMA | {"num_attention_heads": 0, "rms_norm_eps": 0, "vocab_size": 0},
    "types": LLAMA | {"hidden_size": 8.5, "hidden_act": None, "eos_token_id": [1, "x"]},
    "other": {"model_type": "gemma2"},
    "list": [1],
}


def safetensors(tensors, extra=b"", metadata=None):
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, dtype, shape, content in tensors:
        end = len(data) + len(content)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), end]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data + extra


FOUR = ("a.weight", "F32", [2, 2], struct.pack("<4f", 1, 2, 3, 4))
SAFETENSORS = {
    "one": safetensors([FOUR]),
    "types": safetensors(
        [
            (f"t{at}", dtype, [2], bytes(2 * size))
            for at, (dtype, size) in enumerate(
                [("BF16", 2), ("F16", 2), ("I64", 8), ("F8_E4M3", 1), ("U8", 1), ("BOOL", 1)]
            )
        ]
    ),
    "scalar": safetensors([("s", "F32", [], bytes(4))], metadata={"format": "pt"}),
    "empty": safetensors([("e", "F32", [0, 5], b"")]),
    "nothing": safetensors([]),
    "rest": safetensors([FOUR], extra=b"more"),
    "short": safetensors([FOUR])[:-4],
    "shape": safetensors([("a", "F32", [3, 2], bytes(16))]),
    "huge": safetensors([("a", "F32", [2**62, 8], bytes(16))]),
    "unknown": safetensors([("a", "F4", [4], bytes(2))]),
    "header": struct.pack("<Q", 2**40) + b"{}",
    "no-json": struct.pack("<Q", 5) + b'{"a":',
}


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf_value(value):
    """Type and bytes of a metadata value: a number is 32 bits wide."""
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return 8, text(value)
    kinds = [gguf_value(item) for item in value]
    kind = kinds[0][0] if kinds else 8
    return 9, struct.pack("<IQ", kind, len(kinds)) + b"".join(content for _, content in kinds)


def gguf(metadata, tensors, version=3):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        kind, content = gguf_value(value)
        head += text(key) + struct.pack("<I", kind) + content
    data = b""
    for name, shape, kind, content in tensors:
        data += bytes(-len(data) % 32)
        head += text(name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", size) for size in reversed(shape))
        head += struct.pack("<IQ", kind, len(data))
        data += content
    return head + bytes(-len(head) % 32) + data


def floats(*shape):
    count = 1
    for size in shape:
        count *= size
    return list(shape), 0, struct.pack(f"<{count}f", *([0.5] * count))


TOKENS = ["<|start|>", "<|end|>", "a", "b", "ab", "\u0120", "\u0120a", "1"]
VOCABULARY = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "qwen2",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 3, 1, 1, 1, 1, 1, 1],
    "tokenizer.ggml.merges": ["a b", "\u0120 a"],
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1,
}


def gguf_model(arch="llama", **more):
    of_arch = {
        "embedding_length": 8,
        "feed_forward_length": 16,
        "block_count": 1,
        "attention.head_count": 2,
        "attention.head_count_kv": 1,
        "context_length": 64,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    metadata = {"general.architecture": arch}
    metadata |= {f"{arch}.{key}": value for key, value in of_arch.items()}
    metadata |= VOCABULARY | more
    tensors = [
        ("token_embd.weight", *floats(8, 8)),
        ("output_norm.weight", *floats(8)),
        ("blk.0.attn_q.weight", *floats(8, 8)),
        ("blk.0.attn_k.weight", *floats(4, 8)),
        ("blk.0.ffn_up.weight", [1, 32], 8, bytes(34)),
    ]
    return gguf(metadata, tensors)


TEMPLATE = {"tokenizer.chat_template": TEMPLATES["chatml"]}
GGUF = {
    "llama": gguf_model(),
    "qwen2": gguf_model("qwen2", **TEMPLATE),
    "llama3": gguf_model(**{"tokenizer.ggml.pre": "llama-bpe", "llama.rope.freq_base": 5e5}),
    "linear": gguf_model(
        **{"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    ),
    "default": gguf_model(**{"tokenizer.ggml.pre": "default", "general.alignment": 64}),
    "other": gguf_model("gemma2"),
    "end-of-turn": gguf_model(**{"tokenizer.ggml.eot_token_id": 3, "general.file_type": 7}),
    "split": gguf_model(**{"split.no": 0, "split.count": 2, "split.tensors.count": 9}),
    "no-tensors": gguf({"general.architecture": "llama"}, []),
    "merge": gguf_model(**{"tokenizer.ggml.merges": ["ab", " a b"]}),
    "heads": gguf_model(**{"llama.attention.head_count": 0}),
    "short": gguf_model()[:-20],
    "version": gguf({}, [], version=1),
}


def json_bodies():
    """For each route the first requests with a body that is an object, and some that are not."""
    picked, seen = {}, {}
    for step in cases.all_steps():
        for sent in step["exchanges"]:
            path = sent["path"].split("?")[0]
            if sent["method"] != "POST" or "body" not in sent or "{" in path:
                continue
            lines = sent["headers"].get("content-type") == "application/x-ndjson"
            body = sent["body"].replace("[[hold]]", "")
            key = (path, lines, "refused" in step["name"])
            seen[key] = seen.get(key, 0) + 1
            limit = 8 if path == "/v1/score_group" else 3
            if len(body) > 1500 or seen[key] > limit or body in ("{}", "[]", ""):
                continue
            name = f"{path.strip('/').replace('/', '-')}-{len(picked):03}"
            head = f"{path} lines" if lines else path
            picked[name] = f"{head}\n{body}"
    return picked


def arrow_bodies():
    tables = json.loads((HERE.parent / "tests/wire/tables.json").read_text())
    named = {name.replace(" ", "-"): bytes.fromhex(table) for name, table in tables.items()}
    whole = named["two-groups"]
    return named | {"half": whole[: len(whole) // 2], "no-end": whole[:-8], "empty": b""}


CORPORA = {
    "verdict": VERDICTS,
    "answer": ANSWERS,
    "safetensors": SAFETENSORS,
    "gguf": GGUF,
    "model_config": {name: json.dumps(value) for name, value in MODEL_CONFIGS.items()},
    "run_config": CONFIGS,
    "json_body": json_bodies(),
    "arrow_body": arrow_bodies(),
    "chat_template": TEMPLATES,
}


def main():
    for corpus, inputs in CORPORA.items():
        folder = HERE / "corpus" / corpus
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("seed-*"):
            old.unlink()
        for name, content in inputs.items():
            content = content if isinstance(content, bytes) else content.encode()
            (folder / f"seed-{name}").write_bytes(content)
        print(f"{corpus}: {len(inputs)} inputs")


if __name__ == "__main__":
    main()
