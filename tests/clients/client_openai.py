"""openai's client: chats, streams, models and what its exceptions show.

    python client_openai.py http://ADDRESS
"""

import sys

from checks import check, error_of
from openai import OpenAI

CLIENT = OpenAI(base_url=sys.argv[1] + "/v1", api_key="x", max_retries=0, timeout=120)
MODEL = CLIENT.models.list().data[0].id
MESSAGES = [{"role": "user", "content": "What is 47 + 93?"}]


def create(**settings):
    settings = {"model": MODEL, "messages": MESSAGES, "max_tokens": 24, "seed": 7} | settings
    return CLIENT.chat.completions.create(**settings)


def text(**settings):
    return create(**settings).choices[0].message.content


def streamed(**settings):
    said, finish, usage = {}, {}, None
    for chunk in create(stream=True, stream_options={"include_usage": True}, **settings):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            said[choice.index] = said.get(choice.index, "") + (choice.delta.content or "")
            finish[choice.index] = choice.finish_reason or finish.get(choice.index)
    return said, finish, usage


def same_as_stream():
    whole = create(n=2)
    said, finish, usage = streamed(n=2)
    for choice in whole.choices:
        assert said[choice.index] == choice.message.content, said
        assert finish[choice.index] == choice.finish_reason, finish
    assert usage == whole.usage, usage
    return f"{usage.total_tokens} tokens"


def by_helper():
    with CLIENT.chat.completions.stream(model=MODEL, messages=MESSAGES, max_tokens=400) as stream:
        return stream.get_final_completion().choices[0].message.content


def forms():
    call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    parts = [{"type": "text", "text": "What is 47 + 93?"}]
    said = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    said += [{"role": "assistant", "content": "140", "tool_calls": [call]}]
    return text(messages=said + MESSAGES)


def refused(words, **settings):
    return lambda: error_of(lambda: create(**settings), words)


check("a plain answer", text)
check("max_completion_tokens", lambda: text(max_completion_tokens=5))
check("both limits", lambda: text(max_tokens=24, max_completion_tokens=5))
check("seed gives the same answer twice", lambda: len({text(), text()}) == 1 or 1 / 0)
check("defaults of other clients", lambda: text(presence_penalty=0, logit_bias={}, tools=[]))
check("fields without effect", lambda: text(user="u", metadata={"a": "b"}, service_tier="auto"))
check("a stream says the same", same_as_stream)
check("the helper of streams", by_helper)
check("messages in all forms", forms)
check("logit_bias is refused", refused("logit_bias is not offered", logit_bias={"5": -100}))
check("penalties are refused", refused("presence_penalty is not", presence_penalty=0.5))
check("top_k is refused", refused("top_k is not offered", extra_body={"top_k": 5}))
check("tools are refused", refused("tools is not", tools=[{"type": "function", "function": {}}]))
check("another model is not found", refused("`nope` does not exist", model="nope"))
check("no messages", refused("messages is empty", messages=[]))
check("an unknown role", refused("hacker", messages=[{"role": "hacker", "content": "x"}]))
