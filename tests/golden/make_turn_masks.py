#!/usr/bin/env python3
"""Makes tests/golden/turn_masks.json: which tokens of chats transformers says that the assistant
has written (`apply_chat_template(return_assistant_tokens_mask=True)`).

    pip install torch==2.11.0 transformers==5.23.0
    python tests/golden/make_turn_masks.py

Tokenizers are those of tests/golden/models. The templates follow Qwen3 (thoughts of earlier turns
are dropped), Llama 3 and Mistral, and mark the assistant's turns by `{% generation %}`. Each is
recorded without its marks, too: the same turns have to be found there.
"""

import reference  # first: it sets the environment of the libraries

import json
import re
from pathlib import Path

import transformers

HERE = Path(__file__).resolve().parent

LLAMA3 = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{- message.content | trim + '<|eot_id|>' }}{%- endgeneration %}
    {%- else %}
        {{- message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

MISTRAL = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{- ' ' + message.content + eos_token }}{%- endgeneration %}
    {%- else %}
        {{- '[INST] ' + message.content + ' [/INST]' }}
    {%- endif %}
{%- endfor %}"""

QWEN3 = """{%- set ns = namespace(last_user=-1) %}
{%- for message in messages[::-1] %}
    {%- if ns.last_user < 0 and message.role == 'user' %}
        {%- set ns.last_user = messages | length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' %}
        {%- set thoughts = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thoughts = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
        {%- if loop.index0 > ns.last_user and (loop.last or thoughts) %}
            {{- '<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content + '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

TEMPLATES = [
    ("llama3", "tiny-llama3", LLAMA3),
    ("mistral", "tiny-mistral", MISTRAL),
    ("qwen3", "tiny-qwen3", QWEN3),
]


def said(role, content, **more):
    return {"role": role, "content": content, **more}


CHATS = [
    [said("user", "What is 2+3?"), said("assistant", "2+3 is 5.")],
    [
        said("user", "What is 2+3?"),
        said("assistant", "5"),
        said("user", "And 5+5, plus a naïve café?"),
        said("assistant", "10 – naïve ☕ indeed.\n\n  Two lines."),
    ],
    [
        said("user", "One."),
        said("assistant", "<think>\nfirst thought\n</think>\n\nOne, then."),
        said("user", "Two."),
        said("assistant", "<think>\nsecond thought\n</think>\n\nTwo, then."),
    ],
    [
        said("user", "One."),
        said("assistant", "One, then.", reasoning_content="first thought"),
        said("user", "Two."),
        said("assistant", "Two, then.", reasoning_content="second thought"),
        said("user", "Three?"),
    ],
]


def plain(template):
    return re.sub(r"\{%- (end)?generation %\}", "", template)


def row(tokenizer, template, chat):
    seen = tokenizer.apply_chat_template(
        chat, chat_template=template, return_assistant_tokens_mask=True, return_dict=True
    )
    text = tokenizer.apply_chat_template(chat, chat_template=plain(template), tokenize=False)
    marked = tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False)
    assert text == marked, (text, marked)
    return {
        "chat": chat,
        "text": text,
        "ids": seen["input_ids"],
        "mask": seen["assistant_masks"],
    }


def on_one_line(match):
    return "[" + " ".join(match[1].split()) + "]"


def main():
    rows = []
    for name, model, template in TEMPLATES:
        tokenizer = transformers.AutoTokenizer.from_pretrained(HERE / "models" / model)
        rows.append(
            {
                "name": name,
                "model": model,
                "template": template,
                "plain": plain(template),
                "chats": [row(tokenizer, template, chat) for chat in CHATS],
            }
        )
    meta = {"transformers": transformers.__version__, "script": Path(__file__).name}
    text = json.dumps({"_meta": meta, "templates": rows}, indent=1, ensure_ascii=False)
    # lists of numbers on one line
    text = re.sub(r"\[\s+([\d,\s]+?)\s+\]", on_one_line, text)
    (HERE / "turn_masks.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
