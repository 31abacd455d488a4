"""Who carries a device's requests: HTTP by the standard library, with an end to everything, in a thread of its own.

A service may be slow, silent, endless or somebody else. So an exchange has a deadline for the whole of it, an answer has a
bound, redirects are not followed, and whatever goes wrong is `NO_ANSWER`: the rules of `ossia.device.resident` know what to do
then. The courier carries one request at a time, and nobody waits for it.
"""

import http.client
import queue
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from ossia.device.exchange import NO_ANSWER, Answer, Request
from ossia.errors import UsageError

CHUNK: Final = 65_536


class Courier:
    """Carries requests to one service, one at a time.

    Args:
        url: the service's address, such as `https://example.org/ossia`.
        most_bytes: that an answer may have.
        deadline_s: for a whole exchange.
        deliver: is handed each request with its answer, in the courier's thread.

    Raises:
        UsageError: no such address.
    """

    def __init__(
        self, url: str, deliver: Callable[[Request, Answer], None], *, most_bytes: int, deadline_s: float = 20.0
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"url: expected http:// or https:// and a host, got {url!r}")
        self._url, self._deliver, self._deadline_s = url, deliver, deadline_s
        self.most_bytes = most_bytes
        self._waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
        threading.Thread(target=self._carry_for_ever, name="courier", daemon=True).start()

    def send(self, request: Request) -> None:
        """Take a request, and return at once.

        Args:
            request: what to send; the one before must have been delivered.
        """
        self._waiting.put(request)

    def _carry_for_ever(self) -> None:
        """Be the courier."""
        while True:
            request = self._waiting.get()
            answer = exchange(self._url, request, most_bytes=self.most_bytes, deadline_s=self._deadline_s)
            self._deliver(request, answer)


def exchange(url: str, request: Request, *, most_bytes: int, deadline_s: float) -> Answer:
    """Send a request and wait for its answer.

    Args:
        url: the service's address.
        request: what to send.
        most_bytes: that the answer may have.
        deadline_s: for all of it.

    Returns:
        the answer; `NO_ANSWER` for whatever is none.
    """
    parts, end = urlsplit(url), time.monotonic() + deadline_s
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=deadline_s)
    headers = {"content-type": "application/json" if request.kind in ("enroll", "report") else "application/octet-stream"}
    if request.token:
        headers["authorization"] = f"Bearer {request.token}"
    try:
        connection.request(request.method, parts.path.rstrip("/") + request.path, request.body, headers)
        response = connection.getresponse()
        body = _read(response, connection, most_bytes, end)
    except (OSError, http.client.HTTPException, ssl.SSLError, ValueError):
        return NO_ANSWER
    finally:
        connection.close()
    again = response.headers.get("retry-after", "")
    return Answer(response.status, body, int(again) if again.isascii() and again.isdigit() and len(again) < 10 else 0)


def _read(response: http.client.HTTPResponse, connection: http.client.HTTPConnection, most: int, end: float) -> bytes:
    """Read a body up to its end, the most, or the deadline."""
    parts, size = [], 0
    while chunk := response.read1(CHUNK):
        parts.append(chunk)
        size += len(chunk)
        left = end - time.monotonic()
        if size > most or left <= 0:
            raise OSError("answer: expected its end, got more")
        if connection.sock is not None:
            connection.sock.settimeout(left)
    if response.length:  # the line broke before the body's end
        raise OSError("answer: expected more bytes, got its end")
    return b"".join(parts)
