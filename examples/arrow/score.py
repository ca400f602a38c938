"""Scores a table of completions: by HTTP or by Arrow Flight, with pyarrow only.

    python score.py rollouts.parquet rewards.parquet [--url http://127.0.0.1:8000] [--flight]

The table has the columns group_id, prompt and completion, and optionally member and answer; the
rows of a group are adjacent. The environment variable JOUST_TOKEN holds the server's token, if it
requires one.
"""

import argparse
import os
import threading
import urllib.request
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq

COLUMNS = ["group_id", "prompt", "completion", "member", "answer"]


def by_http(url: str, table: pa.Table, token: str | None = None, timeout: float = 3600) -> pa.Table:
    """Sends the whole table, then reads the rewards as they arrive."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1024)
    headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = sink.getvalue().to_pybytes()
    request = urllib.request.Request(f"{url}/v1/score_groups", body, headers)
    with urllib.request.urlopen(request, timeout=timeout) as response:
        # a stream that breaks off raises here
        return pa.ipc.open_stream(response).read_all()


def by_flight(url: str, table: pa.Table, token: str | None = None) -> pa.Table:
    """Sends batches and reads rewards at the same time: for tables of any size."""
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    options = flight.FlightCallOptions(headers=headers)
    command = flight.FlightDescriptor.for_command(b"score")
    with flight.connect(f"grpc://{urlsplit(url).netloc}") as client:
        writer, reader = client.do_exchange(command, options)

        def send() -> None:
            try:
                writer.begin(table.schema)
                writer.write_table(table, max_chunksize=1024)
                writer.done_writing()
            except (pa.ArrowException, OSError):
                pass  # the reader raises the reason

        sending = threading.Thread(target=send)
        sending.start()
        try:
            return reader.read_all()
        finally:
            sending.join()
            writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--flight", action="store_true")
    args = parser.parse_args()
    table = pq.read_table(args.input)
    table = table.select([name for name in COLUMNS if name in table.column_names])
    score = by_flight if args.flight else by_http
    rewards = score(args.url, table, os.environ.get("JOUST_TOKEN"))
    pq.write_table(rewards, args.output)
    missing = rewards.column("reward").null_count
    print(f"{rewards.num_rows} rewards, {missing} of them missing: {args.output}")


if __name__ == "__main__":
    main()
