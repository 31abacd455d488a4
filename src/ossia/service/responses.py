"""What the service answers with: refusals by name, JSON, and responses as bytes for who writes them without an ASGI server."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.responses import Response

from ossia.errors import BudgetError, PayloadError, UsageError
from ossia.service.faults import RequestError

STATUS = ((BudgetError, 422, "budget"), (UsageError, 400, "malformed"))
ELSEWHERE = ("another_base", "another_table")
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncache-control: no-store\r\ncontent-length: %d\r\n\r\n"
FAULT = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"


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
        if error.refusal == "oversized":
            return 413, "too_large"
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


def on_the_wire(response: Response) -> bytes:
    """Write a response as HTTP/1.1.

    Args:
        response: whole, with its length among its headers.

    Returns:
        its bytes.
    """
    lines = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
    status = HTTPStatus(response.status_code)
    return b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) + lines + b"\r\n" + bytes(response.body)


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
