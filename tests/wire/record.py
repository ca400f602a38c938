"""Plays the scripted requests against a `joust serve` and writes requests with answers.

    python3 tests/wire/record.py --binary target/release/joust

Writes `recorded.jsonl`, and `openapi.json` beside it. The first record was of commit 0528abc,
with `--earlier-keys`.

Needs nothing but Python. `tests/it/wire.rs` plays the same requests against the current program
and compares. What changes from call to call is replaced: see `steady`.
"""

import argparse
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import cases

HEADERS = ["content-type", "retry-after", "www-authenticate", "location", "allow"]


class StubJudge(http.server.BaseHTTPRequestHandler):
    """A judge's server: of two answers the one with more letters `a` wins, a seed decides ties."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = "".join(message["content"] for message in body["messages"])
        if "[[hold]]" in said:
            self.rfile.read()  # to the end of the connection
            return
        status = next((status for status in (400, 500) if f"[[{status}]]" in said), 200)
        answer = {"error": "as asked"} if status != 200 else completion(body, said)
        text = json.dumps(answer, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def completion(body, said):
    last = body["messages"][-1]["content"]
    reason = "length" if "[[long]]" in said else "stop"
    if "### Assistant 1\n\n" in last:
        first, second = last.split("### Assistant 1\n\n")[1].split("\n\n\n### Assistant 2\n\n")
        second = second.split("\n\n## Analysis")[0]
        lead = first.count("a") - second.count("a")
        place = (1 if body["seed"] % 2 == 0 else 2) if lead == 0 else (1 if lead > 0 else 2)
        verdict = "I cannot say." if "[[mute]]" in last else f"\\boxed{{Assistant {place}}}"
        text = f"<think>lead {lead}</think> {verdict}"
    else:
        keys = ["temperature", "top_p", "max_tokens", "seed", "stop"]
        text = f"{last} {json.dumps([body.get(key) for key in keys], separators=(',', ':'))}"
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}],
        "usage": {"prompt_tokens": len(said.encode()), "completion_tokens": len(text.encode())},
    }


def start_stub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StubJudge)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


def config(sections, replaced):
    lines = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    text = "\n".join(lines) + "\n"
    for name, value in replaced.items():
        text = text.replace(name, value)
    return text


def start_server(binary, root, path):
    command = [binary, "serve", str(path), "serve.port=0"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    return process, re.search(r"http://([0-9.:]+)", line).group(1)


def exchange(address, sent):
    """Status, headers, body and whether the answer is whole, of one request on one connection."""
    host, port = address.split(":")
    body = sent.get("body", "").encode()
    if "body_hex" in sent:
        body = bytes.fromhex(sent["body_hex"])
    headers = {"host": "joust", "connection": "close"} | sent["headers"]
    if sent["method"] not in ("GET", "DELETE"):
        headers.setdefault("content-length", str(len(body)))
    head = f"{sent['method']} {sent['path']} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        connection.sendall(head.encode() + b"\r\n" + body)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    head, _, rest = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(split(line) for line in lines)
    is_whole = True
    if headers.get("transfer-encoding") == "chunked":
        rest, is_whole = unchunked(rest)
    return int(first.split(" ")[1]), headers, rest, is_whole


def split(line):
    name, value = line.split(": ", 1) if ": " in line else (line.rstrip(":"), "")
    return name.lower(), value


def unchunked(data):
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return body, True
        body, data = body + data[:length], data[length + 2 :]
    return body, False


def read(headers, body, path):
    """The body by its content type: JSON, lines, events, names of metrics, text or bytes."""
    kind = headers.get("content-type", "")
    if kind.startswith("application/json"):
        return {"json": json.loads(body)}
    if kind.startswith("application/x-ndjson"):
        lines = [json.loads(line) for line in body.decode().splitlines()]
        # in the order of the groups, for they are answered as they are judged
        return {"lines": sorted(lines, key=lambda line: line.get("index", 1 << 60))}
    if kind.startswith("text/event-stream"):
        events = [event for event in body.decode().split("\n\n") if event.strip(": \n")]
        return {"events": [parsed_event(event) for event in events]}
    if path == "/metrics" and kind.startswith("application/openmetrics"):
        return {"metrics": metrics(body.decode())}
    if kind.startswith("text/html"):
        return {"html": True}
    if kind.startswith("application/vnd.apache.arrow"):
        return {"hex": body.hex()}
    return {"text": body.decode()}


def parsed_event(text):
    fields = dict(line.split(": ", 1) for line in text.splitlines())
    data = fields["data"]
    read = {"data": data if data == "[DONE]" else json.loads(data)}
    # the events of a streamed chat have no name
    return {"event": fields["event"]} | read if "event" in fields else read


def metrics(page):
    """Types of the metrics and names of their labels; numbers differ, and help is words."""
    found = set()
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            found.add(line)
        elif not line.startswith("#"):
            name, _, labels = line.partition("{")
            keys = re.findall(r'(\w+)="', labels)
            found.add(f"{name.split(' ')[0]} {' '.join(keys)}".strip())
    return sorted(found)


def steady(value, saved):
    """Replaces what is new in each call: times, ids made of them, ids of jobs."""
    if isinstance(value, dict):
        value = {key: steady(item, saved) for key, item in value.items()}
        if "created" in value:
            value["created"] = "{time}"
        if str(value.get("id", "")).startswith(("score-", "classify-")):
            value["id"] = value["id"].split("-")[0] + "-{time}"
        return value
    if isinstance(value, list):
        return [steady(item, saved) for item in value]
    if isinstance(value, str):
        for name, text in saved.items():
            value = value.replace(text, "{%s}" % name)
    return value


def pointed(value, pointer):
    for part in pointer.strip("/").split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    return value


class Player:
    """One running server and what was saved of its answers."""

    def __init__(self, address, stub):
        self.address = address
        self.saved = {"stub": stub}

    def filled(self, text):
        for name, value in self.saved.items():
            text = text.replace("{%s}" % name, value)
        return text

    def play(self, step):
        threads = []
        answers = [None] * len(step["exchanges"])

        def send(at, sent):
            answers[at] = self.answer(sent)

        for at, sent in enumerate(step["exchanges"]):
            if "after" in sent:
                self.wait(sent["after"])
            thread = threading.Thread(target=send, args=(at, sent))
            thread.start()
            threads.append(thread)
            if "in_turn" in sent:
                thread.join()
        for thread in threads:
            thread.join()
        exchanges = [sent | {"answer": answer} for sent, answer in zip(step["exchanges"], answers)]
        return step | {"exchanges": exchanges}

    def wait(self, after):
        deadline = time.monotonic() + 60
        sent = {"method": "GET", "path": self.filled(after["path"]), "headers": {}}
        while (
            pointed(json.loads(exchange(self.address, sent)[2]), after["pointer"]) != after["value"]
        ):
            if time.monotonic() > deadline:
                sys.exit(f"{after} did not happen")

    def answer(self, sent):
        filled = sent | {"path": self.filled(sent["path"])}
        status, headers, body, is_whole = exchange(self.address, filled)
        content = read(headers, body, sent["path"])
        if "save" in sent:
            for name, pointer in sent["save"].items():
                self.saved[name] = pointed(content["json"], pointer)
            # how far an accepted job is depends on the moment
            content["json"] = {"job_id": content["json"]["job_id"]}
        kept = {name: headers[name] for name in HEADERS if name in headers}
        answer = {"status": status, "headers": kept} | content
        if not is_whole:
            answer["is_whole"] = False
        return steady(answer, self.saved)


def without_words(value, are_names=False):
    """A document without descriptions and summaries; members of `properties` are names."""
    if isinstance(value, list):
        return [without_words(item) for item in value]
    if not isinstance(value, dict):
        return value
    words = () if are_names else ("description", "summary")
    return {
        key: without_words(item, key == "properties" and not are_names)
        for key, item in value.items()
        if key not in words
    }


def write_openapi(address, path):
    """The server's OpenAPI document without words."""
    sent = {"method": "GET", "path": "/openapi.json", "headers": {}}
    document = without_words(json.loads(exchange(address, sent)[2]))
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--root", default=".", help="the folder in which it runs")
    here = pathlib.Path(__file__).parent
    parser.add_argument("--output", default=here / "recorded.jsonl")
    parser.add_argument("--earlier-keys", action="store_true", help="configs as of 0528abc")
    args = parser.parse_args()
    lines, player, process, running = [], None, None, None
    environment_tokens = os.environ.pop("JOUST_TOKENS", None)
    if environment_tokens is not None:
        print("JOUST_TOKENS is left out", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "tokens").write_text(cases.TOKENS)
        replaced = {"{stub}": start_stub(), "{tokens}": str(folder / "tokens")}
        for step in cases.all_steps():
            if step["server"] != running:
                stop(process)
                running = step["server"]
                path = folder / f"{running}.toml"
                settings = cases.SERVERS[running]
                if args.earlier_keys:
                    settings = cases.with_earlier_keys(settings)
                path.write_text(config(settings, replaced))
                process, address = start_server(os.path.abspath(args.binary), args.root, path)
                player = Player(address, replaced["{stub}"])
                if running == "rule":
                    write_openapi(address, pathlib.Path(args.output).with_name("openapi.json"))
            lines.append(json.dumps(player.play(step), ensure_ascii=False))
        stop(process)
    pathlib.Path(args.output).write_text("".join(f"{line}\n" for line in lines))
    n_requests = sum(len(json.loads(line)["exchanges"]) for line in lines)
    print(f"{n_requests} requests in {len(lines)} steps")


def stop(process):
    if process is not None:
        process.send_signal(signal.SIGTERM)
        process.wait()


if __name__ == "__main__":
    main()
