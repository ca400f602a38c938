"""OpenAI's client as the server sees it, by its published protocol: answers, streams as its decoder
of server-sent events reads them, and what its exceptions show of an error.

    python openai_client.py ADDRESS
"""

import json
import sys
import urllib.error
import urllib.request

ADDRESS = sys.argv[1]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is 47 + 93?"}]},
]


class StatusError(Exception):
    """Shows the message of the body's error, as the client's exceptions do."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.code, self.type, self.param = error["code"], error["type"], error["param"]


def create(**settings):
    body = {"model": "nano-rrm", "messages": MESSAGES, "temperature": 0, "max_tokens": 60}
    url = f"http://{ADDRESS}/v1/chat/completions"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body | settings).encode(), headers)
    try:
        return urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        raise StatusError(json.load(error)["error"]) from error


def events(response):
    """The data of each event, up to `[DONE]`."""
    data = []
    for line in response:
        line = line.decode().rstrip("\n")
        if not line and data:
            text = "\n".join(data)
            data = []
            if text.startswith("[DONE]"):
                return
            yield json.loads(text)
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
    raise AssertionError("no [DONE]")


def streamed():
    text, finish, usage = "", None, None
    for chunk in events(create(stream=True, stream_options={"include_usage": True})):
        usage = chunk["usage"] or usage
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
    return [text, finish, usage]


def error_of(**settings):
    try:
        create(**settings)
    except StatusError as error:
        return error
    raise AssertionError("no error")


with create() as response:
    answer = json.load(response)
    [choice] = answer["choices"]
errors = {
    "logit_bias": error_of(logit_bias={"5": -100}),
    "model": error_of(model="gpt-9"),
    "messages": error_of(messages=[{"role": "hacker", "content": "x"}]),
}
print(
    json.dumps(
        {
            "plain": [choice["message"]["content"], choice["finish_reason"], answer["usage"]],
            "streamed": streamed(),
            "errors": {name: str(error) for name, error in errors.items()},
            "names": [error.code for error in errors.values()],
        }
    )
)
