"""NeMo-Gym's resources server and HTTP client with examples/nemo-gym.

    python client_nemo_gym.py http://ADDRESS
"""

import asyncio
import sys

from checks import ROOT, check, doing, right_ones_win, sums

doing("imports NeMo-Gym")
from nemo_gym import server_utils  # noqa: E402
from nemo_gym.server_utils import (  # noqa: E402
    GlobalAIOHTTPAsyncClientConfig,
    set_global_aiohttp_client,
)

sys.path.insert(0, str(ROOT / "examples/nemo-gym"))
import app  # noqa: E402

URL = sys.argv[1]
# settings of NeMo-Gym's head server, which is not running here
server_utils.get_global_config_dict = lambda *args, **kwargs: {}


def response(text):
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed"}
    return {
        "id": "r",
        "object": "response",
        "created_at": 0.0,
        "model": "policy",
        "output": [message | {"content": [part]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def body(question, text, group, member, **more):
    params = {"input": [{"role": "user", "content": question}]} | more
    known = {"_ng_group_id": group, "_ng_rollout_index": member}
    return app.JoustVerifyRequest.model_validate(
        {"responses_create_params": params, "response": response(text)} | known
    )


def resources_server():
    """The example's server, without the web server around it."""
    config = app.JoustConfig.model_construct(joust_url=URL, joust_token="", tries=8)
    return app.JoustResourcesServer.model_construct(config=config)


async def verified(seed, prefix, **more):
    server = resources_server()
    calls = [
        server.verify(body(question, text, f"{prefix}{group}", member, **more))
        for group, (question, _, texts) in enumerate(sums(3, seed))
        for member, text in enumerate(texts)
    ]
    rewards = [answer.reward for answer in await asyncio.gather(*calls)]
    return [right_ones_win(rewards[start : start + 4]) for start in range(0, len(rewards), 4)][0]


async def start_client():
    set_global_aiohttp_client(GlobalAIOHTTPAsyncClientConfig())


# one event loop: NeMo-Gym has one HTTP client, which belongs to it
with asyncio.Runner() as runner:
    runner.run(start_client())
    check("verify", lambda: runner.run(verified(1, "a")))
    check(
        "verify, instructions", lambda: runner.run(verified(2, "b", instructions="Be brief."))
    )
