"""The service on the network: one ASGI app, and a shorter way for its hot path. Everything else is thin Starlette.

    POST /v1/payload              binary ask → binary reply (`ossia.adaptation.request`); a token names the device
    JSON for people               `ossia.service.surface`, described at /openapi.json
    GET  /v1/artifacts/SHA256     files of base and table, in ranges (`ossia.service.artifacts`)
    GET  /v1/keys                 the public keys that sign payloads
    GET  /health  /metrics

Asks that come in one piece are read by `ossia.service.gate`; `Service.enter` judges all of them. A full queue is told before
the body is read, with 503 and Retry-After; a body that is too long or too slow is not waited for.
No request is logged: ids of devices are in no log and in no metric.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import msgspec
from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ossia.adaptation.payload import HEADER
from ossia.adaptation.profile import decode_profile
from ossia.adaptation.request import ASK, Ask, Reply, decode_ask, encode_reply
from ossia.errors import UsageError
from ossia.service.artifacts import files_of, serve_file
from ossia.service.batching import Batcher
from ossia.service.faults import RequestError
from ossia.service.issue import Issuer, Order
from ossia.service.metrics import Metrics
from ossia.service.responses import FAULT, OK, describe, json_response, on_the_wire, refusal_response
from ossia.service.surface import (
    Enrolled,
    Enrolment,
    Erased,
    Feedback,
    Health,
    Kept,
    Release,
    SessionReply,
    SessionRequest,
    Strict,
    openapi,
)
from ossia.service.tokens import Tokens, check_enrolment
from ossia.types import Budget

JSON_BYTES = 3_000_000  # of a body: ten thousand blocked ids of 256 characters, and some
BODY_S = 5.0  # for a body to arrive
BINARY = {"content-type": "application/octet-stream", "cache-control": "no-store"}
LOGGER = logging.getLogger("uvicorn.error")

Document = TypeVar("Document", bound=Strict)


@dataclass(frozen=True, eq=False)
class Service:
    """What the handlers share.

    Attributes:
        issuer: makes payloads.
        tokens: tells devices apart.
        keys: the bytes of keys.json.
        personalizer: its name.
        batcher: the queue before the issuer.
        metrics: what the operator sees.
        clock: seconds since 1970.
    """

    issuer: Issuer
    tokens: Tokens
    keys: bytes
    personalizer: str
    batcher: Batcher[Order, Reply]
    metrics: Metrics = field(default_factory=Metrics)
    clock: Callable[[], float] = time.time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be the ASGI app."""
        if scope["type"] == "http" and scope["path"] == "/v1/payload" and scope["method"] == "POST":
            await self._hot(scope, receive, send)
        else:
            await self._people(scope, receive, send)

    async def _hot(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one binary ask that came by uvicorn's way; most come by `ossia.service.gate`."""
        begun = time.perf_counter()
        if self.batcher.full:  # before the body is read
            await self._fail(self.batcher.refusal())(scope, receive, send)
            return
        try:
            token = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            body = await read_body(receive, ASK.size + self.issuer.base.manifest.shape["dim"] + 4)
            reply = encode_reply(await self.enter(token, body))
        except Exception as error:
            await self._fail(error)(scope, receive, send)
            return
        self._count(time.perf_counter() - begun)
        await Response(reply, headers=BINARY)(scope, receive, send)

    def enter(self, token: bytes, body: bytes) -> "asyncio.Future[Reply]":
        """Judge an ask, and put it into the queue.

        Args:
            token: the authorization header's value.
            body: the ask.

        Returns:
            its reply, or what is wrong with it, when its batch is done.

        Raises:
            RequestError: no token of ours, or the queue is full.
            PayloadError: no ask.
        """
        now = int(self.clock())
        device = self.tokens.read(token.removeprefix(b"Bearer ").decode("latin-1"), now)
        return self.batcher.put(Order(device, decode_ask(body, self.issuer.base.manifest.shape["dim"]), now))

    def refuse(self) -> bytes | None:
        """Refuse an ask before anything of it is judged: under a flood, what that costs is taken from those who are served.

        Returns:
            a whole HTTP response; None while the queue has room.
        """
        if not self.batcher.full:
            return None
        count, response = self._full
        count.inc()
        return response

    def answer(self, done: "asyncio.Future[Reply]", seconds: float) -> bytes:
        """Write what became of an ask that has entered.

        Args:
            done: from `enter`.
            seconds: since the ask came.

        Returns:
            a whole HTTP response.
        """
        error = done.exception()
        if error is None:
            self._count(seconds)
            reply = encode_reply(done.result())
            return OK % len(reply) + reply
        assert isinstance(error, Exception), "a future holds no more than an exception"
        try:
            return on_the_wire(self._fail(error))
        except Exception:
            LOGGER.exception("a fault in answering an ask")
            return FAULT

    @cached_property
    def _full(self) -> tuple[Counter, bytes]:
        """The series of those who come when the queue is full, and the response to them."""
        return self.metrics.refusals.labels("overloaded"), on_the_wire(refusal_response(self.batcher.refusal()))

    def _count(self, seconds: float) -> None:
        """Count a payload."""
        self.metrics.payloads.inc()
        self.metrics.respond("payload", 200)
        self.metrics.seconds.observe(seconds)

    def _fail(self, error: Exception) -> Response:
        """Turn what was raised into a response, and count it."""
        status, name = describe(error)
        self.metrics.refusals.labels(name).inc()
        self.metrics.respond("refused", status)
        if status == 500:
            raise error  # the server answers 500, and a traceback in the log means a fault of ours
        return refusal_response(error)

    @cached_property
    def _people(self) -> Starlette:
        """The app for everything but the hot path."""
        return Starlette(routes=self._routes(), lifespan=self._live)

    def _routes(self) -> list[Route]:
        """List the routes."""
        files = files_of(self.issuer.base)

        async def artifact(request: Request) -> Response:
            return await serve_file(request, files)

        return [
            Route("/v1/devices", self._guard("devices", self._enroll), methods=["POST"]),
            Route("/v1/devices", self._guard("devices", self._erase), methods=["DELETE"]),
            Route("/v1/session", self._guard("session", self._session), methods=["POST"]),
            Route("/v1/feedback", self._guard("feedback", self._feedback), methods=["POST"]),
            Route("/v1/release", self._guard("release", self._release)),
            Route("/v1/keys", self._guard("keys", self._keys)),
            Route("/v1/artifacts/{address}", self._guard("artifacts", artifact)),
            Route("/health", self._guard("health", self._health)),
            Route("/metrics", self._page),
            Route("/openapi.json", self._openapi),
        ]

    def _guard(self, route: str, handler: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a handler: documents become JSON, errors become answers, everything is counted."""

        async def guarded(request: Request) -> Response:
            try:
                answer = await handler(request)
            except Exception as error:
                return self._fail(error)
            response = answer if isinstance(answer, Response) else json_response(answer)
            self.metrics.respond(route, response.status_code)
            return response

        return guarded

    async def _enroll(self, request: Request) -> Enrolled:
        """Take a device in."""
        ask, now = await read_document(request, Enrolment), int(self.clock())
        public = bytes.fromhex(ask.public)
        device = check_enrolment(public, ask.at, bytes.fromhex(ask.signature), now)
        known = await asyncio.wrap_future(self.issuer.store.enroll(device, public, now))
        return Enrolled(device=device.hex(), token=self.tokens.make(device, now), sequence=known.sequence)

    async def _erase(self, request: Request) -> Erased:
        """Forget the device that asks."""
        return Erased(erased=await asyncio.wrap_future(self.issuer.store.erase(self._device(request))))

    async def _session(self, request: Request) -> SessionReply:
        """Personalize, in JSON."""
        device, base = self._device(request), self.issuer.base
        ask = await read_document(request, SessionRequest)
        profile = decode_profile(bytes.fromhex(ask.profile), base.manifest.shape["dim"])
        held = [bytes.fromhex(told)[:16] if told is not None else ours for told, ours in
                ((ask.base, base.id[:16]), (ask.table, base.table.id[:16]))]  # fmt: skip
        binary = Ask(held[0], held[1], Budget(**msgspec.structs.asdict(ask.budget)), profile, candidates=ask.candidates)
        block = frozenset(base.table.row_of[item] for item in ask.block if item in base.table.row_of)
        reply = await self.batcher.submit(Order(device, binary, int(self.clock()), block))
        self.metrics.payloads.inc()
        *_, sequence, _, expiry, _ = HEADER.unpack_from(reply.payload)
        shown = tuple(base.table.ids[row] for row in reply.candidates.tolist())
        return SessionReply(payload=reply.payload.hex(), sequence=sequence, expiry=expiry, candidates=shown)

    async def _feedback(self, request: Request) -> Kept:
        """Keep what a user chose to tell."""
        device, told = self._device(request), await read_document(request, Feedback)
        events = [item.encode() for item in told.events]
        return Kept(kept=await asyncio.wrap_future(self.issuer.store.add_feedback(device, int(self.clock()), events)))

    async def _release(self, _request: Request) -> Release:
        """Say what is served."""
        base = self.issuer.base
        key = f"{self.issuer.signer.key_id:08x}"
        return Release(base=base.id.hex(), table=base.table.id.hex(), personalizer=self.personalizer, keys=(key,))

    async def _keys(self, _request: Request) -> Response:
        """Give out the public keys; a device needs a better reason than this to trust them."""
        return Response(self.keys, media_type="application/json")

    async def _health(self, _request: Request) -> Health:
        """Say how the service is."""
        return Health(status="ok", in_flight=self.batcher.in_flight, **self.issuer.store.counts())

    async def _page(self, _request: Request) -> Response:
        """Write the metrics."""
        self.metrics.in_flight.set(self.batcher.in_flight)
        return Response(self.metrics.page(), media_type="text/plain; version=0.0.4")

    async def _openapi(self, _request: Request) -> Response:
        """Describe the JSON surface."""
        return json_response(openapi())

    def _device(self, request: Request) -> bytes:
        """Say which device asks."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return self.tokens.read(token, int(self.clock()))

    @asynccontextmanager
    async def _live(self, _app: Starlette) -> AsyncIterator[None]:
        """Close queue and store when the server stops."""
        yield
        self.batcher.close()
        await asyncio.to_thread(self.issuer.store.close)


async def read_body(receive: Receive, most: int) -> bytes:
    """Read a request's body.

    Args:
        receive: ASGI's.
        most: bytes that it may have.

    Returns:
        the body.

    Raises:
        RequestError: it has more, did not arrive in time, or the caller went away.
    """
    task, late = asyncio.current_task(), []
    assert task is not None, "a request is read in a task"

    def give_up() -> None:  # by hand: `asyncio.timeout` takes 10 µs of a request's 200
        late.append(True)
        task.cancel()

    timer = asyncio.get_running_loop().call_later(BODY_S, give_up)
    try:
        return await _collect(receive, most)
    except asyncio.CancelledError:
        if not late:
            raise
        task.uncancel()
        raise RequestError(408, "too_slow", f"body: expected its end within {BODY_S:.0f} s") from None
    finally:
        timer.cancel()


async def _collect(receive: Receive, most: int) -> bytes:
    """Put a body's parts together."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise RequestError(408, "too_slow", "body: expected its end, but the caller went away")
        body += message.get("body", b"")
        if len(body) > most:
            raise RequestError(413, "too_large", f"body: expected at most {most:,} bytes, got more")
        if not message.get("more_body"):
            return bytes(body)


async def read_document(request: Request, document: type[Document]) -> Document:
    """Read a JSON document.

    Args:
        request: with a body.
        document: which kind is expected.

    Returns:
        the document.

    Raises:
        UsageError: not JSON, or another document; says where.
    """
    try:
        return msgspec.json.decode(await read_body(request.receive, JSON_BYTES), type=document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"body: {error}") from error
