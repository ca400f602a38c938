"""Resources server for NeMo-Gym that verifies by tournaments on a joust server.

NeMo-Gym starts it from joust.yaml. It passes the body of each /verify on and returns the answer:
the body with a `reward`, or with a `_ng_failure_class` if there is no reward.
"""

import asyncio
import pathlib
import sys

from nemo_gym.base_resources_server import (
    BaseResourcesServerConfig,
    BaseVerifyRequest,
    BaseVerifyResponse,
    SimpleResourcesServer,
)
from nemo_gym.judge import JudgeError
from nemo_gym.server_utils import get_response_json, request
from pydantic import ConfigDict

# joust_client.py is in this folder or in the folder above
sys.path += [str(folder) for folder in pathlib.Path(__file__).resolve().parents[:2]]
from joust_client import BUSY, pause_s  # noqa: E402


class JoustConfig(BaseResourcesServerConfig):
    # address of the joust server
    joust_url: str
    # one of its tokens, if it requires tokens
    joust_token: str = ""
    # number of tries of a request; the pauses between eight tries add up to two minutes
    tries: int = 8


class JoustVerifyRequest(BaseVerifyRequest):
    # keeps the ids of task and rollout, by which the server recognizes a retry
    model_config = ConfigDict(extra="allow")


class JoustVerifyResponse(BaseVerifyResponse):
    model_config = ConfigDict(extra="allow")


class JoustResourcesServer(SimpleResourcesServer):
    config: JoustConfig

    async def verify(self, body: JoustVerifyRequest) -> JoustVerifyResponse:
        """Waits until the group of the rollout's task is complete and judged."""
        token = self.config.joust_token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = self.config.joust_url.rstrip("/") + "/verify"
        for attempt in range(self.config.tries):
            # NeMo-Gym's own client, whose connection limit lets a thousand rollouts wait
            sent = body.model_dump(mode="json")
            response = await request("POST", url, json=sent, headers=dict(headers))
            if response.status == 200:
                return JoustVerifyResponse.model_validate(await get_response_json(response))
            problem = f"{response.status} {(await response.read()).decode()}"
            if response.status not in BUSY:
                break
            retry_after_s = float(response.headers.get("Retry-After", 0))
            await asyncio.sleep(pause_s(attempt, retry_after_s))
        # NeMo-Gym writes a row without a reward to the file of failures
        raise JudgeError(f"{url}: {problem}")


if __name__ == "__main__":
    JoustResourcesServer.run_webserver()
