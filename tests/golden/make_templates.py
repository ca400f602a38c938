#!/usr/bin/env python3
"""Renders the templates of tests/golden/templates.json with transformers, in place.

    pip install torch==2.11.0 transformers==5.23.0
    python tests/golden/make_templates.py

The file holds six chats, and templates of which each exercises one kind of thing. A new template
is a row with `name`, `template`, the `special` tokens that are set, and the `kwargs` if there are
any; this script adds what transformers renders of each chat, or the `error` that it raises. The day
is fixed.
"""

import datetime
import json
import os
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
os.environ["HF_HUB_OFFLINE"] = "1"

import jinja2
import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

HERE = Path(__file__).resolve().parent
TODAY = datetime.datetime(2024, 7, 6)


class FixedDay(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return TODAY


chat_template_utils.datetime = FixedDay


def tokenizer(special):
    backend = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2}, "<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def render(row, chat, opening):
    try:
        text = tokenizer(row["special"]).apply_chat_template(
            chat, chat_template=row["template"], tokenize=False, add_generation_prompt=opening,
            **row.get("kwargs", {}),
        )
    except RecursionError:
        raise
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
    return {"text": text}


def main():
    path = HERE / "templates.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    chats, rows = known["chats"], known["templates"]
    for row in rows:
        # with and without the opening of an answer by turns
        row["rendered"] = [
            render(row, chat, at % 2 == 0)
            for at, chat in enumerate(chats)
        ]
    value = {
        "_meta": {
            "script": "tests/golden/make_templates.py",
            "transformers": transformers.__version__,
            "jinja2": jinja2.__version__,
            "today": TODAY.date().isoformat(),
        },
        "chats": chats,
    }
    with open(path, "w", encoding="utf-8") as out:
        out.write("{\n")
        for key, item in value.items():
            out.write(f"{json.dumps(key)}: {json.dumps(item, ensure_ascii=False)},\n")
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        out.write('"templates": [\n' + ",\n".join(lines) + "\n]\n}\n")
    n_errors = sum("error" in one for row in rows for one in row["rendered"])
    print(len(rows), "templates,", len(rows) * len(chats), "renderings,", n_errors, "errors")


if __name__ == "__main__":
    main()
