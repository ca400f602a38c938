"""NeMo-Gym as the server sees it: /verify and /compare with its bodies, and the resources server of
examples/nemo-gym called as its web server calls it.

    python nemo_gym.py ADDRESS whole|incomplete|stopped [FILE]
"""

import asyncio
import json
import pathlib
import sys
import types
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from groups import are_right_ones_better, load, problem_of, shuffled, stand_in, sums

ADDRESS, CASE, *MORE = sys.argv[1:]


class Model(types.SimpleNamespace):
    """Stands in for pydantic's models that allow further fields."""

    @classmethod
    def model_validate(cls, fields):
        return cls(**fields)

    def model_dump(self, mode="python"):
        return dict(vars(self))


class Response:
    """The part of aiohttp's response that the example reads."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    async def read(self):
        return self.body


def post(url, body, headers):
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Response(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return Response(error.code, error.headers, error.read())


async def request(method, url, json, headers):
    """Sends again where there is no server, as NeMo-Gym's own function does."""
    assert method == "POST"
    while True:
        try:
            return await asyncio.to_thread(post, url, json, headers)
        except (urllib.error.URLError, ConnectionError):
            await asyncio.sleep(0.2)


async def get_response_json(response):
    return json.loads(response.body)


class SimpleResourcesServer:
    def __init__(self, config):
        self.config = config


class JudgeError(Exception):
    """NeMo-Gym turns it into a row with a _ng_failure_class."""


def said(text):
    """A model's answer as OpenAI's Responses have it."""
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    return {
        "id": "r",
        "object": "response",
        "created_at": 0.0,
        "model": "policy",
        "output": [message],
        "tools": [],
    }


def verify_body(task, rollout, prompt, text):
    asked = [{"role": "user", "content": prompt, "type": "message"}] if prompt else []
    params = {"input": asked, "temperature": None}
    return {
        "responses_create_params": params,
        "response": said(text),
        "_ng_task_index": task,
        "_ng_rollout_index": rollout,
    }


def server(**config):
    base = {
        "BaseResourcesServerConfig": object,
        "BaseVerifyRequest": Model,
        "BaseVerifyResponse": Model,
    }
    stand_in("pydantic", ConfigDict=dict)
    stand_in("nemo_gym.base_resources_server", SimpleResourcesServer=SimpleResourcesServer, **base)
    stand_in("nemo_gym.judge", JudgeError=JudgeError)
    stand_in("nemo_gym.server_utils", request=request, get_response_json=get_response_json)
    config = types.SimpleNamespace(
        **{"joust_url": f"http://{ADDRESS}", "joust_token": "", "tries": 2, **config}
    )
    return load("nemo-gym/app.py").JoustResourcesServer(config)


async def verified(server, groups):
    async def one(task, rollout):
        prompt, completions = groups[task]
        answer = await server.verify(
            Model(**verify_body(task, rollout, prompt, completions[rollout]))
        )
        return (task, rollout), answer.model_dump()

    members = shuffled(
        (task, rollout) for task in range(len(groups)) for rollout in range(len(groups[task][1]))
    )
    return dict(await asyncio.gather(*(one(*member) for member in members)))


def compared(prompt, completions):
    body = {"conversation_history": [{"role": "user", "content": prompt}]}
    body["response_objs"] = [said(text) for text in completions]
    response = post(f"http://{ADDRESS}/compare", body, {})
    return response.status, json.loads(response.body)


async def scored_over_a_stop(server, groups):
    """The last rollout of each group comes when the server was stopped and is there again, which
    a file tells."""
    [again] = MORE

    async def one(task, rollout):
        if rollout == 3:
            while not pathlib.Path(again).exists():
                await asyncio.sleep(0.02)
        prompt, completions = groups[task]
        answer = await server.verify(
            Model(**verify_body(task, rollout, prompt, completions[rollout]))
        )
        return (task, rollout), answer.model_dump()

    members = [(task, rollout) for rollout in range(4) for task in range(len(groups))]
    return dict(await asyncio.gather(*(one(*member) for member in members)))


if CASE == "stopped":
    groups = sums(2)

    async def over_a_stop():
        # a thread for each rollout that waits
        pool = ThreadPoolExecutor(16)
        asyncio.get_running_loop().set_default_executor(pool)
        return await scored_over_a_stop(server(tries=8), groups)

    answers = asyncio.run(over_a_stop())
    rewards = [[answers[task, rollout]["reward"] for rollout in range(4)] for task in range(2)]
    whole = all("_ng_failure_class" not in answer for answer in answers.values())
    right = [are_right_ones_better(group) for group in rewards]
    print(json.dumps({"right": right, "whole": whole}))
elif CASE == "incomplete":
    answers = asyncio.run(verified(server(), [("What is 1 + 2?", ["3"])]))
    keys = ("reward", "mask_sample", "failure_kind", "_ng_failure_class", "_ng_failure_judge_error")
    failed = {key: answers[0, 0][key] for key in keys}
    refused = problem_of(lambda: asyncio.run(verified(server(), [("", ["3"])])))
    elsewhere = server(joust_url=f"http://{ADDRESS}/elsewhere")
    lost = problem_of(lambda: asyncio.run(verified(elsewhere, [("What is 1 + 2?", ["3"])])))
    print(json.dumps({"failed": failed, "refused": refused, "lost": lost}))
else:
    # one group at a time: each rollout holds one of asyncio's few threads here
    groups = sums(3)
    results = {}
    for task, group in enumerate(groups):
        results.update(
            {
                (task, rollout): answer
                for (_, rollout), answer in asyncio.run(verified(server(), [group])).items()
            }
        )
    rewards = [
        [results[task, rollout]["reward"] for rollout in range(4)] for task in range(len(groups))
    ]
    whole = all(
        isinstance(answer["reward"], float) and "_ng_failure_class" not in answer
        for answer in results.values()
    )
    kept = all(results[task, rollout]["_ng_rollout_index"] == rollout for task, rollout in results)
    status, comparison = compared(*groups[0])
    told = {
        "status": status,
        "rewards": comparison["rewards"],
        "metrics": sorted(comparison["metrics"]),
    }
    print(
        json.dumps(
            {
                "right": [are_right_ones_better(group) for group in rewards],
                "whole": whole,
                "kept": kept,
                "compare": told,
            }
        )
    )
