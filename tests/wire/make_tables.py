"""Writes tables.json: Arrow streams of completions in hexadecimal digits, for recorded requests.

.venv/bin/python tests/wire/make_tables.py     (needs polars)
"""

import io
import json
import pathlib

import polars as pl

ROWS = {
    "group_id": ["a", "a", "a", "b", "b"],
    "prompt": ["What is 2 + 2?"] * 3 + ["What is 6 * 7?"] * 2,
    "completion": ["The answer is 4.", "5", "The answer is 6. 🙂", "42", "41"],
    "answer": ["4", "4", "4", "42", "42"],
    "member": [2, 0, 1, 5, 6],
}


def stream(table):
    sink = io.BytesIO()
    table.write_ipc_stream(sink, compression="uncompressed")
    return sink.getvalue().hex()


whole = pl.DataFrame(ROWS)
one = whole.head(3)
turns = [[{"role": "user", "content": text}] for text in one["prompt"]]
tables = {
    "one group": one,
    "two groups": whole,
    "without members": one.drop("member"),
    "without group ids": one.drop("group_id"),
    "keyed texts": one.with_columns(pl.col("group_id", "prompt").cast(pl.Categorical)),
    "messages": one.drop("prompt").with_columns(messages=pl.Series(turns)),
    "a column that is not known": one.with_columns(other=pl.lit(1.5)),
    "without an answer": one.drop("answer"),
    "without a prompt": one.drop("prompt"),
    "without completions": one.drop("completion"),
    "a member twice": one.with_columns(member=pl.Series([1, 0, 1])),
    "a null": one.with_columns(completion=pl.Series(["4", None, "5"])),
    "numbers as completions": one.with_columns(completion=pl.Series([1, 2, 3])),
    "two prompts in a group": one.with_columns(prompt=pl.Series(["x", "x", "y"])),
    "no rows": one.head(0),
}
path = pathlib.Path(__file__).parent / "tables.json"
path.write_text(
    json.dumps({name: stream(table) for name, table in tables.items()}, indent=1) + "\n"
)
