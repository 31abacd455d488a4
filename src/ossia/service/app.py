"""The service on the network: one ASGI app, and a shorter way for its hot path. Everything else is thin Starlette.

    POST /v1/payload              binary ask → binary reply (`ossia.adaptation.request`); a token names the device
    JSON for people               `ossia.service.surface`, described at /openapi.json
    GET  /v1/artifacts/SHA256     files of base and table, in ranges (`ossia.service.artifacts`)
    GET  /v1/keys                 the public keys that sign payloads
    GET  /v1/repository/PATH      releases under TUF (`ossia.service.repository`), where they are served
    GET  /health  /metrics  /operator

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
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ossia.adaptation.base import Base
from ossia.adaptation.held_rows import MOST_BYTES
from ossia.adaptation.payload import HEADER
from ossia.adaptation.profile import decode_profile
from ossia.adaptation.request import ASK, MOST_CANDIDATES, Ask, Reply, decode_ask, encode_reply
from ossia.adaptation.table import ItemTable
from ossia.errors import OssiaError, UsageError
from ossia.service.artifacts import files_of, serve_file, serve_release
from ossia.service.batching import Batcher
from ossia.service.bodies import read_body, read_document
from ossia.service.guard import RENEW_EVERY_S, Guard
from ossia.service.issue import Issuer, Order
from ossia.service.issuers import Issuers
from ossia.service.metrics import Metrics
from ossia.service.operator import operator_page
from ossia.service.responses import FAULT, OK, describe, json_response, on_the_wire, refusal_response
from ossia.service.surface import (
    Enrolled,
    Enrolment,
    Erased,
    Feedback,
    Health,
    Kept,
    Release,
    Report,
    Reported,
    SessionReply,
    SessionRequest,
    openapi,
)
from ossia.service.tokens import Tokens, check_enrolment
from ossia.types import Budget

BINARY = {"content-type": "application/octet-stream", "cache-control": "no-store"}
LOGGER = logging.getLogger("uvicorn.error")


@dataclass(frozen=True, eq=False)
class Service:
    """What the handlers share.

    Attributes:
        issuers: make payloads, for each base and table that devices may hold.
        tokens: tells devices apart.
        keys: the bytes of keys.json.
        personalizer: its name.
        batcher: the queue before the issuer.
        metrics: what the operator sees.
        clock: seconds since 1970.
        guard: of the repository of releases; None: there is none here.
    """

    issuers: Issuers
    tokens: Tokens
    keys: bytes
    personalizer: str
    batcher: Batcher[Order, Reply]
    metrics: Metrics = field(default_factory=Metrics)
    clock: Callable[[], float] = time.time
    guard: Guard | None = None
    begun: float = field(default_factory=time.monotonic)

    @property
    def issuer(self) -> Issuer:
        """The issuer for what the service offers."""
        return self.issuers.all[0]

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
            body = await read_body(receive, ASK.size + self._widest + 4 + MOST_BYTES)
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
        dim = self.issuers.of(body[8:24], body[24:40]).base.manifest.shape["dim"]
        return self.batcher.put(Order(device, decode_ask(body, dim), now))

    def refuse(self) -> bytes | None:
        """Refuse an ask before anything of it is judged: under a flood, what that costs is taken from those who are served.

        Returns:
            a whole HTTP response; None while the queue has room.
        """
        if not self.batcher.full:
            return None
        self.metrics.turned_away += 1
        return self._full

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
    def _full(self) -> bytes:
        """What those are told who come when the queue is full."""
        return on_the_wire(refusal_response(self.batcher.refusal()))

    def _count(self, seconds: float) -> None:
        """Count a payload."""
        self.metrics.payloads.inc()
        self.metrics.respond("payload", 200)
        self.metrics.seconds.observe(seconds)

    @cached_property
    def _widest(self) -> int:
        """How many values a profile has, at most."""
        return max(issuer.base.manifest.shape["dim"] for issuer in self.issuers.all)

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
        files = {address: path for issuer in self.issuers.all for address, path in files_of(issuer.base).items()}

        async def artifact(request: Request) -> Response:
            return await serve_file(request, files)

        return [
            Route("/v1/devices", self._guard("devices", self._devices), methods=["POST", "DELETE"]),
            Route("/v1/session", self._guard("session", self._session), methods=["POST"]),
            Route("/v1/feedback", self._guard("feedback", self._feedback), methods=["POST"]),
            Route("/v1/guard", self._guard("guard", self._report), methods=["POST"]),
            Route("/v1/repository/{path:path}", self._guard("repository", self._repository)),
            Route("/v1/release", self._guard("release", self._release)),
            Route("/v1/keys", self._guard("keys", self._keys)),
            Route("/v1/artifacts/{address}", self._guard("artifacts", artifact)),
            Route("/health", self._guard("health", self._health)),
            Route("/metrics", self._page),
            Route("/operator", self._operator),
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

    async def _devices(self, request: Request) -> Enrolled | Erased:
        """Take a device in, or forget it; one route, so that it says which methods it has."""
        return await (self._enroll(request) if request.method == "POST" else self._erase(request))

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
        device, ask = self._device(request), await read_document(request, SessionRequest)
        held, base = self._held(ask)
        profile = decode_profile(bytes.fromhex(ask.profile), base.manifest.shape["dim"])
        limits = Budget(**msgspec.structs.asdict(ask.budget))
        wanted = ask.candidates or min(len(ask.offer), MOST_CANDIDATES)
        binary = Ask(*held, limits, profile, rows=ask.rows or bool(ask.held), candidates=wanted, held=bytes.fromhex(ask.held))
        reply = await self.batcher.submit(Order(device, binary, int(self.clock()), blocked_rows(base.table, ask)))
        self.metrics.payloads.inc()
        *_, sequence, _, expiry, _ = HEADER.unpack_from(reply.payload)
        shown = tuple(base.table.ids[row] for row in reply.candidates.tolist())
        return SessionReply(
            payload=reply.payload.hex(), sequence=sequence, expiry=expiry, candidates=shown, rows=reply.rows.hex()
        )

    def _held(self, ask: SessionRequest) -> tuple[tuple[bytes, bytes], Base]:
        """Say which base and table a device holds, by short ids, and find the base; what is not said is what we offer."""
        base_id = bytes.fromhex(ask.base)[:16] if ask.base is not None else self.issuer.base.id[:16]
        table_id = bytes.fromhex(ask.table)[:16] if ask.table is not None else self.issuers.of(base_id, b"").base.table.id[:16]
        return (base_id, table_id), self.issuers.of(base_id, table_id).base

    async def _report(self, request: Request) -> Reported:
        """Count what a device says of a release, and halt it if too many complain."""
        device, told, now = self._device(request), await read_document(request, Report), int(self.clock())
        if self.guard is None:
            raise UsageError("release: expected reports where releases are served, but there are none here")
        await asyncio.to_thread(self.guard.check, told.release)
        counted = await asyncio.wrap_future(self.issuer.store.report(device, told.release, told.worse))
        halted = await asyncio.to_thread(self.guard.judge, told.release, *counted, now)
        if halted:
            self.metrics.halts.inc()
        return Reported(halted=halted)

    async def _repository(self, request: Request) -> Response:
        """Hand out releases: to a device that believes nothing but signatures."""
        if self.guard is None:
            return Response("release: expected a repository, but there is none here\n", 404, media_type="text/plain")
        return await serve_release(request, self.guard.repo)

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

    async def _operator(self, _request: Request) -> Response:
        """Show the operator how the service is."""
        self.metrics.in_flight.set(self.batcher.in_flight)
        store, base = self.issuer.store, self.issuer.base
        facts = {"devices": f"{store.counts()['devices']:,}", "events of feedback": f"{store.counts()['feedback']:,}"}
        facts |= {"base": f"{base.id.hex()[:12]}…", "table": f"{base.table.id.hex()[:12]}…, {len(base.table):,} rows"}
        facts["bases and tables served"] = str(len(self.issuers.all))
        rollout = self.guard.edition().rollout if self.guard is not None else None
        page = operator_page(facts, self.metrics, rollout, store.reports(), time.monotonic() - self.begun)
        return Response(page, media_type="text/html", headers={"cache-control": "no-store"})

    async def _openapi(self, _request: Request) -> Response:
        """Describe the JSON surface."""
        lengths = {issuer.base.manifest.shape["dim"] + 4 for issuer in self.issuers.all}
        return json_response(openapi(lengths.pop() if len(lengths) == 1 else None))

    def _device(self, request: Request) -> bytes:
        """Say which device asks."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return self.tokens.read(token, int(self.clock()))

    @asynccontextmanager
    async def _live(self, _app: Starlette) -> AsyncIterator[None]:
        """Keep the repository believed, and close queue and store when the server stops."""
        renewing = asyncio.create_task(self._renew_for_ever())
        yield
        renewing.cancel()
        self.batcher.close()
        await asyncio.to_thread(self.issuer.store.close)

    async def _renew_for_ever(self) -> None:
        """Look at the repository's timestamp every hour."""
        while self.guard is not None:
            try:
                await asyncio.to_thread(self.guard.renew, int(self.clock()))
            except (OssiaError, OSError) as error:  # payloads go on; the repository is the operator's to mend
                LOGGER.error("repository: %s", error)
            await asyncio.sleep(RENEW_EVERY_S)


def blocked_rows(table: ItemTable, ask: SessionRequest) -> frozenset[int]:
    """Say which rows must not be among the candidates: those blocked, and where there is an offer, all that it leaves out.

    Args:
        table: the device's.
        ask: items by their own ids; those that the table does not know have no row.

    Returns:
        row numbers.
    """
    block = frozenset(table.row_of[item] for item in ask.block if item in table.row_of)
    if not ask.offer:
        return block
    offered = {table.row_of[item] for item in ask.offer if item in table.row_of}
    return block | (frozenset(range(len(table))) - offered)
