"""Bodies in, answers out: what all handlers share. A body has limits in bytes and time; every fault has a status and a name."""

import asyncio
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from ossia.errors import BudgetError, PayloadError, UsageError
from ossia.service.faults import RequestError
from ossia.service.surface import Strict

JSON_BYTES = 6_000_000  # of a body: ten thousand blocked ids and as many offered, of 256 characters, and some
BODY_S = 5.0  # for a body to arrive
STATUS = ((BudgetError, 422, "budget"), (UsageError, 400, "malformed"))
ELSEWHERE = ("another_base", "another_table")

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
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise RequestError(408, "too_slow", "body: expected its end, but the caller went away")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise RequestError(413, "too_large", f"body: expected at most {most:,} bytes, got more")
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise RequestError(408, "too_slow", f"body: expected its end within {BODY_S:.0f} s") from None


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


def describe(error: Exception) -> tuple[int, str]:
    """Give an error its HTTP status and its name.

    Args:
        error: what was raised.

    Returns:
        status and name; 500 for a fault of ours.
    """
    if isinstance(error, RequestError):
        return error.status, error.name
    if isinstance(error, PayloadError):
        return 409 if error.refusal in ELSEWHERE else 400, error.refusal
    return next(((status, name) for kind, status, name in STATUS if isinstance(error, kind)), (500, "fault"))


def refusal_response(error: Exception) -> Response:
    """Say what is wrong with a request, and when to come again.

    Args:
        error: what was raised, no fault of ours.

    Returns:
        the response.
    """
    status, name = describe(error)
    again = getattr(error, "retry_after_s", 0)
    headers = {"retry-after": str(again)} if again else {}
    return json_response({"name": name, "error": str(error)}, status, headers)


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON.

    Args:
        document: what to say.
        status: HTTP's.
        headers: more headers.

    Returns:
        the response, never cached.
    """
    headers = {"cache-control": "no-store"} | dict(headers or {})
    return Response(msgspec.json.encode(document), status, headers, "application/json")
