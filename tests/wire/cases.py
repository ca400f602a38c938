"""The recorded requests: which servers answer them, in which order, and what each sends.

A step is a list of requests that may wait for each other; a request with `after` is sent once a
server's JSON shows a value, and the request after one with `in_turn` is sent once that one is
answered. Knows nothing of sockets.
"""

import json
import pathlib

HERE = pathlib.Path(__file__).parent

RULE = {"reward.judge": {"kind": "rule"}}
HTTP = {"urls": ["{stub}"], "model": "stub", "tries": 1, "timeout_s": 60}
SAMPLING = {"temperature": 0.5, "max_thinking_tokens": 160}
STUB = {"reward.judge": {"kind": "http"} | SAMPLING | HTTP}

# what each server's config adds to the defaults
SERVERS = {
    "rule": RULE | {"serve": {"group_size": 3, "collect_s": 300}},
    "fail": RULE | {"serve": {"group_size": 3, "collect_s": 0.5}},
    "mask": RULE | {"serve": {"group_size": 3, "collect_s": 0.5, "incomplete": "mask"}},
    "partial": RULE | {"serve": {"group_size": 3, "collect_s": 0.5, "incomplete": "partial"}},
    "tokens": RULE | {"serve": {"token_file": "{tokens}", "collect_s": 0.5}},
    "one_cohort": RULE | {"serve": {"max_cohorts": 1, "group_size": 2, "collect_s": 300}},
    "stub": STUB | {"serve": {"group_size": 2, "collect_s": 300}},
    "one_group": STUB | {"serve": {"queue_capacity": 1, "collect_s": 300}},
}


def with_earlier_keys(settings):
    """The same settings, with the keys of an http judge in a table of their own."""
    judge = settings["reward.judge"]
    if judge["kind"] != "http":
        return settings
    rest = {key: value for key, value in judge.items() if key not in HTTP}
    return settings | {"reward.judge": rest, "reward.judge.http": HTTP}


TOKENS = "first-token\nsecond-token\n"

LINES = {"content-type": "application/x-ndjson"}
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}
QUESTION = "What is 2 + 2?"
WRONG = ["The answer is 5.", "It is 22.", "I cannot say.", "The answer is 3."]
RIGHT = "The answer is 4."
UNICODE = "Was ist 2 + 2? ∑ 日本語 \u00e9 e\u0301 🙂 \u202e"

steps = []


def request(method, path, body=None, headers=None, **more):
    """One request; a body is JSON unless it is text or bytes."""
    headers = dict(headers or {})
    if body is not None and not isinstance(body, (str, bytes)):
        body = json.dumps(body, ensure_ascii=False)
        headers.setdefault("content-type", "application/json")
    sent = {"method": method, "path": path, "headers": headers}
    if isinstance(body, bytes):
        sent["body_hex"] = body.hex()
    elif body is not None:
        sent["body"] = body
    return sent | more


def step(server, name, *requests):
    steps.append({"server": server, "name": name, "exchanges": list(requests)})


def post(server, name, path, body, headers=None, **more):
    step(server, name, request("POST", path, body, headers, **more))


def get(server, path, name=None, **more):
    step(server, name or f"GET {path}", request("GET", path, **more))


def waiting(count):
    return {"path": "/health", "pointer": "/waiting_completions", "value": count}


def group(*completions, prompt=QUESTION, answer="4", **more):
    return {"prompt": prompt, "completions": list(completions), "answer": answer} | more


def native():
    four = [RIGHT, *WRONG[:2], "4"]
    for kind in ["swiss", "knockout", "round_robin"]:
        for votes in [1, 3]:
            for seed in [0, 7]:
                body = group(*four, tournament=kind, votes=votes, seed=seed)
                name = f"native: {kind}, votes {votes}, seed {seed}"
                post("rule", name, "/v1/score_group", body)
    good = {
        "two completions": group(RIGHT, WRONG[0]),
        "five completions": group(RIGHT, *WRONG),
        "nine completions, two rounds": group(*WRONG, RIGHT, *"abcd", rounds=2, tournament="swiss"),
        "the same group once more": group(RIGHT, WRONG[0]),
        "traces": group(RIGHT, *WRONG[:2], traces=True, votes=3, seed=1),
        "a name": group(RIGHT, WRONG[0], group_id="my group / ü"),
        "an empty name": group(RIGHT, WRONG[0], group_id=""),
        "a numeric answer": group(RIGHT, WRONG[0], answer=4),
        "an answer with a fraction": group("It is 0.5.", "1/3", answer=0.5),
        "messages": {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": QUESTION},
            ],
            "completions": [RIGHT, WRONG[0]],
            "answer": "4",
        },
        "a prompt of messages": group(
            RIGHT, WRONG[0], prompt=[{"role": "user", "content": QUESTION}]
        ),
        "completions of messages": group(
            [{"role": "assistant", "content": RIGHT}], [{"role": "assistant", "content": WRONG[0]}]
        ),
        "completions of both kinds": group(RIGHT, [{"role": "assistant", "content": "5"}]),
        "a completion of no messages": group(RIGHT, []),
        "unicode": group("4 ≠ 5 🙂", "日本語 4", "\u202e5", prompt=UNICODE),
        "duplicates": group(RIGHT, RIGHT, WRONG[0], WRONG[0]),
        "the same completion thrice": group(RIGHT, RIGHT, RIGHT),
        "an empty completion": group(RIGHT, ""),
        "thoughts": group("<think>5?</think> 4", "<think>4", "5"),
        "votes that stop early": group(*four, votes={"max": 5, "margin": 2}, seed=3),
        "an even number of votes": group(RIGHT, WRONG[0], votes=2),
        "votes by rule with an unknown key": group(*four, votes={"max": 5, "steps": 2}),
        "control tokens": group("4<|im_end|>", "<|im_start|>assistant\n5", prompt="<s>2+2?</s>"),
        "a large seed": group(RIGHT, WRONG[0], seed=2**64 - 1),
        "one completion": group(RIGHT),
        "no known answer": {"prompt": QUESTION, "completions": [RIGHT, WRONG[0]]},
        "an answer of null": group(RIGHT, WRONG[0], answer=None),
        "traces of a refused group": {"prompt": QUESTION, "completions": four, "traces": True},
    }
    for name, body in good.items():
        post("rule", f"native: {name}", "/v1/score_group", body)
    bad = {
        "an empty object": {},
        "no prompt": {"completions": [RIGHT, WRONG[0]]},
        "prompt and messages": group(RIGHT, "5", messages=[{"role": "user", "content": "x"}]),
        "an empty prompt": group(RIGHT, WRONG[0], prompt=""),
        "a blank prompt": group(RIGHT, WRONG[0], prompt="  \n"),
        "a prompt of no messages": group(RIGHT, WRONG[0], prompt=[]),
        "no completions": {"prompt": QUESTION},
        "an empty group": group(),
        "too many completions": group(*map(str, range(1025))),
        "completions of numbers": group(1, 2),
        "completions that are a text": {"prompt": QUESTION, "completions": "4"},
        "an answer that is a list of lists": group(RIGHT, WRONG[0], answer=[["4"]]),
        "an answer that is an object": group(RIGHT, WRONG[0], answer={}),
        "an unknown field": group(RIGHT, WRONG[0], temperature=1),
        "an unknown tournament": group(RIGHT, WRONG[0], tournament="elo"),
        "no votes": group(RIGHT, WRONG[0], votes=0),
        "votes that are a text": group(RIGHT, WRONG[0], votes="three"),
        "too many votes": group(RIGHT, WRONG[0], votes=1025),
        "no rounds": group(RIGHT, WRONG[0], rounds=0),
        "too many rounds": group(RIGHT, WRONG[0], rounds=1025),
        "a negative seed": group(RIGHT, WRONG[0], seed=-1),
        "a seed with a fraction": group(RIGHT, WRONG[0], seed=1.5),
        "a seed that is too large": group(RIGHT, WRONG[0], seed=2**64),
        "a role that is missing": group(RIGHT, WRONG[0], prompt=[{"content": "x"}]),
        "a list": [QUESTION, [RIGHT]],
        "a text": '"hello"',
        "a number": "7",
        "null": "null",
        "nothing": "",
        "blanks": "  ",
        "half an object": '{"prompt": "x", "completions": ["a"',
        "two objects": '{"prompt": "x"} {}',
        "a comma too many": '{"prompt": "x",}',
        "a key twice": '{"prompt": "x", "prompt": "y", "completions": ["a", "b"]}',
        "single quotes": "{'prompt': 'x'}",
        "NaN": '{"prompt": "x", "completions": ["a", "b"], "answer": NaN}',
        "a lone surrogate": '{"prompt": "\\ud800", "completions": ["a", "b"]}',
        "bytes that are no UTF-8": b'{"prompt": "\xff\xfe", "completions": ["a", "b"]}',
        "a byte order mark": b'\xef\xbb\xbf{"prompt": "x"}',
        "a role": group(RIGHT, WRONG[0], prompt=[{"role": "hacker", "content": "x"}]),
        "an image": group(
            RIGHT, prompt=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]
        ),
        "a blank prompt": group(RIGHT, WRONG[0], prompt=" "),
        "deep lists": '{"prompt": ' + "[" * 300 + "]" * 300 + "}",
    }
    for name, body in bad.items():
        post("rule", f"native, refused: {name}", "/v1/score_group", body)
    huge = {"content-type": "application/json", "content-length": str(65 << 20)}
    post("rule", "native, refused: a body that is too large", "/v1/score_group", None, huge)
    post(
        "rule",
        "native: another content type",
        "/v1/score_group",
        json.dumps(group(RIGHT, WRONG[0])),
        {"content-type": "text/plain"},
    )


def system():
    for path in [
        "/health",
        "/ready",
        "/info",
        "/v1/models",
        "/metrics",
        "/docs/",
        "/nowhere",
        "/v1",
        "/v1/score_group/",
        "/health?verbose=1",
        "//health",
    ]:
        get("rule", path)
    for method, path in [
        ("GET", "/v1/score_group"),
        ("PUT", "/v1/score_group"),
        ("GET", "/v1/score_groups"),
        ("POST", "/health"),
        ("DELETE", "/v1/jobs"),
        ("PATCH", "/v1/jobs/x"),
        ("GET", "/get_reward"),
        ("GET", "/remote_rm"),
        ("GET", "/verify"),
        ("GET", "/compare"),
        ("GET", "/rerank"),
        ("DELETE", "/v1/rerank"),
        ("GET", "/score"),
        ("GET", "/classify"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/models"),
        ("POST", "/metrics"),
        ("POST", "/pooling"),
        ("POST", "/v1/scores"),
        ("OPTIONS", "/score"),
    ]:
        step("rule", f"another method: {method} {path}", request(method, path))


def streams():
    path = "/v1/score_groups"
    one, two = json.dumps(group(RIGHT, WRONG[0])), json.dumps(group("5", "4", "6", traces=True))
    bodies = {
        "two groups": f"{one}\n{two}\n",
        "no line end": one,
        "empty lines": f"\n\n{one}\r\n\n{two}",
        "nothing": "",
        "bad lines between": f"{one}\n{{\n[1]\n{{}}\nnull\n{two}\n",
        "a refused group": json.dumps({"prompt": "x", "completions": ["a", "b"]}),
        "a name": json.dumps(group("4", "5", group_id="named")),
        "unicode": json.dumps(group("4 🙂", "日本語", prompt=UNICODE), ensure_ascii=False),
        "one completion": json.dumps(group(RIGHT)),
    }
    for name, body in bodies.items():
        post("rule", f"lines: {name}", path, body, LINES)
    for kind in ["application/jsonl", "application/json-lines", "Application/JSONL; charset=utf-8"]:
        post("rule", f"lines as {kind}", path, one, {"content-type": kind})
    for kind in ["application/json", "text/plain", ""]:
        post("rule", f"groups as {kind!r}", path, one, {"content-type": kind})
    step("rule", "groups without a content type", request("POST", path, one))
    tables = json.loads((HERE / "tables.json").read_text())
    for name, table in tables.items():
        post("rule", f"Arrow: {name}", path, bytes.fromhex(table), ARROW)
    whole = bytes.fromhex(tables["one group"])
    for name, body in {
        "nothing": b"",
        "no table": b"{}",
        "half a table": whole[: len(whole) // 2],
        "no end": whole[:-8],
    }.items():
        post("rule", f"Arrow: {name}", path, body, ARROW)


def jobs():
    body = group(RIGHT, *WRONG[:2], seed=11)
    post("rule", "jobs: accepted", "/v1/jobs", body, save={"job": "/job_id"})
    over = {"path": "/v1/jobs/{job}", "pointer": "/status", "value": "done"}
    step("rule", "jobs: done", request("GET", "/v1/jobs/{job}", after=over))
    get("rule", "/v1/jobs/{job}?traces=true", "jobs: with traces")
    get("rule", "/v1/jobs/{job}?traces=maybe", "jobs: traces that are no truth value")
    get("rule", "/v1/jobs/{job}?traces=", "jobs: empty traces")
    get("rule", "/v1/jobs/{job}/events", "jobs: events of a job that is over")
    get("rule", "/v1/jobs/{job}/events?traces=true", "jobs: events with traces")
    post("rule", "jobs: the same once more", "/v1/jobs", body)
    post("rule", "jobs: one completion", "/v1/jobs", group("4"), save={"single": "/job_id"})
    step("rule", "jobs: a job that is over is not cancelled", request("DELETE", "/v1/jobs/{job}"))
    for name, wrong in {
        "an empty object": {},
        "no JSON": "{",
        "a list": [],
    }.items():
        post("rule", f"jobs, refused: {name}", "/v1/jobs", wrong)
    for path in [
        "/v1/jobs/x",
        "/v1/jobs/" + "0" * 64,
        "/v1/jobs/%ff",
        "/v1/jobs/%20/events",
        "/v1/jobs/" + "0" * 64 + "/events",
        "/v1/jobs/",
    ]:
        get("rule", path)
    step("rule", "jobs: an unknown job is not cancelled", request("DELETE", "/v1/jobs/x"))
    held = {"prompt": "[[hold]] which?", "completions": ["a", "b"]}
    post(
        "one_group",
        "jobs: a job whose judge does not answer",
        "/v1/jobs",
        held,
        save={"held": "/job_id"},
    )
    running = {"path": "/v1/jobs/{held}", "pointer": "/progress/matches_begun", "value": 1}
    step("one_group", "jobs: running", request("GET", "/v1/jobs/{held}", after=running))
    other = {"prompt": "which?", "completions": ["a", "aa"]}
    post("one_group", "native, refused: the queue is full", "/v1/score_group", other)
    post("one_group", "jobs, refused: the queue is full", "/v1/jobs", other)
    post(
        "one_group",
        "rerank, refused: the queue is full",
        "/rerank",
        {"query": "q", "documents": ["a", "aa"]},
    )
    post(
        "one_group",
        "chat, refused: the queue is full",
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "hello"}]},
    )
    get("one_group", "/ready", "not ready: the queue is full")
    others = {"x-joust-client": "another"}
    post("one_group", "jobs: the same of another client", "/v1/jobs", held, others)
    step(
        "one_group",
        "jobs, refused: another client wants the job that is to be cancelled",
        request("DELETE", "/v1/jobs/{held}"),
    )
    get("one_group", "/v1/jobs/{held}", "jobs: still running", after=running)
    step(
        "one_group",
        "jobs: cancelled",
        request("DELETE", "/v1/jobs/{held}", headers=others),
    )
    get("one_group", "/v1/jobs/{held}/events", "jobs: events of a cancelled job")
    post("one_group", "native: room after a cancelled job", "/v1/score_group", other)


def rlhf(completion, prompt=QUESTION, label="4"):
    return {"query": [prompt + completion], "prompts": [prompt], "labels": [label]}


def openrlhf():
    path = "/get_reward"
    for name, headers in {
        "by content": [{}] * 3,
        "by header": [{"x-joust-group": "g"}] * 3,
        "by place": [
            {"x-joust-group": "p", "x-joust-attempt": "1", "x-joust-member": str(at)}
            for at in (2, 0, 1)
        ],
        "by request id": [{"x-joust-group": "r", "x-request-id": f"id {at}"} for at in range(3)],
    }.items():
        prompt = f"{name}: 2 + 2? "
        members = [RIGHT, WRONG[0], "4"]
        step(
            "rule",
            f"openrlhf: a group {name}",
            *[
                request("POST", path, rlhf(said, prompt), headers[at], after=waiting(at))
                for at, said in enumerate(members)
            ],
        )
    many = {
        "query": ["x? 4</s>", "x? 5<|im_end|>\n<|endoftext|>", "x? 4 it is"],
        "prompts": ["x?"] * 3,
        "labels": [4] * 3,
    }
    post("rule", "openrlhf: a group in one request", path, many)
    named = {"x-joust-group": "again", "x-request-id": "one"}
    other = many | {"query": ["x? 4", "x? 5", "x? 6"]}
    post("rule", "openrlhf: a named group in one request", path, other, named)
    post("rule", "openrlhf: the same request once more", path, other, named)
    post(
        "rule",
        "openrlhf: a member with another completion",
        path,
        other | {"query": ["x? 4", "x? 5", "x? 7"]},
        named,
    )
    post("rule", "openrlhf: the group has another prompt", path, rlhf("4", "another? "), named)
    step(
        "rule",
        "openrlhf: a refused group",
        *[
            request("POST", path, rlhf(said, "no answer? ", None), after=waiting(at))
            for at, said in enumerate(["a", "b", "c"])
        ],
    )
    zero, one, two = ({"x-joust-group": "d", "x-joust-member": str(at)} for at in range(3))
    step(
        "rule",
        "openrlhf: a member comes with two completions",
        request("POST", path, rlhf("4"), zero),
        request("POST", path, rlhf("5"), zero, after=waiting(1), in_turn=True),
        request("POST", path, rlhf("5"), one, after=waiting(1)),
        request("POST", path, rlhf("6"), two, after=waiting(2)),
    )
    bad = {
        "an empty object": {},
        "empty lists": {"query": [], "prompts": [], "labels": []},
        "lists of two lengths": {"query": ["a 4", "a 5"], "prompts": ["a"], "labels": []},
        "labels of another length": {"query": ["a 4"], "prompts": ["a"], "labels": [1, 2]},
        "a query without its prompt": {"query": ["4"], "prompts": ["2+2?"], "labels": [4]},
        "a label that is a list of lists": {"query": ["a 4"], "prompts": ["a"], "labels": [[[4]]]},
        "an empty prompt": {"query": ["4"], "prompts": [""], "labels": [4]},
        "a text": {"query": "a 4", "prompts": "a"},
        "a list": [["a 4"], ["a"]],
        "no JSON": "query=a",
    }
    for name, body in bad.items():
        post("rule", f"openrlhf, refused: {name}", path, body)
    for name, headers in {
        "an attempt without a group": {"x-joust-attempt": "1"},
        "an attempt that is no number": {"x-joust-group": "g", "x-joust-attempt": "one"},
        "a member that is negative": {"x-joust-group": "g", "x-joust-member": "-1"},
    }.items():
        post("rule", f"openrlhf, refused: {name}", path, rlhf(RIGHT), headers)
    for server in ["fail", "mask", "partial"]:
        post(server, f"openrlhf: an incomplete group, {server}", path, rlhf(RIGHT))
        two = {"query": ["x? 4", "x? 5"], "prompts": ["x?"] * 2, "labels": [4] * 2}
        post(server, f"openrlhf: two of three, {server}", path, two, {"x-joust-group": "two"})
    get("fail", "/health")
    step(
        "one_cohort",
        "openrlhf: as many groups are open as may be",
        request("POST", path, rlhf("4", "one? ")),
        request("POST", path, rlhf("4", "other? "), after=waiting(1), in_turn=True),
        request("POST", path, rlhf("5", "one? ")),
    )


def slime():
    path = "/remote_rm"
    body = {"prompt": "s: 2 + 2?", "response": RIGHT, "label": "4"}
    for key in ["", "?key=score", "?key=win_rate"]:
        members = [RIGHT, WRONG[0], "4"]
        step(
            "rule",
            f"slime: a group {key}",
            *[
                request(
                    "POST",
                    path + key,
                    body | {"prompt": f"s{key}", "response": said},
                    after=waiting(at),
                )
                for at, said in enumerate(members)
            ],
        )
    turns = [{"role": "user", "content": "turns: 2 + 2?"}]
    step(
        "rule",
        "slime: a prompt of messages",
        *[
            request(
                "POST", path, {"prompt": turns, "response": said, "label": 4}, after=waiting(at)
            )
            for at, said in enumerate(["4", "5", "6"])
        ],
    )
    for name, wrong in {
        "an empty object": {},
        "no response": {"prompt": "x", "label": 4},
        "an empty prompt": body | {"prompt": ""},
        "a response that is null": body | {"response": None},
        "a label that is an object": body | {"label": {}},
        "a list": ["x", "4"],
        "no JSON": "prompt",
    }.items():
        post("rule", f"slime, refused: {name}", path, wrong)
    for server in ["fail", "mask", "partial"]:
        post(server, f"slime: an incomplete group, {server}", path, body)


def rollout(said, group_id="n", at=0, **more):
    return {
        "responses_create_params": {"input": [{"role": "user", "content": QUESTION}]},
        "response": {"output": [{"type": "message", "role": "assistant", "content": said}]},
        "_ng_group_id": group_id,
        "_ng_rollout_index": at,
        "kept": {"x": [1, None]},
    } | more


def nemo_gym():
    path = "/verify"
    # its protocol has no known answer: a rule refuses to judge it
    step(
        "rule",
        "nemo-gym: a refused group",
        *[
            request("POST", path, rollout(said, at=at), after=waiting(at))
            for at, said in enumerate([RIGHT, "5", "6"])
        ],
    )
    parts = [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "aa"}]
    step(
        "stub",
        "nemo-gym: a group",
        request("POST", path, rollout("a", "ok")),
        request("POST", path, rollout(parts, "ok", 1), after=waiting(1)),
    )
    step(
        "stub",
        "nemo-gym: a group by content",
        request("POST", path, rollout("a", None, None)),
        request("POST", path, rollout("aaa", None, None), after=waiting(1)),
    )
    step(
        "stub",
        "nemo-gym: a group with a numeric name and a second attempt",
        request("POST", path, rollout("a", 7, 0, _ng_group_attempt=1)),
        request("POST", path, rollout("aaaa", 7, 1, _ng_group_attempt=1), after=waiting(1)),
    )
    step(
        "stub",
        "nemo-gym: the judge has no verdict",
        request("POST", path, rollout("[[mute]] a", "mute", instance_config={"y": 1})),
        request("POST", path, rollout("[[mute]] b", "mute", 1), after=waiting(1)),
    )
    for name, body in {
        "an empty object": {},
        "no response": {"responses_create_params": {"input": "x"}},
        "an empty input": rollout("a", "empty") | {"responses_create_params": {"input": []}},
        "an input that is a number": rollout("a") | {"responses_create_params": {"input": 1}},
        "an output that is a text": rollout("a") | {"response": {"output": "x"}},
        "a list": [],
        "a text": '"x"',
        "no JSON": "{]",
    }.items():
        post("rule", f"nemo-gym, refused: {name}", path, body)
    for server in ["fail", "mask", "partial"]:
        post(server, f"nemo-gym: an incomplete group, {server}", path, rollout(RIGHT))
    outputs = [rollout(said)["response"] for said in ["a", "aaa", "aa"]]
    compare = {
        "conversation_history": [{"role": "user", "content": "Which?"}],
        "response_objs": outputs,
    }
    post("stub", "compare: a group", "/compare", compare)
    post(
        "stub",
        "compare: a text as history",
        "/compare",
        compare | {"conversation_history": "Which?"},
    )
    post("stub", "compare: a principle", "/compare", compare | {"principle": "Be brief."})
    post("stub", "compare: duplicates", "/compare", compare | {"response_objs": outputs[:1] * 3})
    post("rule", "compare: a refused group", "/compare", compare)
    for name, body in {
        "an empty object": {},
        "no responses": compare | {"response_objs": []},
        "one response": compare | {"response_objs": outputs[:1]},
        "responses of texts": compare | {"response_objs": ["a"]},
        "no JSON": "",
    }.items():
        post("stub", f"compare, refused: {name}", "/compare", body)


def scores():
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"]:
        body = {"query": "q", "documents": ["a", "aaa", "aa", ""]}
        post("stub", f"{path}: documents", path, body)
        post("stub", f"{path}: the two best", path, body | {"top_n": 2, "model": "mine"})
        post("stub", f"{path}: top_n 0", path, body | {"top_n": 0})
        post("stub", f"{path}: no documents", path, body | {"return_documents": False})
        post(
            "stub",
            f"{path}: objects",
            path,
            {"query": UNICODE, "documents": [{"text": "ä a"}, "🙂", {"text": "aa"}]},
        )
        for name, wrong in {
            "an empty object": {},
            "no documents": {"query": "q", "documents": []},
            "one document": {"query": "q", "documents": ["a"]},
            "an empty query": {"query": "", "documents": ["a", "aa"]},
            "documents of numbers": {"query": "q", "documents": [1, 2]},
            "top_n that is negative": {"query": "q", "documents": ["a", "b"], "top_n": -1},
            "no JSON": "[",
        }.items():
            post("stub", f"{path}, refused: {name}", path, wrong)
    post("rule", "rerank: a refused group", "/rerank", {"query": "q", "documents": ["a", "aa"]})
    post(
        "stub",
        "rerank: the judge has no verdict",
        "/rerank",
        {"query": "[[mute]]", "documents": ["a", "aa"]},
    )
    post("stub", "rerank: duplicates", "/rerank", {"query": "q", "documents": ["a", "a", "aa"]})

    names = [
        ("queries", "documents"),
        ("text_1", "text_2"),
        ("data_1", "data_2"),
        ("queries", "items"),
    ]
    for one, other in names:
        for path in ["/score", "/v1/score"]:
            post(
                "stub",
                f"{path}: {one} and {other}",
                path,
                {one: "q", other: ["a", "aaa", "aa"], "model": "mine"},
            )
    post(
        "stub", "score: a list of one query", "/score", {"queries": ["q"], "documents": ["aa", "a"]}
    )
    post("stub", "score: pairs", "/score", {"queries": ["same", "same"], "documents": ["a", "aa"]})
    step(
        "stub",
        "score: one by one",
        request("POST", "/score", {"queries": "alone", "documents": "a"}),
        request("POST", "/score", {"queries": "alone", "documents": "aa"}, after=waiting(1)),
    )
    post(
        "stub",
        "score: the judge has no verdict",
        "/score",
        {"queries": "[[mute]]", "documents": ["a", "aa"]},
    )
    for name, wrong in {
        "an empty object": {},
        "no documents": {"queries": "q", "documents": []},
        "no queries": {"queries": [], "documents": ["a"]},
        "lists of two lengths": {"queries": ["q", "r"], "documents": ["a", "b", "c"]},
        "both names of documents": {"queries": "q", "documents": ["a"], "items": ["b"]},
        "numbers": {"queries": 1, "documents": 2},
        "a list": ["q", ["a"]],
        "no JSON": "q",
        "an empty query": {"queries": "", "documents": ["a", "aa"]},
    }.items():
        post("stub", f"score, refused: {name}", "/score", wrong)

    qwen = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n"
    llama = (
        "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{}<|eot_id|>"
    )
    for key in ["input", "text"]:
        for name, template in {"qwen": qwen, "llama": llama}.items():
            question = f"{key} {name}?"
            texts = [template.format(question, said) for said in ["a", "aa"]]
            post("stub", f"classify: {key} as {name}", "/classify", {key: texts})
    texts = [qwen.format("alone?", said) for said in ["a", "aa"]]
    step(
        "stub",
        "classify: one by one",
        request("POST", "/classify", {"model": "mine", "input": texts[0]}),
        request("POST", "/classify", {"input": texts[1]}, after=waiting(1)),
    )
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "turns?"}]
    step(
        "stub",
        "classify: messages",
        *[
            request(
                "POST",
                "/classify",
                {"messages": [*turns, {"role": "assistant", "content": said}]},
                after=waiting(at),
            )
            for at, said in enumerate(["a", "aa"])
        ],
    )
    for name, wrong in {
        "messages without an answer": {"messages": turns},
        "an empty object": {},
        "input and text": {"input": texts, "text": texts},
        "no assistant": {"input": ["2+2? 4"]},
        "no texts": {"input": []},
        "tokens": {"input": [[1, 2]]},
        "no prompt": {"text": "<|im_start|>assistant\n4"},
        "no JSON": "}",
    }.items():
        post("stub", f"classify, refused: {name}", "/classify", wrong)


def native_of_a_model():
    body = {"prompt": "q", "completions": ["a", "aaa", "aa", ""]}
    for name, more in {
        "": {},
        ", traces": {"traces": True, "votes": 3, "seed": 5},
        ", ties": {"completions": ["a", "ab", "ac"], "seed": 9, "votes": 5},
        ", knockout": {"tournament": "knockout"},
        ", round robin": {"tournament": "round_robin"},
        ", without verdict": {"prompt": "[[mute]]", "traces": True},
        ", one without verdict": {
            "completions": ["a", "[[mute]]", "aa"],
            "tournament": "round_robin",
        },
        ", refused": {"prompt": "[[400]]", "completions": ["a", "b"], "traces": True},
        ", broken": {"prompt": "[[500]]", "completions": ["a", "b"]},
        ", control tokens": {
            "prompt": "x<|im_end|>",
            "completions": ["a", "</think>aa"],
            "traces": True,
        },
    }.items():
        post("stub", f"native, a model as judge{name}", "/v1/score_group", body | more)
    post(
        "stub",
        "jobs, failed",
        "/v1/jobs",
        {"prompt": "[[500]] job", "completions": ["a", "b"]},
        save={"failed": "/job_id"},
    )
    over = {"path": "/v1/jobs/{failed}", "pointer": "/status", "value": "failed"}
    step("stub", "jobs: a failed job", request("GET", "/v1/jobs/{failed}", after=over))
    lines = "\n".join(
        json.dumps(line)
        for line in [
            body | {"completions": ["a", "aa"]},
            {"prompt": "[[mute]] x", "completions": ["a", "b"]},
        ]
    )
    post("stub", "lines: a model as judge", "/v1/score_groups", lines, LINES)


def chat():
    path = "/v1/chat/completions"
    user = [{"role": "user", "content": "hello ∑"}]
    parts = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "one"},
                {"type": "text", "text": " two"},
            ],
        }
    ]
    for name, more in {
        "a message": {},
        "a seed": {"seed": 7},
        "a negative seed": {"seed": -7},
        "three answers": {"n": 3, "seed": 1},
        "all settings": {
            "temperature": 0,
            "top_p": 0.5,
            "max_tokens": 9,
            "stop": ["x", "y"],
            "model": "stub",
        },
        "one stop text": {"stop": "x"},
        "max_completion_tokens": {"max_completion_tokens": 5},
        "stream false": {
            "stream": False,
            "logprobs": False,
            "tools": [],
            "response_format": {"type": "text"},
            "presence_penalty": 0,
            "user": "someone",
        },
        "both limits": {"max_tokens": 9, "max_completion_tokens": 5},
        "a developer": {"messages": [{"role": "developer", "content": "s"}, *user]},
        "a stream": {"stream": True, "seed": 3},
        "a stream with usage": {
            "stream": True,
            "stream_options": {"include_usage": True},
            "seed": 3,
        },
        "parts": {"messages": parts},
        "a longer conversation": {
            "messages": [
                {"role": "system", "content": "s"},
                *user,
                {"role": "assistant", "content": "a"},
                *user,
            ]
        },
        "an answer that is cut": {"messages": [{"role": "user", "content": "[[long]]"}]},
    }.items():
        post("stub", f"chat: {name}", path, {"messages": user} | more)
    for name, more in {
        "no messages": {"messages": []},
        "a role": {"messages": [{"role": "x", "content": "y"}]},
        "n 0": {"n": 0},
        "n 129": {"n": 129},
        "max_tokens 0": {"max_tokens": 0},
        "temperature 3": {"temperature": 3},
        "top_p 0": {"top_p": 0},
        "an image": {
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]
        },
        "a blank message": {"messages": [{"role": "user", "content": " "}]},
        "another model": {"model": "mine"},
        "an unknown setting": {"unknown": 1},
        "logit_bias": {"logit_bias": {"5": -100}},
        "top_k": {"top_k": 5},
        "stream_options without a stream": {"stream_options": {"include_usage": True}},
        "a stream that the server refuses": {
            "stream": True,
            "messages": [{"role": "user", "content": "[[400]]"}],
        },
        "tools": {"tools": [{"type": "function"}]},
        "logprobs": {"logprobs": True},
        "response_format": {"response_format": {"type": "json_object"}},
        "five stops": {"stop": list("abcde")},
        "an empty stop": {"stop": ""},
        "content of a number": {"messages": [{"role": "user", "content": 1}]},
        "the server refuses": {"messages": [{"role": "user", "content": "[[400]]"}]},
        "the server breaks": {"messages": [{"role": "user", "content": "[[500]]"}]},
    }.items():
        post("stub", f"chat, refused: {name}", path, {"messages": user} | more)
    for name, body in {"an empty object": {}, "a list": [], "no JSON": "hello"}.items():
        post("stub", f"chat, refused: {name}", path, body)
    post("rule", "chat: a rule does not talk", path, {"messages": user})
    for where in ["/health", "/ready", "/v1/models", "/info"]:
        get("stub", where)


def tokens():
    body = json.dumps(group(RIGHT, WRONG[0]))
    for name, headers in {
        "none": {},
        "the first": {"authorization": "Bearer first-token"},
        "the second": {"authorization": "bearer  second-token"},
        "another": {"authorization": "Bearer third-token"},
        "a part": {"authorization": "Bearer first"},
        "no scheme": {"authorization": "first-token"},
        "another scheme": {"authorization": "Basic first-token"},
        "an empty one": {"authorization": "Bearer "},
    }.items():
        post(
            "tokens",
            f"tokens: {name}",
            "/v1/score_group",
            body,
            {"content-type": "application/json"} | headers,
        )
    for path in [
        "/health",
        "/ready",
        "/docs/",
        "/info",
        "/metrics",
        "/v1/models",
        "/nowhere",
        "/v1/jobs/x",
    ]:
        get("tokens", path, f"tokens: none for {path}")


def all_steps():
    for add in [
        native,
        system,
        streams,
        jobs,
        openrlhf,
        slime,
        nemo_gym,
        scores,
        native_of_a_model,
        chat,
        tokens,
    ]:
        add()
    # once at the end, when every figure has been counted
    get("rule", "/metrics", "metrics after all requests")
    # one server at a time, in the order in which it was first asked
    return sorted(steps, key=lambda step: list(SERVERS).index(step["server"]))
