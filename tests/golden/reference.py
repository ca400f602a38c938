"""Shared by the golden scripts: probe texts and chats, and the reference computation.

Knows transformers and nothing about how a particular model was made.
"""

import os

# one code path on every processor, so that the files are the same byte for byte
os.environ.update(
    {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
    }
)

import json
from pathlib import Path

import safetensors
import tokenizers
import torch
import transformers

torch.set_num_threads(1)
torch.backends.mkldnn.enabled = False
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

N_NEW_TOKENS = 64

TEXTS = [
    "",
    "What is 17 + 25?",
    " leading space and trailing space ",
    "two  spaces,   three,\ttab\t\ttabs",
    "line one\nline two\n\n\nline five\r\nwindows line\r\n",
    "I'm sure they'll say it's what we'd've done; DON'T SHOUT, HE'S HERE.",
    "3.14159, 1,000,000 and 0x1F; 2024-11-24T09:18:00Z, 12345678901234567890",
    "caf\u00e9 (composed), cafe\u0301 (decomposed), na\u00efve, "
    "\u00c5ngstr\u00f6m, A\u030angstro\u0308m",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u3053\u3093\u306b\u3061\u306f "
    "\uc548\ub155\ud558\uc138\uc694",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645, "
    "\u05e9\u05dc\u05d5\u05dd, "
    "\u0928\u092e\u0938\u094d\u0924\u0947, \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "emoji: \U0001f600\U0001f44d\U0001f3fd "
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "\u00bd cup, x\u00b2 + y\u00b3, \u2460 \u2161 \u0663\u0664 \uff11\uff12",
    "def add(a, b):\n    return a + b  # sum\n\n\nassert add(2, 3) == 5\n",
    "https://example.org/path_to/file-name.html?q=a%20b&x=[1]#frag",
    "<think>\nFirst I add: 2+2=4.\n</think>\n\nThe answer is \\boxed{Assistant 1}.",
    "text<|im_start|>user\nhello<|im_end|> <|im_end|>\n<|endoftext|>tail",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|im_sta",
    "no\u00a0break\u2003em\u3000wide\u200bzero\ufeffbom \u00ad soft",
    "$\\frac{\\partial f}{\\partial x} \\neq \\infty$ ___ === ~~~ --- *** !!! ??? ...",
    "supercalifragilisticexpialidocious    \n   \n \t end   ",
]

CHATS = [
    [{"role": "user", "content": "What is 17 + 25?"}],
    [
        {"role": "system", "content": "You are a careful judge.\nAnswer briefly.\n\n"},
        {"role": "user", "content": "  Is 7 prime? \n"},
    ],
    [
        {"role": "user", "content": "Say \"hi\" & <b>bye</b> 'now' {{ x }} {% y %}"},
        {"role": "assistant", "content": "<think>\nshort\n</think>\n\nhi"},
        {"role": "user", "content": "\u00c4gain, \u4f60\u597d \U0001f600"},
    ],
    [
        {"role": "system", "content": ""},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ],
]


def versions():
    """Versions of all packages that influence the figures."""
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "safetensors": safetensors.__version__,
    }


def rounded(values, digits=6):
    return [round(float(value), digits) for value in values]


def forced_logits(model, token_ids):
    """Logits of the whole sequence in one pass: [T, V] f32."""
    with torch.no_grad():
        return model(torch.tensor([token_ids])).logits[0].float()


def forced_logprobs(model, token_ids):
    """Element t belongs to token_ids[t + 1]."""
    logprobs = forced_logits(model, token_ids).log_softmax(-1)
    targets = torch.tensor(token_ids[1:]).unsqueeze(1)
    return logprobs[:-1].gather(1, targets).squeeze(1)


def greedy(model, token_ids, least_gap):
    """64 greedy tokens by `generate`, and the reference values along them."""
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=N_NEW_TOKENS, pad_token_id=0
    )
    ids = torch.tensor([token_ids])
    with torch.no_grad():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            output_logits=True,
            return_dict_in_generate=True,
        )
    new_ids = out.sequences[0, len(token_ids) :].tolist()
    logits = torch.cat(out.logits).float()  # [64, V]
    assert len(new_ids) == N_NEW_TOKENS and logits.shape[0] == N_NEW_TOKENS
    top = logits.topk(2).values
    gap = (top[:, 0] - top[:, 1]).min().item()
    assert gap > least_gap, f"smallest gap between the two best tokens is {gap}"
    logprobs = logits.log_softmax(-1).gather(1, torch.tensor(new_ids).unsqueeze(1)).squeeze(1)
    whole = forced_logprobs(model, token_ids + new_ids)
    drift = (whole[len(token_ids) - 1 :] - logprobs).abs().max().item()
    assert drift < 1e-4, f"cached and uncached logprobs differ by {drift}"
    return {
        "token_ids": token_ids,
        "greedy_token_ids": new_ids,
        "greedy_logprobs": rounded(logprobs),
        "smallest_gap": round(gap, 4),
        "last_prompt_logits": rounded(logits[0, :8], 5),
        "prompt_logprobs": rounded(whole[: len(token_ids) - 1]),
    }


def tokenization(tokenizer):
    """Token ids of the probe texts, alone and as a prompt, and the texts decoded again."""
    rows = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        rows.append(
            {
                "text": text,
                "token_ids": ids,
                "prompt_token_ids": tokenizer.encode(text),
                "decoded": tokenizer.decode(
                    ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
                ),
                "decoded_without_special": tokenizer.decode(
                    ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
                ),
            }
        )
    return rows


def chats(tokenizer, variables=({},)):
    """The probe chats rendered, with and without the opening of the answer, and with each set of
    the template's variables.
    """
    return [
        {
            "messages": messages,
            "add_generation_prompt": opening,
            **({"variables": values} if values else {}),
            "text": tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=opening, **values
            ),
        }
        for values in variables
        for messages in CHATS
        for opening in (True, False)
    ]


def write_json(path, value):
    """JSON with a number list on one line, so that a changed value is a changed line."""
    Path(path).write_text(_render(value, 0) + "\n", encoding="utf-8")


def _render(value, depth):
    pad, end = " " * (depth + 1), " " * depth
    if isinstance(value, dict) and value:
        rows = [f"{pad}{json.dumps(k)}: {_render(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{end}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(pad + _render(item, depth + 1) for item in value) + f"\n{end}]"
    return json.dumps(value)
