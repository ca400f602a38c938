"""Tables of polars sent as Arrow streams: what comes back for whole tables and for wrong ones.

    python polars_tables.py ADDRESS
"""

import http.client
import io
import json
import sys
import urllib.error
import urllib.request

import polars as pl

URL = f"http://{sys.argv[1]}/v1/score_groups"
HEADERS = {"Content-Type": "application/vnd.apache.arrow.stream"}


def score(table):
    sink = io.BytesIO()
    table.write_ipc_stream(sink)
    request = urllib.request.Request(URL, sink.getvalue(), HEADERS)
    return urllib.request.urlopen(request).read()


def problem(table):
    """The error, and whether polars reads what came of the table."""
    try:
        score(table)
    except http.client.IncompleteRead as error:
        part = error.partial
        try:
            pl.read_ipc_stream(io.BytesIO(part))
        except Exception:
            words = part.decode(errors="replace").split("broken off: ")[-1]
            return [words.strip(), "unreadable"]
        return ["read as if it were whole"]
    except urllib.error.HTTPError as error:
        return [error.code, json.load(error)["error"]["message"]]


sums = ["The answer is 140.", "The answer is 130.", "It is 150."]
products = ["The answer is 41.", "The answer is 42."]
table = pl.DataFrame(
    {
        "group_id": ["a"] * 3 + ["b"] * 2,
        "prompt": ["What is 47 + 93?"] * 3 + ["What is 6 * 7?"] * 2,
        "completion": sums + products,
        "member": [2, 1, 0, 5, 6],
        "other": [[1.0]] * 5,
    }
)
rows = []
for kind in (pl.String, pl.Categorical):
    answer = score(table.with_columns(pl.col("group_id", "prompt").cast(kind)))
    read = pl.read_ipc_stream(io.BytesIO(answer))
    rows.append(read.sort("group_id", "member", descending=[False, True]).rows(named=True))
twice = table.with_columns(member=pl.Series([2, 1, 0, 5, 5]))
print(json.dumps([rows, [problem(table.drop("prompt")), problem(twice)]]))
