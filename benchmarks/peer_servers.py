"""The same work behind other serving libraries: an ask in; network, allocation and signature; a payload out.

    python benchmarks/peer_servers.py litserve|ray BASE PORT     `service_peers.py` starts it, in an environment of its own

They are given every advantage: no store (so nothing is durable, and no sequence counts), no tokens, no metrics, and the batches
that suit ossia. LitServe reads JSON, so that its asks and payloads travel as hexadecimal digits; Ray Serve reads bytes.
"""

import sys
import time
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ossia.adaptation import Base, encode_payload
from ossia.adaptation.request import Reply, decode_ask, encode_reply
from ossia.service.personalizer import Personalizer

try:
    from litserve import LitAPI, LitServer
except ImportError:
    LitAPI = object

BATCH, WAIT_S, NOTHING = 32, 0.002, np.zeros(0, np.int32)


class Work:
    """What every server does for a batch."""

    def __init__(self, base: str) -> None:
        self.personalizer = Personalizer.load(Base.load(Path(base)), "chord")
        self.sign = Ed25519PrivateKey.generate().sign

    def answer(self, bodies: list[bytes]) -> list[bytes]:
        """Answer asks."""
        base, now = self.personalizer.base, int(time.time())
        asks = [decode_ask(body, base.manifest.shape["dim"]) for body in bodies]
        found = self.personalizer.personalize_many([ask.profile for ask in asks], [ask.budget for ask in asks], signed=True)
        payloads = (encode_payload(base, each, issued=now, expiry=now + 1, key_id=1, sign=self.sign) for each in found)
        return [encode_reply(Reply(payload, NOTHING)) for payload in payloads]


class LitApi(LitAPI):
    """LitServe's form of it; its worker is a process of its own, which finds this class by name."""

    def setup(self, device):  # noqa: ARG002 - LitServe's name
        """Load, in the worker."""
        self.work = Work(sys.argv[2])

    def decode_request(self, request):
        """Read an ask."""
        return bytes.fromhex(request["ask"])

    def batch(self, inputs):
        """Leave a batch a list."""
        return inputs

    def predict(self, batch):
        """Answer a batch."""
        return self.work.answer(batch)

    def unbatch(self, output):
        """Leave the answers a list."""
        return output

    def encode_response(self, output):
        """Write a payload."""
        return {"payload": output.hex()}


def litserve(port: int) -> None:
    server = LitServer(LitApi(max_batch_size=BATCH, batch_timeout=WAIT_S), accelerator="cpu")
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="warning")


def ray(port: int) -> None:
    import ray
    from ray import serve
    from starlette.requests import Request
    from starlette.responses import Response

    base = sys.argv[2]

    @serve.deployment(max_ongoing_requests=1000)
    class Api:
        def __init__(self):
            self.work = Work(base)

        @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_S)
        async def many(self, bodies):
            return self.work.answer(bodies)

        async def __call__(self, request: Request) -> Response:
            if request.method == "GET":
                return Response("up")
            return Response(await self.many(await request.body()))

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Api.bind())
    while True:
        time.sleep(1)


if __name__ == "__main__":
    {"litserve": litserve, "ray": ray}[sys.argv[1]](int(sys.argv[3]))
