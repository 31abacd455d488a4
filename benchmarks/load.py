"""A load generator for HTTP/1.1 that leaves the two cores to the server: callbacks on keep-alive connections, nothing awaited.

    closed_loop    each connection sends its next request when it has its response: finds the capacity
    open_loop      requests are sent when their time has come, whatever the server does, as the world does: shows an overload

A client library would use more of the machine than the service does. Used by `service_load.py` and `service_peers.py`.
"""

import asyncio
import os
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE_S = 10.0  # a request that has no answer by then hangs
STEP_S = 0.001  # how often an open loop looks which requests are due


@dataclass
class Tally:
    """What one run saw."""

    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    faults: int = 0
    hanging: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    replies: list[bytes] = field(default_factory=list)

    def add(self, status: int, seconds: float, body: bytes) -> None:
        """Count one response."""
        if status == 200:
            self.served.append(seconds)
            if len(self.replies) < 500:
                self.replies.append(body)
        elif status == 503:
            self.refused.append(seconds)
        else:
            self.faults += 1

    @property
    def rate(self) -> float:
        """Good responses a second."""
        return len(self.served) / self.wall_s


class Line(asyncio.Protocol):
    """One keep-alive connection that carries one request at a time."""

    def __init__(self, answered: Callable[["Line", int, bytes], None]) -> None:
        self.answered, self.buffer, self.due, self.busy = answered, b"", 0.0, False

    def connection_made(self, transport):
        """Begin."""
        self.transport = transport

    def ask(self, request: bytes, due: float) -> None:
        """Send a request; its time counts from when it was due."""
        self.due, self.busy = due, True
        self.transport.write(request)

    def data_received(self, data):
        """Collect a response, and hand it over when it is whole."""
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.buffer.lower().find(b"content-length: ", 0, head) + 16
        end = head + 4 + int(self.buffer[at : self.buffer.find(b"\r", at)])
        if len(self.buffer) >= end:
            status, body, self.buffer, self.busy = int(self.buffer[9:12]), self.buffer[head + 4 : end], b"", False
            self.answered(self, status, body)

    def connection_lost(self, _error):
        """Tell of a request that lost its answer."""
        if self.busy:
            self.busy = False
            self.answered(self, 0, b"")


async def connect(port: int, connections: int, answered: Callable[[Line, int, bytes], None]) -> list[Line]:
    """Open connections."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(lambda: Line(answered), "127.0.0.1", port))[1] for _ in range(connections)]


async def closed_loop(port: int, requests: Sequence[bytes], seconds: float, connections: int) -> Tally:
    """Keep every connection busy for some seconds; connection i sends requests i, i + connections, … over and over."""
    tally, turns = Tally(), {}

    def answered(line: Line, status: int, body: bytes) -> None:
        now = time.perf_counter()
        tally.add(status, now - line.due, body)
        if now < end and status:
            line.ask(next(turns[line]), now)

    lines = await connect(port, connections, answered)
    cpu, begun = time.process_time(), time.perf_counter()
    end = begun + seconds
    for index, line in enumerate(lines):
        turns[line] = _for_ever(requests[index::connections])
        line.ask(next(turns[line]), time.perf_counter())
    await asyncio.sleep(seconds)
    await _finish(tally, lines, cpu, begun)
    return tally


async def open_loop(port: int, requests: Sequence[bytes], seconds: float, connections: int, rate: float) -> Tally:
    """Send at a rate; a request that finds no free connection waits for one, and its time runs."""
    tally, free, late = Tally(), deque(), deque()

    def answered(line: Line, status: int, body: bytes) -> None:
        tally.add(status, time.perf_counter() - line.due, body)
        if late and status:
            line.ask(*late.popleft())
        elif status:
            free.append(line)

    lines = await connect(port, connections, answered)
    free.extend(lines)
    cpu, begun, index = time.process_time(), time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds:
        for number in range(index, int(now * rate)):
            ask = requests[number % len(requests)], begun + number / rate
            free.popleft().ask(*ask) if free else late.append(ask)
        index = max(index, int(now * rate))
        await asyncio.sleep(STEP_S)
    await _finish(tally, lines, cpu, begun)
    tally.hanging += len(late)
    return tally


async def _finish(tally: Tally, lines: Sequence[Line], cpu: float, begun: float) -> None:
    """Wait for the last answers, count who never got one, and hang up."""
    until = time.perf_counter() + PATIENCE_S
    while any(line.busy for line in lines) and time.perf_counter() < until:
        await asyncio.sleep(STEP_S)
    tally.wall_s, tally.cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    for line in lines:
        tally.hanging += line.busy
        line.busy = False
        line.transport.close()


def _for_ever(requests: Sequence[bytes]):
    """Go round."""
    while True:
        yield from requests


def write_request(path: str, body: bytes, headers: str = "") -> bytes:
    """Write a POST."""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def cpu_seconds(*pids: int) -> float:
    """Read what processes have used of the processor, all their threads together."""
    return sum(sum(map(int, _stat(pid)[11:13])) for pid in pids) / TICKS


def family(pid: int) -> list[int]:
    """List a process and all that it started."""
    found = [pid]
    for path in Path("/proc").glob("[0-9]*/stat"):
        if int(path.parent.name) not in found and int(_stat(int(path.parent.name))[1]) in found:
            found += family(int(path.parent.name))
    return found


def _stat(pid: int) -> list[str]:
    """Read a process's fields behind its name; zeros for one that has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 20


def memory_mb(pid: int) -> float:
    """Read the most memory that a process ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def wait_for(url: str, alive: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a server answers."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until and alive():
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url}: no answer within {seconds:.0f} s")


def quantile_ms(values: Sequence[float], q: float) -> float | None:
    """Return a quantile in milliseconds."""
    return round(1000 * float(np.quantile(values, q)), 2) if values else None
