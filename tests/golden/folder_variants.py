"""The variants of make_folders.py: name, family, what is changed, and what a refusal may or has to
name.

`names`: any of these has to be in the refusal where transformers has no numbers. `may_refuse`: any
of these where it has. `may_load`: transformers fails for a reason of its own.
"""

import torch


def _set(**values):
    return lambda folder: folder.config.update(values)


def _drop(*keys):
    def change(folder):
        for key in keys:
            folder.config.pop(key)

    return change


def _all(*changes):
    def change(folder):
        for one in changes:
            one(folder)

    return change


def _rope(**values):
    """rope_parameters replaced."""
    return _set(rope_parameters=values)


def _spelling_4(**scaling):
    """rope_theta at the top level and rope_scaling, as transformers 4 wrote them."""

    def change(folder):
        parameters = folder.config.pop("rope_parameters")
        folder.config["rope_theta"] = parameters["rope_theta"]
        folder.config["rope_scaling"] = scaling or None
        folder.config["torch_dtype"] = folder.config.pop("dtype", "float32")

    return change


def _cast(dtype, part=""):
    def change(folder):
        for name, tensor in folder.tensors.items():
            if part in name:
                folder.tensors[name] = tensor.to(dtype)

    return change


def _head(seed=None):
    """An lm_head: the embedding's copy, or another matrix."""

    def change(folder):
        head = folder.tensors["model.embed_tokens.weight"].clone()
        if seed is not None:
            head = torch.randn(head.shape, generator=torch.Generator().manual_seed(seed)) * 0.3
        folder.tensors["lm_head.weight"] = head

    return change


def _without(*names):
    def change(folder):
        for name in names:
            del folder.tensors[name]

    return change


def _add(name, tensor):
    return lambda folder: folder.tensors.update({name: tensor})


def _rename(old, new):
    def change(folder):
        named = {}
        for name, tensor in folder.tensors.items():
            named[new + name.removeprefix(old) if name.startswith(old) else name] = tensor
        folder.tensors = named

    return change


def _file(name, content):
    return lambda folder: folder.files.update({name: content})


def _tokenizer_config(drop=(), **values):
    def change(folder):
        config = folder.files["tokenizer_config.json"]
        for key in drop:
            config.pop(key)
        config.update(values)

    return change


def _tokenizer(edit):
    return lambda folder: edit(folder.files["tokenizer.json"])


def _shards(extra_in_index=None, stale=None, unlisted=None, whole=False, lost=False):
    """Two shards with an index, and leftovers."""

    def change(folder):
        names = sorted(folder.tensors)
        half = len(names) // 2
        parts = [names[:half], names[half:]]
        files = [f"model-{at:05}-of-00002.safetensors" for at in (1, 2)]
        tensors = folder.tensors
        folder.shards = {
            file: {name: tensors[name] for name in part} for file, part in zip(files, parts)
        }
        weight_map = {name: file for file, part in zip(files, parts) for name in part}
        if extra_in_index:
            weight_map[extra_in_index] = files[0]
        if stale:  # an old value of a tensor in the other shard
            folder.shards[files[0]][stale] = torch.zeros_like(tensors[stale]) + 0.5
        if unlisted:
            folder.shards[unlisted] = {"model.norm.weight": torch.zeros(16)}
        if whole:
            folder.shards["model.safetensors"] = {
                name: tensor * (1.0 if "norm" in name else 0.9) for name, tensor in tensors.items()
            }
        if lost:
            del folder.shards[files[1]]
        folder.files["model.safetensors.index.json"] = {"metadata": {}, "weight_map": weight_map}

    return change


def _window(window, from_layer, **more):
    return _set(
        use_sliding_window=True, sliding_window=window, max_window_layers=from_layer,
        layer_types=None, **more
    )


YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=48)
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
NO_TYPES = _set(layer_types=None)
CHAT = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
EXTRA = torch.arange(16, dtype=torch.float32).view(4, 4)
CLASSIFIER = _all(
    _set(architectures=["Qwen2ForSequenceClassification"], num_labels=1),
    _add("score.weight", torch.ones(1, 16)),
)


def _dtype_rows():
    """Tensors that the model does not need, in every number format."""
    kinds = dict(
        u8=torch.uint8, bool=torch.bool, i8=torch.int8, i16=torch.int16, i32=torch.int32,
        i64=torch.int64, u16=torch.uint16, u32=torch.uint32, u64=torch.uint64,
        f8_e5m2=torch.float8_e5m2, f8_e4m3=torch.float8_e4m3fn, c64=torch.complex64,
    )
    for name, kind in kinds.items():
        yield f"unused tensor {name}", "qwen2", _add("model.extra", EXTRA.to(kind)), {}


VARIANTS = [
    ("base", "qwen2", NO_TYPES, {}),
    ("base", "llama", NO_TYPES, {}),
    # rotary frequencies
    ("spelling of transformers 4", "qwen2", _spelling_4(), {}),
    ("rope_scaling yarn in spelling 4", "qwen2", _spelling_4(**YARN), {}),
    ("rope_scaling type instead of rope_type", "qwen2",
     _spelling_4(type="yarn", factor=4.0, original_max_position_embeddings=16), {}),
    ("yarn beside rope_parameters", "qwen2", _set(rope_scaling=YARN), {}),
    ("yarn with theta beside rope_parameters", "qwen2",
     _set(rope_scaling={**YARN, "rope_theta": 2e4}), {}),
    ("yarn beside rope_parameters and rope_theta", "qwen2",
     _set(rope_scaling=YARN, rope_theta=3e4), {}),
    ("linear beside rope_parameters", "qwen2",
     _set(rope_scaling=dict(rope_type="linear", factor=4.0)), {}),
    ("linear beside rope_parameters", "llama", _set(rope_scaling=dict(type="linear", factor=2)),
     {}),
    ("default beside rope_parameters", "qwen2", _set(rope_scaling=dict(rope_type="default")), {}),
    ("rope_scaling null beside rope_parameters", "qwen2", _set(rope_scaling=None), {}),
    ("rope_scaling empty beside rope_parameters", "qwen2", _set(rope_scaling={}), {}),
    ("rope_theta beside rope_parameters", "qwen2", _set(rope_theta=1e4), {}),
    ("rope_theta only at the top level", "qwen2",
     _set(rope_theta=3e4, rope_parameters=dict(rope_type="default")), {}),
    ("rope_parameters yarn", "qwen2", _rope(**YARN, rope_theta=1e6), {}),
    ("rope_parameters yarn", "llama", _rope(**YARN, rope_theta=1e4), {}),
    ("yarn attention_factor", "qwen2", _rope(**YARN, rope_theta=1e2, attention_factor=0.7), {}),
    ("yarn mscale", "qwen2", _rope(**YARN, rope_theta=1e2, mscale=0.7, mscale_all_dim=1.3), {}),
    ("yarn mscale alone", "qwen2", _rope(**YARN, rope_theta=1e2, mscale=0.7), {}),
    ("yarn beta", "qwen2", _rope(**YARN, rope_theta=1e2, beta_fast=4, beta_slow=0.5), {}),
    ("yarn truncate false", "qwen2", _rope(**YARN, rope_theta=1e2, truncate=False), {}),
    ("yarn without original context", "qwen2",
     _rope(rope_type="yarn", factor=4.0, rope_theta=1e4), {}),
    ("yarn with original context at the top level", "qwen2",
     _all(_rope(**YARN, rope_theta=1e2), _set(original_max_position_embeddings=16)), {}),
    ("yarn factor null", "qwen2", _rope(**{**YARN, "factor": None}, rope_theta=1e4),
     dict(may_refuse=["factor"])),
    ("yarn without factor", "qwen2",
     _rope(rope_type="yarn", rope_theta=1e4, original_max_position_embeddings=16),
     dict(names=["factor"])),
    ("yarn factor 1", "qwen2", _rope(**{**YARN, "factor": 1.0}, rope_theta=1e4), {}),
    ("yarn factor as integer", "qwen2", _rope(**{**YARN, "factor": 4}, rope_theta=10000), {}),
    ("rope_parameters linear", "llama", _rope(rope_type="linear", factor=4.0, rope_theta=1e4), {}),
    ("rope_parameters llama3", "llama", _rope(**LLAMA3, rope_theta=1e4), {}),
    ("llama3 with original context at the top level", "llama",
     _all(_rope(**LLAMA3, rope_theta=1e4), _set(original_max_position_embeddings=32)), {}),
    ("llama3 in qwen2", "qwen2", _rope(**LLAMA3, rope_theta=1e4), {}),
    ("dynamic within the context", "qwen2",
     _rope(rope_type="dynamic", factor=2.0, rope_theta=1e4), dict(may_refuse=["rope"])),
    ("longrope", "qwen2",
     _rope(rope_type="longrope", factor=2.0, rope_theta=1e4, short_factor=[1.0, 1.5, 2.0, 2.5],
           long_factor=[2.0, 3.0, 4.0, 5.0], original_max_position_embeddings=64),
     dict(may_refuse=["longrope"])),
    ("proportional", "qwen2", _rope(rope_type="proportional", rope_theta=1e4),
     dict(may_refuse=["proportional"])),
    ("unknown rope_type", "qwen2", _rope(rope_type="spiral", rope_theta=1e4),
     dict(names=["spiral"])),
    ("partial_rotary_factor 1", "qwen2", _set(partial_rotary_factor=1.0), {}),
    ("partial_rotary_factor 0.5", "llama", _set(partial_rotary_factor=0.5),
     dict(may_refuse=["partial_rotary_factor"], names=["partial_rotary_factor"])),
    ("partial_rotary_factor 0.5 in rope_parameters", "qwen2",
     _rope(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5),
     dict(may_refuse=["partial_rotary_factor"], names=["partial_rotary_factor"])),
    ("rope_parameters by layer type", "qwen2",
     _rope(full_attention=dict(rope_type="default", rope_theta=1e4)),
     dict(may_refuse=["rope_parameters"], names=["rope_parameters"])),
    ("no rope keys", "qwen2", _drop("rope_parameters"), dict(may_refuse=["rope_theta"])),
    ("no rope keys", "llama", _drop("rope_parameters"), {}),
    # heads and embeddings
    ("tied with an equal head", "llama", _head(), {}),
    ("tied with another head", "llama", _head(5), {}),
    ("tied with another head in bf16", "llama", _all(_head(5), _cast(torch.bfloat16)), {}),
    ("tied with a head and no embedding", "llama",
     _all(_head(), _without("model.embed_tokens.weight")), {}),
    ("tied with neither", "llama", _without("model.embed_tokens.weight"),
     dict(names=["model.embed_tokens.weight"])),
    ("tied with a head of another shape", "llama",
     _add("lm_head.weight", torch.ones(40, 16)), dict(names=["lm_head.weight"])),
    ("tie_word_embeddings missing and no head", "llama", _drop("tie_word_embeddings"),
     dict(names=["lm_head.weight"])),
    ("tie_word_embeddings missing and a head", "qwen2", _drop("tie_word_embeddings"), {}),
    ("untied with an equal head", "llama", _all(_head(), _set(tie_word_embeddings=False)), {}),
    ("untied without head", "qwen2", _without("lm_head.weight"), dict(names=["lm_head.weight"])),
    ("vocab_size beyond the rows", "qwen2", _set(vocab_size=50),
     dict(names=["lm_head.weight", "embed_tokens"])),
    ("vocab_size below the rows", "qwen2", _set(vocab_size=40),
     dict(names=["lm_head.weight", "embed_tokens"])),
    ("classifier", "qwen2", CLASSIFIER, dict(may_refuse=["score.weight"], names=["score.weight"])),
    ("classifier without head", "qwen2", _all(CLASSIFIER, _without("lm_head.weight")),
     dict(names=["score.weight", "lm_head.weight"])),
    ("classifier under tied embeddings", "llama",
     _all(_set(architectures=["LlamaForSequenceClassification"]),
          _add("score.weight", torch.ones(2, 16))),
     dict(may_refuse=["score.weight"])),
    ("a value head beside the head", "qwen2", _add("v_head.summary.weight", torch.ones(1, 16)),
     {}),
    ("architectures missing", "qwen2", _drop("architectures"), {}),
    ("architectures null", "qwen2", _set(architectures=None), {}),
    ("base model without prefix, tied", "llama",
     _all(_rename("model.", ""), _set(architectures=["LlamaModel"])), {}),
    ("base model without prefix, untied", "qwen2",
     _all(_without("lm_head.weight"), _rename("model.", ""), _set(architectures=["Qwen2Model"])),
     dict(names=["lm_head.weight"])),
    ("no prefix but a head", "qwen2", _rename("model.", ""), {}),
    ("prefix module.", "qwen2", _rename("", "module."), dict(names=["lm_head", "model."])),
    ("prefix model. twice", "qwen2", _rename("model.", "model.model."),
     dict(names=["lm_head", "model."])),
    # tensors that nobody needs
    *_dtype_rows(),
    ("unused rotary frequencies", "llama",
     _add("model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(2)), {}),
    ("unused position ids", "llama", _add("model.position_ids", torch.arange(64)), {}),
    ("unused layer", "qwen2", _add("model.layers.2.input_layernorm.weight", torch.ones(16)), {}),
    ("biases that llama does not take", "llama",
     _add("model.layers.0.self_attn.q_proj.bias", torch.ones(16)), {}),
    ("output bias that qwen2 does not take", "qwen2",
     _add("model.layers.0.self_attn.o_proj.bias", torch.ones(16)), {}),
    ("mixed number formats", "qwen2",
     _all(_cast(torch.bfloat16, "proj"), _cast(torch.float16, "norm")), {}),
    ("f64", "llama", _cast(torch.float64), {}),
    ("bf16 with torch_dtype", "llama",
     _all(_cast(torch.bfloat16), _drop("dtype"), _set(torch_dtype="bfloat16")), {}),
    ("dtype and torch_dtype", "llama", _set(torch_dtype="bfloat16", dtype="float32"), {}),
    ("a weight missing", "qwen2", _without("model.layers.1.mlp.up_proj.weight"),
     dict(names=["model.layers.1.mlp.up_proj.weight"])),
    ("a bias missing", "qwen2", _without("model.layers.1.self_attn.k_proj.bias"),
     dict(names=["model.layers.1.self_attn.k_proj.bias"])),
    ("a weight of integers", "qwen2",
     _add("model.norm.weight", torch.ones(16, dtype=torch.int32)),
     dict(may_refuse=["model.norm.weight"])),
    # shards and indexes
    ("shards", "qwen2", _shards(), {}),
    ("index names a head that no shard has", "llama", _shards("lm_head.weight"), {}),
    ("index names rotary frequencies that no shard has", "llama",
     _shards("model.layers.0.self_attn.rotary_emb.inv_freq"), {}),
    ("index names a weight that no shard has", "qwen2",
     _all(_without("model.layers.0.mlp.up_proj.weight"),
          _shards("model.layers.0.mlp.up_proj.weight")),
     dict(names=["model.layers.0.mlp.up_proj.weight"])),
    ("stale tensor in another shard", "qwen2", _shards(stale="model.norm.weight"), {}),
    ("shard that the index does not list", "qwen2",
     _shards(unlisted="model-00003-of-00003.safetensors"), {}),
    ("shards beside model.safetensors", "qwen2", _shards(whole=True), {}),
    ("shard missing", "qwen2", _shards(lost=True), dict(names=["model-00002-of-00002"])),
    ("consolidated beside the model", "qwen2",
     lambda folder: setattr(folder, "shards", {
         "model.safetensors": folder.tensors,
         "consolidated.safetensors": {"tok_embeddings.weight": torch.ones(2, 2)}}), {}),
    # sliding windows
    ("use_sliding_window false", "qwen2",
     _set(use_sliding_window=False, sliding_window=4, max_window_layers=0, layer_types=None), {}),
    ("sliding window beyond the layers", "qwen2", _window(4, 28), {}),
    ("sliding window from the last layer on", "qwen2", _window(4, 2), {}),
    ("sliding window as long as the context", "qwen2", _window(64, 0), {}),
    ("sliding window null", "qwen2", _window(None, 0), {}),
    ("sliding window in effect", "qwen2", _window(4, 0), dict(may_refuse=["sliding_window"])),
    ("sliding window in one layer", "qwen2", _window(4, 1), dict(may_refuse=["sliding_window"])),
    ("layer_types all full", "qwen2",
     _set(use_sliding_window=True, sliding_window=4, max_window_layers=0,
          layer_types=["full_attention"] * 2), {}),
    ("layer_types with a window", "qwen2",
     _set(use_sliding_window=True, sliding_window=4, max_window_layers=28,
          layer_types=["full_attention", "sliding_attention"]),
     dict(may_refuse=["sliding_window", "layer_types"])),
    ("layer_types with a window switched off", "qwen2",
     _set(use_sliding_window=False, sliding_window=4,
          layer_types=["full_attention", "sliding_attention"]),
     dict(may_refuse=["sliding_window", "layer_types"])),
    ("llama with window keys", "llama", _set(use_sliding_window=True, sliding_window=4),
     dict(may_refuse=["sliding_window"])),
    # constants
    ("rms_norm_eps missing", "qwen2", _drop("rms_norm_eps"), dict(may_refuse=["rms_norm_eps"])),
    ("rms_norm_eps missing", "llama", _drop("rms_norm_eps"), dict(may_refuse=["rms_norm_eps"])),
    ("num_key_value_heads missing", "qwen2", _drop("num_key_value_heads"),
     dict(names=["num_key_value_heads", "proj"], may_refuse=["num_key_value_heads"])),
    ("num_key_value_heads null", "llama", _set(num_key_value_heads=None),
     dict(names=["num_key_value_heads", "proj"])),
    ("hidden_act missing", "qwen2", _drop("hidden_act"), {}),
    ("hidden_act swish", "qwen2", _set(hidden_act="swish"), dict(may_refuse=["hidden_act"])),
    ("hidden_act gelu", "llama", _set(hidden_act="gelu"), dict(may_refuse=["hidden_act"])),
    ("max_position_embeddings missing", "qwen2", _drop("max_position_embeddings"),
     dict(may_refuse=["max_position_embeddings"])),
    ("head_dim null", "llama", _set(head_dim=None), {}),
    ("head_dim null", "qwen2", _set(head_dim=None), dict(names=["head_dim"], may_load=True)),
    ("head_dim missing", "llama", _drop("head_dim"), {}),
    ("head_dim of its own", "llama",
     _all(_set(head_dim=16),
          *[_add(f"model.layers.{layer}.self_attn.{part}_proj.weight",
                 torch.randn(shape, generator=torch.Generator().manual_seed(9)) * 0.3)
            for layer in (0, 1)
            for part, shape in dict(q=(32, 16), k=(16, 16), v=(16, 16), o=(16, 32)).items()]),
     {}),
    ("attention_bias true", "llama",
     _all(_set(attention_bias=True),
          *[_add(f"model.layers.{layer}.self_attn.{part}_proj.bias", torch.arange(n) * 0.1 - 0.3)
            for layer in (0, 1) for part, n in dict(q=16, k=8, v=8, o=16).items()]), {}),
    ("attention_bias true without biases", "llama", _set(attention_bias=True),
     dict(names=["bias"])),
    ("attention_bias false in qwen2", "qwen2", _set(attention_bias=False), {}),
    ("mlp_bias true", "llama",
     _all(_set(mlp_bias=True),
          *[_add(f"model.layers.{layer}.mlp.{part}_proj.bias", torch.arange(n) * 0.1 - 0.3)
            for layer in (0, 1) for part, n in dict(gate=24, up=24, down=16).items()]),
     dict(may_refuse=["mlp_bias"])),
    ("mlp_bias true in qwen2", "qwen2", _set(mlp_bias=True), dict(may_refuse=["mlp_bias"])),
    ("pretraining_tp 2", "llama", _set(pretraining_tp=2), {}),
    ("model_type missing", "qwen2", _drop("model_type"), dict(names=["model_type"])),
    ("model_type of another family", "qwen2", _set(model_type="gemma"),
     dict(names=["model_type", "gemma"], may_refuse=["model_type"])),
    ("quantization_config left over, fp8", "qwen2",
     _set(quantization_config=dict(quant_method="fp8", activation_scheme="dynamic",
                                   weight_block_size=[128, 128])),
     dict(names=["quantization_config"], may_refuse=["quantization_config"])),
    ("quantization_config null", "qwen2", _set(quantization_config=None), {}),
    ("quantization_config gptq", "qwen2",
     _set(quantization_config=dict(quant_method="gptq", bits=4)),
     dict(names=["quantization_config"])),
    ("generation_config with lists", "qwen2",
     _file("generation_config.json", dict(eos_token_id=[1, 3], bos_token_id=2, do_sample=True,
                                          temperature=0.6, top_p=0.95)), {}),
    ("generation_config empty", "qwen2", _file("generation_config.json", {}), {}),
    ("eos_token_id list", "qwen2", _set(eos_token_id=[1, 3]), {}),
    ("eos_token_id null", "qwen2", _set(eos_token_id=None, bos_token_id=None), {}),
    ("unknown keys", "qwen2", _set(auto_map={"x": "y"}, task_specific_params=None, foo=[1]), {}),
    # tokenizers
    ("special_tokens_map alone", "qwen2",
     _all(_tokenizer_config(drop=("bos_token", "eos_token", "pad_token")),
          _file("special_tokens_map.json", dict(bos_token="<start>", eos_token="<end>"))), {}),
    ("special_tokens_map with objects", "qwen2",
     _all(_tokenizer_config(drop=("bos_token", "eos_token", "pad_token")),
          _file("special_tokens_map.json", dict(
              bos_token=dict(content="<start>", lstrip=False, rstrip=False, normalized=False,
                             single_word=False),
              eos_token=dict(content="<end>", lstrip=False, rstrip=False, normalized=False,
                             single_word=False)))), {}),
    ("special_tokens_map against tokenizer_config", "qwen2",
     _file("special_tokens_map.json", dict(eos_token="<pad>")), {}),
    ("special_tokens_map beside added_tokens_decoder", "qwen2",
     _all(_tokenizer_config(added_tokens_decoder={
              "1": dict(content="<end>", lstrip=False, rstrip=False, normalized=False,
                        single_word=False, special=True)}),
          _file("special_tokens_map.json", dict(eos_token="<pad>"))), {}),
    ("no tokenizer_config", "qwen2",
     _all(lambda folder: folder.files.pop("tokenizer_config.json"),
          _file("special_tokens_map.json", dict(bos_token="<start>", eos_token="<end>"))), {}),
    ("added_tokens.json", "qwen2",
     _all(_file("added_tokens.json", {"<extra>": 46, "<more>": 47}),
          lambda folder: setattr(folder, "text", "the <extra> <more> w3<extra>")), {}),
    ("added_tokens_decoder beyond tokenizer.json", "qwen2",
     _all(_tokenizer_config(added_tokens_decoder={
              "46": dict(content="<extra>", lstrip=False, rstrip=False, normalized=False,
                         single_word=False, special=True),
              "47": dict(content="<more>", lstrip=False, rstrip=False, normalized=False,
                         single_word=False, special=False)}),
          lambda folder: setattr(folder, "text", "the <extra> <more> w3<extra>")), {}),
    ("additional_special_tokens", "qwen2",
     _all(_tokenizer_config(additional_special_tokens=["w3", "<more>"]),
          lambda folder: setattr(folder, "text", "the w3 w9 <more>")), {}),
    ("extra_special_tokens", "qwen2",
     _all(_tokenizer_config(extra_special_tokens=["w3"]),
          lambda folder: setattr(folder, "text", "the w3 w9 xw3")), {}),
    ("eos_token as object", "qwen2",
     _tokenizer_config(eos_token=dict(content="<end>", lstrip=False, rstrip=False,
                                      normalized=False, single_word=False,
                                      __type="AddedToken")), {}),
    ("eos_token that is no token", "qwen2", _tokenizer_config(eos_token="<|nowhere|>"),
     dict(may_refuse=["<|nowhere|>"], tokenizer_may_refuse=["<|nowhere|>"])),
    ("bos_token null", "qwen2", _tokenizer_config(bos_token=None), {}),
    ("eos_token that is not marked special", "qwen2", _tokenizer_config(eos_token="w5"), {}),
    ("add_bos_token true", "qwen2", _tokenizer_config(add_bos_token=True), {}),
]
# one name a variant: the family tells those of the same change apart
VARIANTS = [
    (f"{family}: {name}", family, change, extra) for name, family, change, extra in VARIANTS
]
