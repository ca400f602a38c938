#!/usr/bin/env python3
"""Makes tests/golden/folders/: model folders as people have them, with what transformers makes of
each: the log-probabilities of a text, or that it loads no usable model.

    pip install torch==2.11.0 transformers==5.23.0
    python tests/golden/make_folders.py

variants.json describes each folder as its files: text, or the name of a weight file in weights/,
which many folders share. A variant without numbers is one that transformers refuses, or fills with
random weights; `names` is then what a refusal has to name. `may_refuse` says what a refusal may
name where transformers has numbers for a feature that nobody is obliged to have.
"""

import hashlib
import json
import math
import os
import tempfile
import warnings
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from folder_variants import VARIANTS
from folder_variants_more import MORE
from make_models import randomise
from safetensors.torch import save
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

warnings.filterwarnings("ignore")
HERE = Path(__file__).resolve().parent
OUT = HERE / "folders"
WORDS = "the judge reads both answers and says which one is better than other a first".split()
N_TOKENS = 48
SEQUENCE = [2] + [3 + (7 * at * at + 3 * at) % 37 for at in range(39)]


def tokenizer_json():
    """Words between blanks; three special tokens."""
    special = ["<pad>", "<end>", "<start>"]
    names = [*special, *WORDS]
    names += [f"w{at}" for at in range(N_TOKENS - 2 - len(names))]
    tokenizer = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, "<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    return json.loads(tokenizer.to_str())


def config(family, **changes):
    """The constants of a family's base model, in the spelling of transformers 5."""
    kind = {"qwen2": Qwen2Config, "llama": LlamaConfig}[family]
    values = dict(
        vocab_size=N_TOKENS,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
        tie_word_embeddings=family == "llama",
        bos_token_id=2,
        eos_token_id=1,
    )
    return kind(**{**values, **changes})


def base(family, seed):
    """Config and bf16 tensors of a base model."""
    made = config(family)
    model = randomise(AutoModelForCausalLM.from_config(made), seed)
    tensors = model.state_dict()
    # bf16 takes half the place, and every f32 here is computed from the same values
    tensors = {name: tensor.detach().to(torch.bfloat16) for name, tensor in tensors.items()}
    if made.tie_word_embeddings:
        del tensors["lm_head.weight"]
    values = made.to_dict()
    values["architectures"] = [{"qwen2": "Qwen2", "llama": "Llama"}[family] + "ForCausalLM"]
    for key in ("_name_or_path", "transformers_version", "chunk_size_feed_forward"):
        values.pop(key, None)
    return values, tensors


class Folder:
    """The files of one variant while it is made."""

    def __init__(self, family, values, tensors):
        self.family = family
        self.config = json.loads(json.dumps(values))
        self.tensors = dict(tensors)
        self.files = {
            "tokenizer.json": tokenizer_json(),
            "tokenizer_config.json": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<start>",
                "eos_token": "<end>",
                "pad_token": "<pad>",
            },
        }
        #: weight files: name -> tensors; none: all tensors in model.safetensors
        self.shards = None
        self.text = "the judge w3 <start> says w9<end> zzz"

    def written(self):
        """All files: name -> bytes of a weight file, or a JSON value or text."""
        files = dict(self.files)
        if self.config is not None:
            files["config.json"] = self.config
        shards = {"model.safetensors": self.tensors} if self.shards is None else self.shards
        for name, tensors in shards.items():
            files[name] = save(
                {key: tensor.contiguous() for key, tensor in sorted(tensors.items())},
                {"format": "pt"},
            )
        return files


def write(folder, files):
    for name, content in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))


def numbers(folder):
    """Log-probabilities of SEQUENCE after its first token; None where the model lacks weights."""
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, attn_implementation="eager"
        )
    except Exception as error:  # whatever it raises, it is a refusal
        return None, f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if info["missing_keys"] or info.get("mismatched_keys"):
        return None, "drawn at random: " + ", ".join(sorted(info["missing_keys"])[:4])
    try:
        with torch.no_grad():
            logits = model.eval()(torch.tensor([SEQUENCE])).logits[0].float()
    except Exception as error:
        return None, f"{type(error).__name__}: {error}".splitlines()[0][:200]
    targets = torch.tensor(SEQUENCE[1:]).unsqueeze(1)
    logprobs = logits[:-1].log_softmax(-1).gather(1, targets).squeeze(1).tolist()
    if any(math.isnan(value) for value in logprobs):
        return None, "not a number"
    return [round(value, 6) for value in logprobs], None


def tokens(folder, text):
    """What the folder's tokenizer makes of a text."""
    try:
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        return {
            "text": text,
            "token_ids": tokenizer.encode(text, add_special_tokens=False),
            "bos_token": tokenizer.bos_token,
            "eos_token": tokenizer.eos_token,
            "decoded": tokenizer.decode(
                tokenizer.encode(text, add_special_tokens=False), skip_special_tokens=True
            ),
        }
    except Exception as error:
        return {"text": text, "refused": f"{type(error).__name__}: {error}".splitlines()[0][:200]}


def main():
    bases = {family: base(family, seed) for family, seed in (("qwen2", 1), ("llama", 2))}
    (OUT / "weights").mkdir(parents=True, exist_ok=True)
    for old in (OUT / "weights").iterdir():
        old.unlink()
    made = {}
    more = [(f"{family}: {name}", family, change, extra) for name, family, change, extra in MORE]
    for name, family, change, extra in VARIANTS + more:
        folder = Folder(family, *bases[family])
        change(folder)
        files = folder.written()
        with tempfile.TemporaryDirectory() as path:
            write(path, files)
            logprobs, refused = numbers(path)
            row = {"files": {}, "logprobs": logprobs, **extra}
            if refused:
                row["refused"] = refused.replace(path, "FOLDER")
            if folder.text is not None:
                row["tokenizer"] = tokens(path, folder.text)
                refused = row["tokenizer"].get("refused")
                if refused:
                    row["tokenizer"]["refused"] = refused.replace(path, "FOLDER")
        for file, content in sorted(files.items()):
            if isinstance(content, bytes):
                blob = hashlib.sha256(content).hexdigest()[:12] + ".safetensors"
                (OUT / "weights" / blob).write_bytes(content)
                row["files"][file] = {"weights": blob}
            else:
                row["files"][file] = {"text": content} if isinstance(content, str) else content
        assert name not in made, name
        made[name] = row
        print(f"{name:45} {'ok' if logprobs else refused}", flush=True)
    # what most variants share is written once
    common = {}
    for file in ("tokenizer.json", "tokenizer_config.json"):
        common[file] = tokenizer = bases_file(file, bases)
        for row in made.values():
            if row["files"].get(file) == tokenizer:
                row["files"][file] = "common"
    value = {
        "_meta": {
            "script": "tests/golden/make_folders.py",
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "sequence": SEQUENCE,
        "common": common,
        "variants": made,
    }
    with open(OUT / "variants.json", "w", encoding="utf-8") as out:
        head = {key: value[key] for key in ("_meta", "sequence", "common")}
        out.write("{\n")
        for key, item in head.items():
            out.write(f"{json.dumps(key)}: {json.dumps(item)},\n")
        rows = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in made.items()]
        out.write('"variants": {\n' + ",\n".join(rows) + "\n}\n}\n")
    print(len(made), "variants,", sum(row["logprobs"] is not None for row in made.values()), "load")


def bases_file(file, bases):
    family = next(iter(bases))
    return Folder(family, *bases[family]).files[file]


if __name__ == "__main__":
    main()
