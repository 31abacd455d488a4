"""Bodies of requests: read with a limit in bytes and in time, and as documents."""

import asyncio
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.types import Receive

from ossia.errors import UsageError
from ossia.service.faults import RequestError
from ossia.service.surface import Strict

JSON_BYTES = 6_000_000  # of a body: ten thousand blocked ids and as many offered, of 256 characters, and some
BODY_S = 5.0  # for a body to arrive

Document = TypeVar("Document", bound=Strict)


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
