"""The short way of an ask: from one segment of the network to the queue, and from its reply to one write.

uvicorn parses a request, makes a scope, a task and two timers for it before an app sees it; that is 45 µs, a fifth of what a
payload may take, and more than twice what a refusal may take if a flood is to leave time for payloads. An ask needs none of it:
it is a short head and 120 bytes, which every device sends as one segment on a connection that has nothing else on it.

    one whole ask on an idle connection    the queue is full → 503 in words prepared; else into the queue
    anything else                          uvicorn and the ASGI app: parts of a request, several, other routes, other framing,
                                           and whatever is wrong with an ask, which the app refuses by name

So nothing is ever guessed about where a request ends, and there is one place that judges asks (`Service.enter`). What comes
while an ask is being answered waits until it is.
"""

import asyncio
import re
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ossia.adaptation.request import Reply
from ossia.errors import OssiaError

if TYPE_CHECKING:
    from ossia.service.app import Service

START = b"POST /v1/payload HTTP/1.1\r\n"
TOKEN = b"\r\nauthorization:"
FRAMING = re.compile(
    rb"\n(?:content-length: ?(\d{1,7})(?=\r\n)|content-length|transfer-encoding|connection|expect|upgrade)", re.IGNORECASE
)
"""Header lines on which it depends where a request ends; the length alone where it is plain, nothing for all others."""


class Gate(HttpToolsProtocol):
    """uvicorn's HTTP on one connection, with a shorter way for asks.

    Args:
        service: judges and answers.
    """

    def __init__(self, *args: Any, service: "Service", **words: Any) -> None:
        super().__init__(*args, **words)
        self._service, self._midway, self._closing, self._held = service, False, False, b""
        self._answer: asyncio.Future[Reply] | None = None
        self._begun = self._seen = 0.0
        self._watch: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take what came from the network.

        Args:
            data: some bytes of the stream.
        """
        if self._answer is not None:
            self._held += data
            self.transport.pause_reading()
        elif not (data.startswith(START) and self._idle and (at := body_at(data)) and self._take(data, at)):
            self._seen = self.loop.time()
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Work for nobody who has gone.

        Args:
            exc: why the connection ended; None: the caller closed it.
        """
        if self._answer is not None:
            self._answer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close, but give the answer first that is owed."""
        self._closing = True
        if self._answer is None:
            super().shutdown()

    def on_message_begin(self) -> None:
        """Note that a request has begun; called by the parser."""
        self._midway = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Note that a request is whole; called by the parser."""
        self._midway = False
        super().on_message_complete()

    @property
    def _idle(self) -> bool:
        """Whether nothing of an earlier request is left: no part of it to come, no answer to give, none that nobody reads."""
        done = self.cycle is None or self.cycle.response_complete
        return done and not self._midway and not self.flow.write_paused

    def _take(self, data: bytes, at: int) -> bool:
        """Refuse a whole ask or put it into the queue; False for one that is not in order."""
        self._begun = self._seen = self.loop.time()
        if self._watch is None or self.timeout_keep_alive_task is not None:
            self._mind()
        if (refusal := self._service.refuse()) is not None:
            self.transport.write(refusal)
            return True
        try:
            self._answer = self._service.enter(read_token(data[:at]), data[at:])
        except OssiaError:
            return False
        self._answer.add_done_callback(self._reply)
        return True

    def _reply(self, answer: "asyncio.Future[Reply]") -> None:
        """Write the answer, and go on with what came meanwhile."""
        self._answer = None
        if answer.cancelled() or self.transport.is_closing():
            return
        self._seen = self.loop.time()
        self.transport.write(self._service.answer(answer, self._seen - self._begun))
        if self._closing:
            self.transport.close()
            return
        if self._held:
            data, self._held = self._held, b""
            self.transport.resume_reading()
            self.data_received(data)

    def _mind(self) -> None:
        """Look for a quiet connection ourselves; uvicorn's timer knows nothing of asks."""
        self._unset_keepalive_if_required()
        if self._watch is None:
            self._watch = self.loop.call_later(self.timeout_keep_alive, self._look)

    def _look(self) -> None:
        """Close a connection that was quiet for too long: one timer per connection, where one per request costs 8 µs."""
        self._watch = None
        quiet = self.loop.time() - self._seen
        if self._answer is None and self._idle and quiet >= self.timeout_keep_alive:
            self.timeout_keep_alive_handler()
        else:
            self._watch = self.loop.call_later(max(1.0, self.timeout_keep_alive - quiet), self._look)


def body_at(data: bytes) -> int:
    r"""Find the body of a whole request: its head ends, names one length and no other framing, and so long is the body.

    Args:
        data: begins like a request.

    Returns:
        where the body begins; 0 for any other bytes.

    Example:
        >>> body_at(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab")
        38
    """
    at = data.find(b"\r\n\r\n") + 4
    found = FRAMING.findall(data, 0, at)  # one pass: this is all that is read of an ask that is refused
    plain = len(found) == 1 and found[0] and int(found[0]) == len(data) - at
    return at if plain and data.count(b"\r", 0, at) == data.count(b"\r\n", 0, at) else 0  # some end lines at a lone one


def read_token(head: bytes) -> bytes:
    r"""Look the authorization header up.

    Args:
        head: of a request, with the empty line.

    Returns:
        what it says; nothing where there is none.

    Example:
        >>> read_token(b"POST / HTTP/1.1\r\nAuthorization: Bearer 17\r\n\r\n")
        b'Bearer 17'
    """
    at = head.lower().find(TOKEN)
    return head[at + len(TOKEN) : head.index(b"\r\n", at + 2)].strip() if at >= 0 else b""
