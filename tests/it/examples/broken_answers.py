"""joust_client.py against answers that proxies and killed servers give: each is asked again.

Prints the number of requests per case.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))

import joust_client

JSON = b'{"reward": 0.5}'
# status, headers and body of the first answer
CASES = {
    "date": (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"busy"),
    "nonsense": (429, {"Retry-After": "soon"}, b"busy"),
    "endless": (429, {"Retry-After": "inf"}, b"busy"),
    "not utf-8": (502, {}, b"\xff\xfe"),
    "half": (200, {"Content-Length": "500"}, JSON),
    "half of a proxy": (200, {}, JSON[:7]),
    "a page": (200, {}, b"<html>"),
    "nothing": (None, {}, b""),
}


def requests_of(case):
    n_requests = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            nonlocal n_requests
            n_requests += 1
            self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, body = CASES[case] if n_requests == 1 else (200, {}, JSON)
            if status is not None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/remote_rm"
    answer = joust_client.ask(url, {}, joust_client.json_headers())
    server.shutdown()
    assert answer == {"reward": 0.5}, answer
    return n_requests


joust_client.pause_s = lambda attempt, retry_after_s=0.0: min(retry_after_s, 0.01)
print(json.dumps({case: requests_of(case) for case in CASES}))
