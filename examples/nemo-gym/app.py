"""A resources server for NeMo-Gym whose verifier is a joust server: the rollouts of a task play a tournament.

NeMo-Gym starts it from joust.yaml. It hands each /verify on, with the body that it got, and answers with what comes back:
the body and a `reward`, or a `_ng_failure_class` where there is none.
"""

import asyncio

from nemo_gym.base_resources_server import (
    BaseResourcesServerConfig,
    BaseVerifyRequest,
    BaseVerifyResponse,
    SimpleResourcesServer,
)
from nemo_gym.judge import JudgeError
from nemo_gym.server_utils import get_response_json, request
from pydantic import ConfigDict

# what may go better later: as many groups are open as may be, the server starts again
AGAIN = (429, 502, 503)


class JoustConfig(BaseResourcesServerConfig):
    # the server
    joust_url: str
    # one of its tokens, where it asks for one
    joust_token: str = ""
    # with two minutes of pauses between them
    tries: int = 8


class JoustVerifyRequest(BaseVerifyRequest):
    # the names of task and rollout, by which the server knows a member that comes again
    model_config = ConfigDict(extra="allow")


class JoustVerifyResponse(BaseVerifyResponse):
    model_config = ConfigDict(extra="allow")


class JoustResourcesServer(SimpleResourcesServer):
    config: JoustConfig

    async def verify(self, body: JoustVerifyRequest) -> JoustVerifyResponse:
        """Waits until the group of the rollout's task is complete and judged."""
        headers = {"Authorization": f"Bearer {self.config.joust_token}"} if self.config.joust_token else {}
        url = self.config.joust_url.rstrip("/") + "/verify"
        for attempt in range(self.config.tries):
            # the client's own limits on connections let a thousand rollouts wait
            response = await request("POST", url, json=body.model_dump(mode="json"), headers=dict(headers))
            if response.status == 200:
                return JoustVerifyResponse.model_validate(await get_response_json(response))
            problem = f"{response.status} {(await response.read()).decode()}"
            if response.status not in AGAIN:
                break
            await asyncio.sleep(max(2.0**attempt, float(response.headers.get("Retry-After", 0))))
        # NeMo-Gym makes a row for the failures' file of it, without a reward
        raise JudgeError(f"{url}: {problem}")


if __name__ == "__main__":
    JoustResourcesServer.run_webserver()
