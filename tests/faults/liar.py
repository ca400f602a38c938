"""A judge's server that answers in a chosen manner: honestly, or as broken servers do.

Of two answers the one with the higher quality wins: answers say `quality 7`. Knows the judge's
prompt and the chat completions of OpenAI, nothing of rewards.
"""

import http.server
import json
import random
import re
import socket
import struct
import threading
import time

THOUGHT = "One says more than the other."


def quality(text):
    """The quality that an answer claims."""
    return int(re.search(r"quality (\d+)", text).group(1))


def better(body):
    """1 or 2: the better answer of a request's prompt; 1 where it shows none."""
    said = body["messages"][-1]["content"]
    shown = re.findall(r"### Assistant [12]\s+(.*?)(?=\n\n|$)", said, re.S)
    if len(shown) < 2:
        return 1
    return 1 if quality(shown[0]) > quality(shown[1]) else 2


def completion(content, **message):
    message = {"role": "assistant", "content": content} | message
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}


def thought(text):
    return f"<think>\n{THOUGHT}\n</think>\n\n{text}"


def boxed(body):
    return f"\\boxed{{Assistant {better(body)}}}"


def plain(handler, body):
    handler.reply(completion(thought(boxed(body))))


def both_keys(handler, body):
    """vLLM's releases with the old and the new name of the thought."""
    verdict = f"\n\n{boxed(body)}"
    handler.reply(completion(verdict, reasoning=THOUGHT, reasoning_content=THOUGHT))


def new_key(handler, body):
    handler.reply(completion(boxed(body), reasoning=THOUGHT))


def null_keys(handler, body):
    answer = completion(thought(boxed(body)), reasoning=None, reasoning_content=None)
    answer["usage"] = None
    handler.reply(answer)


def parts(handler, body):
    handler.reply(completion([{"type": "text", "text": thought(boxed(body))}]))


def slow(handler, body):
    time.sleep(0.2)
    plain(handler, body)


def status(code):
    def answer(handler, _):
        handler.reply({"error": {"message": "as asked", "code": code}}, code)

    return answer


def html(handler, _):
    handler.send(b"<html><body>\\boxed{Assistant 1} It works!</body></html>", kind="text/html")


def half_json(handler, body):
    whole = json.dumps(completion(thought(boxed(body)))).encode()
    handler.send(whole[: len(whole) // 2])


def half_body(handler, body):
    """The connection ends before the promised length."""
    whole = json.dumps(completion(thought(boxed(body)))).encode()
    handler.send(whole[: len(whole) // 2], length=len(whole))
    handler.close_connection = True


def reset(handler, _):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def hang(handler, _):
    handler.rfile.read(1)  # to the end of the connection


def drip(handler, body):
    """A byte now and then: alive, and never done."""
    whole = json.dumps(completion(thought(boxed(body)))).encode()
    handler.send(b"", length=len(whole))
    for byte in whole:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.3)


def flood(handler, _):
    """A body without an end, in chunks."""
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    blanks = b" " * (1 << 20)
    for _ in range(4096):
        handler.wfile.write(b"100000\r\n" + blanks + b"\r\n")


def error_in_200(handler, _):
    handler.reply({"error": {"message": "out of memory", "type": "server_error"}})


def no_choices(handler, _):
    handler.reply(completion("") | {"choices": []})


def null_content(handler, _):
    handler.reply(completion(None))


def no_utf8(handler, body):
    data = json.dumps(completion(thought(boxed(body)))).encode()
    handler.send(data.replace(b"One says", b"\xff\xfe says"))


def words(text):
    def answer(handler, _):
        handler.reply(completion(text))

    return answer


def cut_off(handler, body):
    answer = completion(f"<think>\nAssistant {better(body)} is better, \\boxed{{Assistant 1}}")
    answer["choices"][0]["finish_reason"] = "length"
    handler.reply(answer)


# servers whose votes count
HONEST = {
    "plain": plain,
    "reasoning and reasoning_content": both_keys,
    "reasoning alone": new_key,
    "null keys, null usage": null_keys,
    "content as parts": parts,
    "slow": slow,
}

# servers that give no vote: no reward may come of them
LYING = {
    "500": status(500),
    "429": status(429),
    "404": status(404),
    "HTML in a 200": html,
    "truncated JSON": half_json,
    "connection cut in the body": half_body,
    "connection reset": reset,
    "hanging": hang,
    "one byte now and then": drip,
    "body without an end": flood,
    "error object in a 200": error_in_200,
    "no choices": no_choices,
    "null content": null_content,
    "bytes that are no UTF-8": no_utf8,
    "a third assistant": words(thought("\\boxed{Assistant 3}")),
    "no verdict": words(thought("Both have merit.")),
    "a verdict in the thought alone": words("<think>\\boxed{Assistant 1}</think> I cannot say."),
    "an unclosed box": words(thought("\\boxed{Assistant 1")),
    "a thought cut off": cut_off,
    "both assistants": words(thought("\\boxed{Assistant 1 and Assistant 2}")),
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        data = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(data)
        if self.path.endswith("/tokenize"):
            self.reply({"error": "not here"}, 404)
            return
        with self.server.lock:
            self.server.n_open += 1
        try:
            self.server.answer(self, body)
        except OSError:
            self.close_connection = True
        finally:
            with self.server.lock:
                self.server.n_open -= 1

    def do_GET(self):
        model = {"id": "liar", "object": "model", "max_model_len": 32768}
        self.reply({"object": "list", "data": [model]})

    def reply(self, answer, code=200):
        self.send(json.dumps(answer).encode(), code)

    def send(self, data, code=200, kind="application/json", length=None):
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def get_request(self):
        connection, address = super().get_request()
        with self.lock:
            self.connections.append(connection)
        return connection, address

    def close_connections(self):
        """Also those that wait for a further request."""
        with self.lock:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def handle_error(self, *_):
        pass  # clients go as they please


class Liar:
    """The server. `answer` is the manner in which it answers, and may change at any time."""

    def __init__(self, answer=plain):
        self.port = None
        self.begin(answer)

    def begin(self, answer):
        self.http = HttpServer(("127.0.0.1", self.port or 0), Handler)
        self.http.lock, self.http.n_open, self.http.connections = threading.Lock(), 0, []
        self.http.answer = answer
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def answer_as(self, answer):
        self.http.answer = answer

    def answer_mixed(self, share, seed):
        """Lies in a share of the calls, in one manner after the other."""
        draw, lock = random.Random(seed), threading.Lock()
        quick = [LYING[name] for name in LYING if name not in SLOW]

        def answer(handler, body):
            with lock:
                manner = draw.choice(quick) if draw.random() < share else plain
            manner(handler, body)

        self.http.answer = answer

    def close(self):
        """Goes: calls are refused."""
        self.http.shutdown()
        self.http.server_close()
        self.http.close_connections()

    def n_open(self):
        """Number of calls that wait for an answer."""
        with self.http.lock:
            return self.http.n_open

    def config(self, **more):
        """Sections of a config with this judge."""
        keys = {
            "kind": "http",
            "urls": [f"http://127.0.0.1:{self.port}/v1"],
            "model": "liar",
            "concurrency": 32,
            "tries": 3,
            "timeout_s": 2.0,
        } | more
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        return f"[reward.judge]\n{lines}"


# manners that take the whole time limit of a call
SLOW = ("hanging", "one byte now and then", "body without an end")
