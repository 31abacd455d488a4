"""The short way of an ask, over real sockets: however the network cuts bytes up, each request gets its own answer, in order."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ossia.errors import UsageError
from ossia.service.gate import START, Gate, body_at


def ask(body: bytes, *headers: str) -> bytes:
    lines = [f"content-length: {len(body)}", "Authorization: Bearer t", *headers]
    return START + "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class Service:
    """Says by which way an ask came: a body `b` is answered `gate b` or `asgi b`; the gate's answers may be held back."""

    def __init__(self) -> None:
        self.full, self.slow, self.entered = False, False, []

    def refuse(self) -> bytes | None:
        return response(b"full") if self.full else None

    def enter(self, token: bytes, body: bytes) -> asyncio.Future:
        if body == b"bad":
            raise UsageError("bad")
        assert token == b"Bearer t"
        future = asyncio.get_running_loop().create_future()
        self.entered.append(future)
        if self.slow:
            future.answer = b"gate " + body
        else:
            future.set_result(b"gate " + body)
        return future

    def answer(self, done: asyncio.Future, seconds: float) -> bytes:
        return response(done.result())

    async def __call__(self, scope, receive, send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        told = b"asgi " + body
        headers = [(b"content-length", b"%d" % len(told))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": told})


def scene(play: Callable[[Service, uvicorn.Server, socket.socket], Awaitable[None]], keep_alive: int = 30) -> None:
    """Play a scene with a server and one connection to it."""

    async def main() -> None:
        service = Service()
        gate = partial(Gate, service=service)
        config = uvicorn.Config(service, http=gate, ws="none", lifespan="off", log_level="error", timeout_keep_alive=keep_alive)
        server = uvicorn.Server(config)
        listening = socket.create_server(("127.0.0.1", 0))
        running = asyncio.create_task(server.serve([listening]))
        while not server.started:
            await asyncio.sleep(0.001)
        line = socket.create_connection(listening.getsockname())
        line.setblocking(False)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await play(service, server, line)
        finally:
            line.close()
            server.should_exit = True
            await asyncio.wait_for(running, 10)

    asyncio.run(main())


async def read(line: socket.socket, count: int) -> list[bytes]:
    """Read some responses' bodies."""
    data, loop, bodies = b"", asyncio.get_running_loop(), []
    while len(bodies) < count:
        head, end, rest = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]) if end else 0
        if end and len(rest) >= length:
            bodies.append(rest[:length])
            data = rest[length:]
            continue
        got = await asyncio.wait_for(loop.sock_recv(line, 65536), 10)
        assert got, "the connection was closed"
        data += got
    assert not data
    return bodies


async def send(line: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(line, data)


STREAM = [ask(b"one"), ask(b"bad"), b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n", ask(b"two"), ask(b"three"),
          START + b"transfer-encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n", ask(b"five")]  # fmt: skip
BODIES = [b"one", b"bad", b"", b"two", b"three", b"four", b"five"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, sum(map(len, STREAM)) - 1), max_size=12), st.booleans())
def test_however_the_bytes_are_cut_every_request_gets_its_own_answer_in_order(cuts: list[int], slow: bool) -> None:
    whole, places = b"".join(STREAM), sorted({0, *cuts})

    async def play(service: Service, _server: uvicorn.Server, line: socket.socket) -> None:
        service.slow = slow

        async def answer() -> None:
            while True:
                await asyncio.sleep(0.002)
                for future in service.entered:
                    if slow and not future.done():
                        future.set_result(future.answer)

        answering = asyncio.create_task(answer())
        for start, end in zip(places, [*places[1:], len(whole)], strict=True):
            await send(line, whole[start:end])
            await asyncio.sleep(0.0005)
        told = await read(line, len(BODIES))
        answering.cancel()
        assert [each.partition(b" ")[2] for each in told] == BODIES

    scene(play)


def test_one_whole_ask_takes_the_short_way_and_all_else_the_long() -> None:
    async def play(service: Service, _server: uvicorn.Server, line: socket.socket) -> None:
        for request, told in zip(STREAM, BODIES, strict=True):
            await send(line, request)
            way = b"gate" if told in (b"one", b"two", b"three", b"five") else b"asgi"
            assert await read(line, 1) == [way + b" " + told]

    scene(play)


def test_what_looks_like_an_ask_inside_another_request_is_none() -> None:
    async def play(_service: Service, _server: uvicorn.Server, line: socket.socket) -> None:
        await send(line, b"POST /other HTTP/1.1\r\nx-note: ")
        await asyncio.sleep(0.05)
        await send(line, ask(b"one"))  # by its head's end the rest of /other
        assert await read(line, 1) == [b"asgi one"]

    scene(play)


def test_a_full_queue_refuses_before_an_ask_is_judged() -> None:
    async def play(service: Service, _server: uvicorn.Server, line: socket.socket) -> None:
        service.full = True
        for _ in range(3):
            await send(line, ask(b"bad"))
            assert await read(line, 1) == [b"full"]
        assert not service.entered
        service.full = False
        await send(line, ask(b"now"))
        assert await read(line, 1) == [b"gate now"]

    scene(play)


def test_nobody_works_for_one_who_has_gone() -> None:
    async def play(service: Service, _server: uvicorn.Server, line: socket.socket) -> None:
        service.slow = True
        await send(line, ask(b"one"))
        while not service.entered:
            await asyncio.sleep(0.001)
        line.close()
        for _ in range(1000):
            if service.entered[0].cancelled():
                return
            await asyncio.sleep(0.001)
        raise AssertionError("the answer is still awaited")

    scene(play)


def test_a_server_that_stops_gives_the_answer_that_it_owes_and_closes() -> None:
    async def play(service: Service, server: uvicorn.Server, line: socket.socket) -> None:
        service.slow = True
        await send(line, ask(b"one"))
        while not service.entered:
            await asyncio.sleep(0.001)
        server.should_exit = True
        await asyncio.sleep(0.3)  # the server has looked, and waits
        service.entered[0].set_result(b"gate one")
        assert await read(line, 1) == [b"gate one"]
        with suppress(ConnectionError):
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(line, 10), 5) == b""

    scene(play)


def test_a_connection_that_is_quiet_is_closed() -> None:
    async def play(_service: Service, _server: uvicorn.Server, line: socket.socket) -> None:
        await send(line, ask(b"one"))
        assert await read(line, 1) == [b"gate one"]
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(line, 10), 10) == b""

    scene(play, keep_alive=1)


def test_a_connection_that_is_used_stays_open_whatever_was_asked_on_it_before() -> None:
    async def play(service: Service, _server: uvicorn.Server, line: socket.socket) -> None:
        await send(line, b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await read(line, 1) == [b"asgi "]
        for number in range(8):
            await asyncio.sleep(0.3)
            service.full = number % 2 == 0
            await send(line, ask(b"one"))
            assert await read(line, 1) == [b"full" if service.full else b"gate one"]

    scene(play, keep_alive=1)


def test_answers_do_not_pile_up_for_one_who_does_not_read_them() -> None:
    async def play(service: Service, server: uvicorn.Server, line: socket.socket) -> None:
        service.full = True
        service.refuse = lambda: response(bytes(200_000))  # type: ignore[method-assign]
        for _ in range(100):
            with suppress(TimeoutError):
                await asyncio.wait_for(send(line, ask(b"one")), 0.01)
            await asyncio.sleep(0.001)
        (connection,) = server.server_state.connections
        assert connection.transport.get_write_buffer_size() < 1_000_000

    scene(play)


@pytest.mark.parametrize(
    "bytes_",
    [ask(b"one")[:-1], ask(b"one") + b"x", ask(b"one", "connection: close"), ask(b"one", "content-length: 3"),
     ask(b"one", "Transfer-Encoding: chunked"), ask(b"one", "expect: 100-continue"), START + b"\r\nbody", START,
     ask(b"one", "content-length : 3"), ask(b"one", "x: y\ntransfer-encoding: chunked"), ask(b"one", "x: y\rcontent-length: 9"),
     START + b"content-length: 0x3\r\n\r\none", START + b"content-length: 3\n\r\n\r\none",
     START + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\none",
     START + b"content-length: 3\r\ncontent-length: 3\r\n\r\none"],
)  # fmt: skip
def test_what_is_not_plainly_one_ask_is_left_to_uvicorn(bytes_: bytes) -> None:
    assert body_at(bytes_) == 0
