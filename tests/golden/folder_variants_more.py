"""Further variants of make_folders.py: tokenizers of each kind, models of other shapes, and files
beside the model. As folder_variants.py, which has the first ones.
"""

import json

import torch
from folder_variants import LLAMA3, YARN, _add, _all, _cast, _drop, _file, _head, _rename, _rope
from folder_variants import _set, _shards, _tokenizer_config
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers

SPECIAL = ["<pad>", "<end>", "<start>"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789 .,é")


def _made(tokenizer, text, added=()):
    """The folder's tokenizer replaced; its text."""
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    tokenizer.add_tokens(list(added))
    made = json.loads(tokenizer.to_str())

    def change(folder):
        folder.files["tokenizer.json"] = made
        folder.text = text

    return change


def _byte_level(text, added=(), prefix=False, split=None, normalizer=None):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*SPECIAL, *alphabet, "th", "the", "Ġthe", "er", "Ġw"]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("e", "r"), ("Ġ", "w")]
    tokenizer = Tokenizer(models.BPE({name: at for at, name in enumerate(names)}, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=split is None)
    tokenizer.pre_tokenizer = byte_level
    if split is not None:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(split), "isolated"), byte_level]
        )
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    return _made(tokenizer, text, added)


def _metaspace(text, fallback=True, scheme="first", added=()):
    names = ["<unk>", *SPECIAL, *(f"<0x{at:02X}>" for at in range(256)), "▁", *LETTERS, "▁t", "▁th"]
    merges = [("▁", "t"), ("▁t", "h")]
    model = models.BPE(
        {name: at for at, name in enumerate(names)}, merges, unk_token="<unk>",
        byte_fallback=fallback, fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])
    return _made(tokenizer, text, added)


def _prepend(text):
    """The normalizer that Llama 2 has in place of a pre-tokenizer."""
    names = ["<unk>", *SPECIAL, *(f"<0x{at:02X}>" for at in range(256)), "▁", *LETTERS, "▁t", "▁th"]
    tokenizer = Tokenizer(models.BPE(
        {name: at for at, name in enumerate(names)}, [("▁", "t"), ("▁t", "h")],
        unk_token="<unk>", byte_fallback=True,
    ))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])
    return _made(tokenizer, text)


def _unigram(text, fallback=False):
    pieces = [("<unk>", 0.0), ("▁", -2.0), ("▁the", -1.0), ("he", -1.5)]
    pieces += [(letter, -4.0 - at / 8) for at, letter in enumerate(LETTERS)]
    if fallback:
        pieces += [(f"<0x{at:02X}>", -9.0) for at in range(256)]
    tokenizer = Tokenizer(models.Unigram(pieces, 0, byte_fallback=fallback))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return _made(tokenizer, text)


def _word_piece(text):
    names = ["[UNK]", *SPECIAL, "the", "judge", "##s", *LETTERS, *("##" + c for c in LETTERS)]
    tokenizer = Tokenizer(models.WordPiece(
        {name: at for at, name in enumerate(names)}, unk_token="[UNK]"
    ))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _made(tokenizer, text)


def _post_processor(folder):
    folder.files["tokenizer.json"]["post_processor"] = json.loads(_TEMPLATE)


_TEMPLATE = (
    '{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<start>", "type_id": 0}},'
    ' {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}},'
    ' {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<start>": {"id": "<start>",'
    ' "ids": [2], "tokens": ["<start>"]}}}'
)


def _shape(heads, kv_heads, head_dim=None, bias=False):
    """Layers with other heads, and matrices that fit them."""

    def change(folder):
        dim = head_dim or 16 // heads
        folder.config.update(num_attention_heads=heads, num_key_value_heads=kv_heads)
        if head_dim:
            folder.config["head_dim"] = head_dim
        else:
            folder.config.pop("head_dim", None)
        draw = torch.Generator().manual_seed(3)
        rows = dict(q=heads * dim, k=kv_heads * dim, v=kv_heads * dim)
        for layer in (0, 1):
            prefix = f"model.layers.{layer}.self_attn."
            for part, n in rows.items():
                folder.tensors[f"{prefix}{part}_proj.weight"] = (
                    torch.randn((n, 16), generator=draw) * 0.3
                )
                if bias:
                    folder.tensors[f"{prefix}{part}_proj.bias"] = (
                        torch.randn(n, generator=draw) * 0.3
                    )
            folder.tensors[f"{prefix}o_proj.weight"] = (
                torch.randn((16, heads * dim), generator=draw) * 0.3
            )

    return change


def _qwen3(head_dim=8, biases=False, **changes):
    """A Qwen3 of the same matrices: norms of heads, and biases of all of the attention's matrices
    or of none.
    """

    def change(folder):
        folder.config.update(
            model_type="qwen3", architectures=["Qwen3ForCausalLM"], head_dim=head_dim, **changes
        )
        draw = torch.Generator().manual_seed(5)
        if biases:
            folder.config["attention_bias"] = True
        else:
            for name in [name for name in folder.tensors if name.endswith("proj.bias")]:
                del folder.tensors[name]
        for layer in (0, 1):
            prefix = f"model.layers.{layer}.self_attn."
            for part in ("q_norm", "k_norm"):
                weight = 1.5 + 0.5 * torch.randn(head_dim, generator=draw)
                folder.tensors[f"{prefix}{part}.weight"] = weight
            if biases:
                folder.tensors[f"{prefix}o_proj.bias"] = torch.randn(16, generator=draw) * 0.3

    return change


def _without_norms(folder):
    for name in [name for name in folder.tensors if "k_norm" in name]:
        del folder.tensors[name]


def _norms_of_all_heads(folder):
    for name in [name for name in folder.tensors if "_norm.weight" in name and "self_attn" in name]:
        folder.tensors[name] = torch.ones(16 if "q_norm" in name else 8)


def _mistral(**changes):
    """A Mistral of the same matrices."""
    return _set(model_type="mistral", architectures=["MistralForCausalLM"], **changes)


def _nested(folder):
    """A multimodal folder: the text model's keys below `text_config`."""
    folder.config = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"],
                     "text_config": folder.config, "vision_config": {"model_type": "clip"}}


def _one_shard_each(folder):
    """A file a tensor."""
    names = sorted(folder.tensors)
    files = [f"model-{at:05}-of-{len(names):05}.safetensors" for at in range(1, len(names) + 1)]
    folder.shards = {file: {name: folder.tensors[name]} for file, name in zip(files, names)}
    folder.files["model.safetensors.index.json"] = {
        "metadata": {}, "weight_map": dict(zip(names, files))
    }


def _odd_names(folder):
    """Shards without numbers in their names, which only the index knows."""
    names = sorted(folder.tensors)
    folder.shards = {
        "b.safetensors": {name: folder.tensors[name] for name in names[::2]},
        "a.safetensors": {name: folder.tensors[name] for name in names[1::2]},
    }
    folder.files["model.safetensors.index.json"] = {
        "metadata": {"total_size": -1},
        "weight_map": {
            name: "b.safetensors" if at % 2 == 0 else "a.safetensors"
            for at, name in enumerate(names)
        },
    }


def _index(value):
    return _all(_shards(), lambda folder: folder.files.update(
        {"model.safetensors.index.json": value}
    ))


NAMED = AddedToken("<tool>", special=False, normalized=False)
SENTENCE = "the judge w, <start>says théy're <tool>  wOrse\n\n 2024 日<end>"

MORE = [
    # tokenizers
    ("byte level", "qwen2", _byte_level(SENTENCE, [NAMED]), {}),
    ("byte level with a blank in front", "llama", _byte_level(SENTENCE, [NAMED], prefix=True), {}),
    ("byte level with a split of its own", "qwen2",
     _byte_level(SENTENCE, [NAMED], split=r"\p{N}{1,3}| ?\p{L}+|\s+(?!\S)|\s+|[^\s\p{L}\p{N}]+"),
     {}),
    ("byte level with NFC", "qwen2",
     _byte_level("the cafe\u0301 <tool>", [NAMED], normalizer=normalizers.NFC()), {}),
    ("byte level with lower case", "qwen2",
     _byte_level("THE Judge <TOOL> <tool>",
                 [AddedToken("<Tool>", normalized=True)], normalizer=normalizers.Lowercase()), {}),
    ("byte fallback", "llama", _metaspace(SENTENCE, added=[NAMED]), {}),
    ("metaspace always", "llama", _metaspace(SENTENCE, scheme="always", added=[NAMED]), {}),
    ("metaspace never", "llama", _metaspace(SENTENCE, scheme="never", added=[NAMED]), {}),
    ("unknown instead of bytes", "llama", _metaspace(SENTENCE, fallback=False), {}),
    ("prepended blank", "llama", _prepend("the judge\tsays <start> é 日 <end> the"), {}),
    ("unigram", "qwen2", _unigram("the he ﬁne é <end> théthe"), {}),
    ("unigram with bytes", "llama", _unigram("the he 日 é <end> théthe", True), {}),
    ("word piece", "qwen2", _word_piece("The Judges judgé <end> 日 the, x"), {}),
    ("added tokens with lstrip and rstrip", "qwen2",
     _byte_level("the  <l>  w  <r>  er  <b>  x",
                 [AddedToken("<l>", lstrip=True), AddedToken("<r>", rstrip=True),
                  AddedToken("<b>", lstrip=True, rstrip=True)]), {}),
    ("added tokens of whole words", "qwen2",
     _byte_level("the thewer xwer wer wer.", [AddedToken("wer", single_word=True)]), {}),
    ("added tokens that overlap", "qwen2",
     _byte_level("<a><ab><abc> <ab", [AddedToken(name) for name in ("<a", "<ab>", "<ab", ">")]),
     {}),
    ("added special token that is not normalized", "qwen2",
     _byte_level("<CALL> <call>", [AddedToken("<Call>", special=True, normalized=False)],
                 normalizer=normalizers.Lowercase()), {}),
    ("post processor with a start", "qwen2", _post_processor, {}),
    ("truncation and padding in tokenizer.json", "qwen2",
     lambda folder: folder.files["tokenizer.json"].update(
         truncation=dict(direction="Right", max_length=4, strategy="LongestFirst", stride=0),
         padding=dict(strategy={"Fixed": 32}, direction="Left", pad_to_multiple_of=None, pad_id=0,
                      pad_type_id=0, pad_token="<pad>")), {}),
    ("model_max_length beyond numbers", "qwen2",
     _tokenizer_config(model_max_length=1000000000000000019884624838656), {}),
    ("model_max_length below the text", "qwen2", _tokenizer_config(model_max_length=2), {}),
    ("clean_up_tokenization_spaces", "qwen2",
     _all(_tokenizer_config(clean_up_tokenization_spaces=False)), {}),
    ("tokenizer_config empty", "qwen2", _file("tokenizer_config.json", {}), {}),
    ("special tokens null", "qwen2",
     _tokenizer_config(bos_token=None, eos_token=None, pad_token=None), {}),
    # shapes
    ("one head for each query", "qwen2", _shape(4, 4, bias=True), {}),
    ("four heads share one", "llama", _shape(4, 1), {}),
    ("two groups of two", "llama", _shape(4, 2), {}),
    ("head_dim above the width", "llama", _shape(2, 1, 16), {}),
    ("head_dim below the width", "llama", _shape(2, 2, 4), {}),
    ("head_dim above the width", "qwen2", _shape(2, 1, 16, True), dict(may_refuse=["head_dim"])),
    ("heads that do not divide the width", "llama", _set(num_attention_heads=3, head_dim=None),
     dict(names=["num_attention_heads", "num_key_value_heads", "head_dim", "proj"])),
    ("kv heads that do not divide the heads", "llama", _set(num_key_value_heads=3),
     dict(names=["num_key_value_heads", "proj"])),
    # families
    ("qwen3", "qwen2", _qwen3(), {}),
    ("qwen3 with biases", "qwen2", _qwen3(biases=True), {}),
    ("qwen3 with wide heads", "qwen2", _all(_shape(2, 1, 16), _qwen3(16)), {}),
    ("qwen3 tied", "qwen2",
     _all(_qwen3(tie_word_embeddings=True), lambda folder: folder.tensors.pop("lm_head.weight")),
     {}),
    ("qwen3 without head_dim", "qwen2", _all(_qwen3(), _drop("head_dim")), dict(names=["proj"])),
    ("qwen3 without norms of heads", "qwen2", _all(_qwen3(), _without_norms),
     dict(names=["k_norm"])),
    ("qwen3 with norms of all heads at once", "qwen2", _all(_qwen3(), _norms_of_all_heads),
     dict(names=["q_norm"])),
    ("qwen3 with attention_bias and no biases", "qwen2", _qwen3(attention_bias=True),
     dict(names=["bias"])),
    ("qwen3 with yarn", "qwen2", _all(_qwen3(), _rope(**YARN, rope_theta=1e6)), {}),
    ("qwen3 with a window", "qwen2",
     _qwen3(use_sliding_window=True, sliding_window=4, max_window_layers=1, layer_types=None),
     dict(may_refuse=["sliding_window"])),
    ("qwen3 with a window beyond its layers", "qwen2",
     _qwen3(use_sliding_window=True, sliding_window=4, max_window_layers=2, layer_types=None), {}),
    ("qwen3 without prefix", "qwen2", _all(_qwen3(), _rename("model.", "")), {}),
    ("qwen3_moe", "qwen2",
     _set(model_type="qwen3_moe", architectures=["Qwen3MoeForCausalLM"]),
     dict(names=["qwen3_moe"], may_refuse=["qwen3_moe"])),
    ("mistral", "llama", _mistral(sliding_window=None), {}),
    ("mistral with biases in the file", "qwen2",
     _all(_mistral(sliding_window=None), _drop("layer_types")), {}),
    ("mistral without sliding_window", "llama", _mistral(), {}),
    ("mistral with a window as long as the context", "llama", _mistral(sliding_window=64), {}),
    ("mistral with a window", "llama", _mistral(sliding_window=4),
     dict(may_refuse=["sliding_window"])),
    ("nested text_config", "llama", _nested,
     dict(may_refuse=["llava", "model_type"], names=["llava", "model_type"])),
    ("hidden_size that does not fit", "qwen2", _set(hidden_size=24),
     dict(names=["embed_tokens", "proj", "hidden_size", "norm", "lm_head"])),
    ("intermediate_size that does not fit", "qwen2", _set(intermediate_size=20),
     dict(names=["mlp"])),
    ("more layers than weights", "qwen2", _set(num_hidden_layers=3, layer_types=None),
     dict(names=["model.layers.2"])),
    ("fewer layers than weights", "qwen2", _set(num_hidden_layers=1, layer_types=None), {}),
    ("layer_types of another length", "qwen2", _set(layer_types=["full_attention"] * 3),
     dict(may_refuse=["layer_types"], names=["layer_types"], may_load=True)),
    # rotary frequencies
    ("llama3 with integers", "llama",
     _rope(**{**LLAMA3, "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4},
           rope_theta=10000), {}),
    ("llama3 in the spelling before rope_type", "llama",
     _all(_rope(rope_theta=1e4), _set(rope_scaling={**LLAMA3, "type": "llama3"})), {}),
    ("llama3 without low_freq_factor", "llama",
     _rope(**{key: value for key, value in LLAMA3.items() if key != "low_freq_factor"},
           rope_theta=1e4), dict(names=["low_freq_factor"])),
    ("yarn of long original context", "qwen2",
     _rope(**{**YARN, "original_max_position_embeddings": 32768}, rope_theta=1e6), {}),
    ("yarn factor below 1", "qwen2", _rope(**{**YARN, "factor": 0.5}, rope_theta=1e4),
     dict(may_refuse=["factor"])),
    ("linear factor 1", "qwen2", _rope(rope_type="linear", factor=1.0, rope_theta=1e4), {}),
    ("rope_theta as integer", "qwen2", _rope(rope_type="default", rope_theta=1000000), {}),
    ("rope_theta 0", "qwen2", _rope(rope_type="default", rope_theta=0),
     dict(may_refuse=["rope_theta"], names=["rope_theta"])),
    ("rope_scaling of both types", "llama",
     _set(rope_scaling=dict(type="dynamic", rope_type="linear", factor=2.0)), {}),
    # weights and files beside them
    ("a file a tensor", "qwen2", _one_shard_each, {}),
    ("shards with names of their own", "llama", _odd_names, {}),
    ("index without metadata", "qwen2",
     _all(_one_shard_each,
          lambda folder: folder.files["model.safetensors.index.json"].pop("metadata")),
     dict(may_load=True)),
    ("index without weight_map", "qwen2", _index({"metadata": {}}),
     dict(names=["weight_map"])),
    ("index with an empty weight_map", "qwen2", _index({"weight_map": {}}),
     dict(names=["weight_map", "model.safetensors.index.json", "model.embed_tokens"])),
    ("index that leaves the folder", "qwen2",
     _index({"weight_map": {"model.norm.weight": "../model.safetensors"}}),
     dict(names=["../model.safetensors"])),
    ("adapter beside the model", "qwen2",
     _file("adapter_config.json", dict(peft_type="LORA", base_model_name_or_path="x", r=4)),
     dict(may_refuse=["adapter"], names=["adapter"], may_load=True)),
    ("weights of PyTorch beside the model", "qwen2", _file("pytorch_model.bin", "no pickle"), {}),
    ("training state beside the model", "qwen2",
     _all(_file("trainer_state.json", {}), _file("optimizer.pt", "x")), {}),
    ("half f16 half bf16", "llama",
     _all(_cast(torch.bfloat16, "mlp"), _cast(torch.float16, "attn")), {}),
    ("tied with a head in f16", "llama", _all(_head(7), _cast(torch.float16, "lm_head")), {}),
    ("dtype auto", "qwen2", _all(_drop("dtype"), _set(torch_dtype="auto")), {}),
    ("masked bias buffers", "llama",
     _add("model.layers.0.self_attn.bias", torch.ones(1, 1, 4, 4, dtype=torch.bool)), {}),
    ("scalar tensors", "qwen2", _add("model.step", torch.tensor(5.0)), {}),
    ("empty tensors", "qwen2", _add("model.empty", torch.zeros(0, 4)), {}),
    ("names of torch.compile", "qwen2", _rename("", "_orig_mod."),
     dict(names=["lm_head", "model.", "_orig_mod"])),
    ("generation_config that is no object", "qwen2", _file("generation_config.json", []),
     dict(may_refuse=["generation_config"], names=["generation_config"])),
    ("generation_config with a text for a token", "qwen2",
     _file("generation_config.json", dict(eos_token_id="<end>")),
     dict(may_refuse=["eos_token_id", "generation_config"])),
    ("eos_token_id beyond the vocabulary", "qwen2", _set(eos_token_id=4096),
     dict(may_refuse=["eos_token_id"])),
    ("eos_token_id negative", "llama", _set(eos_token_id=-1), dict(may_refuse=["eos_token_id"])),
]
