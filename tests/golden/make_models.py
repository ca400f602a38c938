#!/usr/bin/env python3
"""Makes tests/golden/models/ (tiny random models) and tests/golden/parity.json.

    pip install torch==2.11.0 transformers==5.23.0
    python tests/golden/make_models.py [OUTPUT_FOLDER]

parity.json holds what transformers computes with the models. The same versions give the same bytes.
The seed of each model is the first one for which the two best tokens are never nearly tied over the
64 greedy tokens. Each constant of the configuration matters: a wrong rope theta, eps or bias
changes the log-probabilities visibly.
"""

import json
import shutil
import sys
from pathlib import Path

import reference
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)

HERE = Path(__file__).resolve().parent
LEAST_GAP = 5e-3
N_SEEDS = 40

CORPUS = """\
What is the sum of 12 and 30? The sum is 42. What is the product of 6 and 7? The product is 42.
The judge reads the question and both answers, then thinks about which answer is better.
First the answer of Assistant 1: it is right. Then the answer of Assistant 2: it is wrong.
Let me check this step by step. I think that the first answer is the better one, isn't it?
def answer(question):\n    return question + 1\n"""

CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- endif %}
    {{- '\\n\\nTools:' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- elif messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are a tiny test model.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not tools) \
or (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# constructs in the templates of reasoning models: namespace, split, negative index, `is defined`
REASONING = """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{%- set ns = namespace(system='', n_turns=0) %}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}\
{% set ns.system = ns.system + message['content'] %}{% endif %}
{%- endfor %}
{{- bos_token }}{{ ns.system }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}{% set ns.n_turns = ns.n_turns + 1 %}\
{{ '<|user|>' + message['content'] }}{% endif %}
    {%- if message['role'] == 'assistant' and message['content'] is not none %}
        {%- set content = message['content'] %}
        {%- if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}
        {{- '<|assistant|>' + content.lstrip('\\n') + eos_token }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}"""

HEADERS = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + system_message + '<|eot_id|>' }}
{%- for message in loop_messages %}
    {%- if loop.first and message['role'] != 'user' %}\
{{ raise_exception('a chat begins with the user') }}{% endif %}
    {{- '<|start_header_id|>' ~ message['role'] ~ '<|end_header_id|>\\n\\n' \
~ message['content'] | trim ~ '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# as models that think have them: thoughts of earlier answers are left out, and a variable closes
# the thoughts of the next answer before it begins
SWITCHED_THOUGHTS = """\
{%- set ns = namespace(last_user=-1) %}
{%- for message in messages[::-1] %}
    {%- if ns.last_user < 0 and message.role == 'user' and message.content is string %}
        {%- set ns.last_user = messages | length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' %}
        {%- set thoughts = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thoughts = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last_user and (loop.last or thoughts) %}
            {{- '<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

# of models that always think
OPENED_THOUGHTS = """\
{%- for message in messages %}
    {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}
"""


def byte_level_bpe(n_tokens, first_tokens=(), splitter=None):
    """Vocabulary and merges of a byte-level BPE trained on the corpus, `first_tokens` in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter or pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=n_tokens,
        special_tokens=list(first_tokens),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(keepends=True), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def qwen2_tokenizer(template=CHATML):
    """As in Qwen2.5: NFC, the family's regex, special tokens after the vocabulary, no BOS."""
    vocab, merges = byte_level_bpe(296)
    tokenizer = Qwen2Tokenizer(
        vocab=vocab, merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.add_tokens([AddedToken("<|im_start|>", special=True)], special_tokens=True)
    tokenizer.add_tokens(
        [AddedToken("<think>", special=False), AddedToken("</think>", special=False)]
    )
    tokenizer.chat_template = template
    return tokenizer


def llama_tokenizer():
    """As in SmolLM2: single digits, special tokens first, BOS is named but not added."""
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>"]
    vocab, merges = byte_level_bpe(300, specials, splitter)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=REASONING,
        clean_up_tokenization_spaces=False,
    )


def llama3_tokenizer():
    """As in Llama 3: runs of up to three digits, a post-processor that adds BOS to a prompt."""
    regex = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    vocab, merges = byte_level_bpe(290, (), splitter)
    specials = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                special_tokens=[("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))],
            ),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|end_of_text|>",
        chat_template=HEADERS,
        clean_up_tokenization_spaces=False,
    )


def qwen2_config(tokenizer):
    return Qwen2Config(
        vocab_size=304,  # padded beyond the tokenizer's, as in the real models
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.02,
    )


def llama_config(tokenizer, **rope):
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=112,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,  # not hidden_size / num_attention_heads
        max_position_embeddings=512,
        rope_parameters=rope or {"rope_type": "default", "rope_theta": 1e4},
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        attention_bias=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.02,
    )


def llama3_config(tokenizer):
    config = llama_config(
        tokenizer,
        rope_type="llama3",
        rope_theta=5e5,
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=64,
    )
    config.num_hidden_layers = 2
    config.eos_token_id = [
        tokenizer.convert_tokens_to_ids("<|end_of_text|>"),
        tokenizer.eos_token_id,
    ]
    return config


def qwen3_config(tokenizer, **changes):
    values = dict(
        vocab_size=304,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # not hidden_size / num_attention_heads
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.02,
    )
    return Qwen3Config(**{**values, **changes})


def biased_qwen3_config(tokenizer):
    return qwen3_config(
        tokenizer,
        hidden_size=48,
        intermediate_size=96,
        num_key_value_heads=1,
        head_dim=16,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        rms_norm_eps=1e-6,
        attention_bias=True,
        tie_word_embeddings=True,
    )


def mistral_config(tokenizer):
    return MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        max_position_embeddings=512,
        sliding_window=None,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.02,
    )


def randomise(model, seed):
    """Small embeddings (so that eps matters), norms away from 1, biases away from 0."""
    torch.manual_seed(seed)
    tied = model.config.tie_word_embeddings
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape)
            if name.endswith("embed_tokens.weight"):
                parameter.copy_(0.01 * noise)
            elif name.endswith("lm_head.weight"):
                parameter.copy_(0.35 * noise)
            elif name == "model.norm.weight":
                parameter.copy_((30.0 if tied else 1.0) * (1 + 0.2 * noise))
            elif name.endswith(("q_norm.weight", "k_norm.weight")):
                parameter.copy_(1.5 + 0.5 * noise)  # large scores, as the other models have
            elif name.endswith("norm.weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.3 * noise)
            else:
                gain = 1.5 if "q_proj" in name or "k_proj" in name else 1.2
                parameter.copy_(gain / parameter.shape[1] ** 0.5 * noise)
    return model


def dump_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def spell_as_transformers_4(folder):
    """Rewrites the config with the keys that most published models have."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope.pop("rope_type") == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.48.0"
    dump_json(folder / "config.json", dict(sorted(config.items())))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    template = folder / "chat_template.jinja"
    tokenizer["chat_template"] = template.read_text()
    tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer.pop("backend", None)
    dump_json(folder / "tokenizer_config.json", dict(sorted(tokenizer.items())))
    template.unlink()


def save(folder, model, tokenizer, *, dtype, shard_bytes, old_spelling):
    model.to(dtype).save_pretrained(folder, max_shard_size=shard_bytes)
    tokenizer.save_pretrained(folder)
    if old_spelling:
        spell_as_transformers_4(folder)


def load(folder, attention="sdpa", **changes):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention, **changes
    ).eval()


def prompts(tokenizer):
    """A chat, a single token, and a long text."""
    chat = tokenizer.apply_chat_template(
        reference.CHATS[0], tokenize=False, add_generation_prompt=True
    )
    long = " ".join(CORPUS.split() * 2)
    return [
        tokenizer.encode(chat, add_special_tokens=False),
        tokenizer.encode("A", add_special_tokens=False),
        tokenizer.encode(long)[:300],
    ]


def assert_every_constant_matters(folder, token_ids):
    """A model with one constant wrong must be farther away than any tolerance."""
    model = load(folder)
    right = reference.forced_logprobs(model, token_ids)
    assert (reference.forced_logprobs(load(folder, "eager"), token_ids) - right).abs().max() < 1e-4
    config = model.config
    rope = dict(config.rope_parameters)
    variants = {
        "rope theta": {"rope_parameters": {**rope, "rope_theta": rope["rope_theta"] * 10}},
        "eps": {"rms_norm_eps": 1e-6 if config.rms_norm_eps == 1e-5 else 1e-5},
    }
    if rope["rope_type"] != "default":
        variants["rope scaling"] = {
            "rope_parameters": {"rope_type": "default", "rope_theta": rope["rope_theta"]}
        }
    for what, changes in variants.items():
        moved = (reference.forced_logprobs(load(folder, **changes), token_ids) - right).abs().max()
        assert moved > 1e-2, f"{folder.name}: a wrong {what} moves the logprobs by {moved} only"
    for ending in ("bias", "norm.weight", "q_norm.weight", "k_norm.weight"):
        wrong = load(folder)
        for name, parameter in wrong.named_parameters():
            if name.endswith(ending):
                parameter.data.fill_(0.0 if ending == "bias" else 1.0)
        if any(name.endswith(ending) for name, _ in wrong.named_parameters()):
            moved = (reference.forced_logprobs(wrong, token_ids) - right).abs().max()
            assert moved > 1e-2, f"{folder.name}: the {ending} moves the logprobs by {moved} only"


MODELS = {
    "tiny-qwen2": dict(
        tokenizer=qwen2_tokenizer,
        config=qwen2_config,
        kind=Qwen2ForCausalLM,
        save=dict(dtype=torch.float32, shard_bytes="250KB", old_spelling=False),
    ),
    "tiny-llama": dict(
        tokenizer=llama_tokenizer,
        config=llama_config,
        kind=LlamaForCausalLM,
        save=dict(dtype=torch.bfloat16, shard_bytes="5GB", old_spelling=True),
    ),
    "tiny-llama3": dict(
        tokenizer=llama3_tokenizer,
        config=llama3_config,
        kind=LlamaForCausalLM,
        save=dict(dtype=torch.bfloat16, shard_bytes="5GB", old_spelling=False),
    ),
    "tiny-qwen3": dict(
        tokenizer=lambda: qwen2_tokenizer(SWITCHED_THOUGHTS),
        variables=({}, {"enable_thinking": False}, {"enable_thinking": True}),
        config=qwen3_config,
        kind=Qwen3ForCausalLM,
        save=dict(dtype=torch.bfloat16, shard_bytes="5GB", old_spelling=True),
    ),
    "tiny-qwen3-biased": dict(
        tokenizer=lambda: qwen2_tokenizer(OPENED_THOUGHTS),
        config=biased_qwen3_config,
        kind=Qwen3ForCausalLM,
        save=dict(dtype=torch.bfloat16, shard_bytes="5GB", old_spelling=False),
    ),
    "tiny-mistral": dict(
        tokenizer=llama_tokenizer,
        config=mistral_config,
        kind=MistralForCausalLM,
        save=dict(dtype=torch.bfloat16, shard_bytes="5GB", old_spelling=True),
    ),
}


def make(name, folder, seed):
    """Writes one model folder and returns its goldens."""
    recipe = MODELS[name]
    tokenizer = recipe["tokenizer"]()
    model = randomise(recipe["kind"](recipe["config"](tokenizer)), seed)
    shutil.rmtree(folder, ignore_errors=True)
    save(folder, model, tokenizer, **recipe["save"])

    # from here on only the written files are read
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load(folder)
    runs = [reference.greedy(model, ids, LEAST_GAP) for ids in prompts(tokenizer)]
    for run in runs:
        n_distinct = len(set(run["greedy_token_ids"]))
        assert n_distinct >= 16, f"{name}: {n_distinct} distinct tokens among 64"
        run["greedy_text"] = tokenizer.decode(run["greedy_token_ids"], skip_special_tokens=True)
    assert_every_constant_matters(folder, runs[2]["token_ids"])
    return {
        "seed": seed,
        "prompts": runs,
        "tokenization": reference.tokenization(tokenizer),
        "chats": reference.chats(tokenizer, recipe.get("variables", [{}])),
    }


def first_good(name, folder):
    """The first seed whose model is suitable."""
    for seed in range(N_SEEDS):
        try:
            return make(name, folder, seed)
        except AssertionError as error:
            print(f"{name}: seed {seed} will not do ({error})", file=sys.stderr)
    raise SystemExit(f"{name}: no good seed among {N_SEEDS}")


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    golden = {
        "_meta": {
            "script": "tests/golden/make_models.py",
            "versions": reference.versions(),
            "dtype": "float32",
            "attention": "sdpa",
            "alignment": "greedy_logprobs[t] is of greedy_token_ids[t], "
            "prompt_logprobs[t] of token_ids[t + 1]",
        },
        "models": {name: first_good(name, out / "models" / name) for name in MODELS},
    }
    reference.write_json(out / "parity.json", golden)


if __name__ == "__main__":
    main()
