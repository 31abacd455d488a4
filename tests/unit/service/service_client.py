"""Speaks ASGI to a service, without a socket: what tests, fuzzers and soak runs share."""

import asyncio
import json
import time
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ossia.adaptation import Adaptation, Base, costs, encode_profile, make_profile
from ossia.adaptation.request import Ask, encode_ask
from ossia.service.app import Service
from ossia.service.tokens import enrolment_message
from ossia.types import Budget, Profile


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)


@dataclass(frozen=True, eq=False)
class Client:
    """Speaks ASGI to a service; a request may bring its body in parts, or never end."""

    service: Service
    token: str = ""

    async def send(self, method: str, path: str, *parts: bytes, hang: bool = False, **headers: str) -> Response:
        sent: list[dict] = []
        waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        waiting.append({"type": "http.request", "body": b"", "more_body": hang})

        async def receive() -> dict:
            if waiting:
                return waiting.pop(0)
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message: dict) -> None:
            sent.append(message)

        told = {"authorization": f"Bearer {self.token}"} | headers if self.token else headers
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in told.items()]
        path, _, query = path.partition("?")
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": raw,
                 "http_version": "1.1", "scheme": "http", "server": ("x", 80), "client": ("y", 1), "root_path": "",
                 "asgi": {"version": "3.0"}}  # fmt: skip
        await self.service(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return Response(sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, body)

    def ask(self, method: str, path: str, *parts: bytes, **headers: str) -> Response:
        return asyncio.run(self.send(method, path, *parts, **headers))

    def post(self, path: str, document: object) -> Response:
        return self.ask("POST", path, json.dumps(document).encode())


def enroll(service: Service, key: Ed25519PrivateKey | None = None, at: int | None = None) -> tuple[Client, bytes]:
    key, at = key or Ed25519PrivateKey.generate(), int(time.time()) if at is None else at
    public = key.public_key().public_bytes_raw()
    signature = key.sign(enrolment_message(public, at)).hex()
    told = Client(service).post("/v1/devices", {"public": public.hex(), "at": at, "signature": signature})
    assert told.status == 200, told.body
    return Client(service, told.json["token"]), bytes.fromhex(told.json["device"])


def profile(base: Base, seed: int = 0):
    state = np.random.default_rng(seed).standard_normal(base.manifest.shape["dim"]).astype(np.float32)
    return make_profile(state, base.manifest.profile_clip)


def beyond(base: Base) -> Profile:
    """A profile that no device makes: what it says is larger than the base's clip."""
    return Profile(profile(base).values, np.float32(1.01 * base.manifest.profile_clip / 127))


def budget(base: Base) -> Budget:
    whole = costs(base, Adaptation(), signed=True)
    return Budget(weight_bytes=int(0.8 * whole.weight_bytes), table_bytes=int(0.7 * whole.table_bytes))


def binary(base: Base, seed: int = 0, **changes: object) -> bytes:
    fields = {"base_id": base.id[:16], "table_id": base.table.id[:16], "budget": budget(base), "profile": profile(base, seed)}
    return encode_ask(Ask(**fields | changes))  # type: ignore[arg-type]


def session_request(base: Base, **more: object) -> dict:
    limits = budget(base)
    limited = {"weight_bytes": limits.weight_bytes, "table_bytes": limits.table_bytes}
    return {"profile": encode_profile(profile(base)).hex(), "budget": limited} | more
