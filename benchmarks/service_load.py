"""How many signed, durable payloads a second the service gives, load generator included.

    python benchmarks/service_load.py BASE [--seconds 10] [--rate 9000] [-- options of ossia serve]

Starts `ossia serve` on a folder of its own, enrolls devices, and asks over keep-alive connections in a closed loop: each of 64
connections sends its next ask when it has its reply. A sample of the payloads is decoded, signatures and sequences included.
With `--rate` it asks in an open loop instead: an ask is sent when its time has come, whatever the service does, as the world
does; then what counts is the goodput, how fast refusals come, and that nobody is left hanging.

The load generator speaks HTTP by hand over asyncio: a client library would use more of the two cores than the service does.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ossia.adaptation import Base, decode_payload, make_profile
from ossia.adaptation.keys import TrustedKeys
from ossia.adaptation.request import Ask, decode_reply, encode_ask
from ossia.service.tokens import enrolment_message
from ossia.types import Budget

TICKS = os.sysconf("SC_CLK_TCK")
SHARE = 0.7  # of the encoder's bytes at 8 bits: a budget that binds


@dataclass
class Tally:
    """What one run saw."""

    latencies: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    faults: int = 0
    replies: list[bytes] = field(default_factory=list)

    def add(self, status: int, seconds: float, body: bytes) -> None:
        """Count one response."""
        if status == 200:
            self.latencies.append(seconds)
            if len(self.replies) < 500:
                self.replies.append(body)
        elif status == 503:
            self.refusals.append(seconds)
        else:
            self.faults += 1


class Connection(asyncio.Protocol):
    """One keep-alive connection that carries one request at a time."""

    def connection_made(self, transport):
        """Begin."""
        self.transport, self.buffer, self.waiter = transport, b"", None

    def data_received(self, data):
        """Collect a response, and hand it over when it is whole."""
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        low = self.buffer[:head].lower()
        at = low.find(b"content-length: ") + 16
        length = int(low[at:].split(b"\r\n", 1)[0])
        if len(self.buffer) >= head + 4 + length:
            status, body = int(self.buffer[9:12]), self.buffer[head + 4 : head + 4 + length]
            self.buffer = self.buffer[head + 4 + length :]
            if self.waiter is not None and not self.waiter.done():
                self.waiter.set_result((status, body))

    def connection_lost(self, _error):
        """Tell who waits."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(ConnectionError("closed"))

    async def ask(self, request):
        """Send one request and wait for its response."""
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.waiter


async def connect(port, connections):
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(connections)]


async def closed_loop(port, requests, seconds, connections):
    tally, end = Tally(), time.perf_counter() + seconds

    async def one(connection, mine):
        index = 0
        while (now := time.perf_counter()) < end:
            status, body = await connection.ask(mine[index % len(mine)])
            tally.add(status, time.perf_counter() - now, body)
            index += 1

    lines = await connect(port, connections)
    await asyncio.gather(*(one(line, requests[index::connections]) for index, line in enumerate(lines)))
    for line in lines:
        line.transport.close()
    return tally


async def open_loop(port, requests, seconds, connections, rate):
    """Send at a rate; an ask that finds no free connection counts from when it should have been sent."""
    tally, free, tasks = Tally(), asyncio.Queue(), set()
    for line in await connect(port, connections):
        free.put_nowait(line)

    async def one(request, due):
        line = await free.get()
        try:
            status, body = await asyncio.wait_for(line.ask(request), 10)
            tally.add(status, time.perf_counter() - due, body)
        except (TimeoutError, ConnectionError):
            tally.faults += 1
        free.put_nowait(line)

    begun, index = time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds:
        while index < now * rate:
            task = asyncio.create_task(one(requests[index % len(requests)], begun + index / rate))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            index += 1
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    return tally


def post(port, path, document):
    data = json.dumps(document).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def make_requests(base, port, devices):
    """Enroll devices, and write their asks."""
    rng = np.random.default_rng(0)
    whole = sum(slot.channels * slot.inputs for slot in base.manifest.slots)
    floats = sum(array.nbytes for array in base.floats.values())
    budget = Budget(weight_bytes=int(SHARE * whole) + floats)
    made = []
    for _ in range(devices):
        key, at = Ed25519PrivateKey.generate(), int(time.time())
        public = key.public_key().public_bytes_raw()
        signature = key.sign(enrolment_message(public, at))
        token = post(port, "/v1/devices", {"public": public.hex(), "at": at, "signature": signature.hex()})["token"]
        state = rng.standard_normal(base.manifest.shape["dim"], np.float32)
        ask = encode_ask(Ask(base.id[:16], base.table.id[:16], budget, make_profile(state, base.manifest.profile_clip)))
        head = f"POST /v1/payload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(ask)}\r\n\r\n"
        made.append(head.encode() + ask)
    return made


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmHWM", "VmRSS"))}


def wait_for(port, server):
    for _ in range(300):
        if server.poll() is not None:
            raise SystemExit("the service ended before it began")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the service did not answer within 30 s")


def check(base, data, replies):
    """Hold a sample of payloads to the keys, and sequences to be all different for a device."""
    verify, seen = TrustedKeys.load(data / "keys" / "keys.json").verify, set()
    for reply in replies:
        header = decode_payload(base, decode_reply(reply).payload, verify=verify).header
        assert (header.device_id, header.sequence) not in seen
        seen.add((header.device_id, header.sequence))
    return len(seen)


def quantile(values, q):
    return round(1000 * float(np.quantile(values, q)), 2) if values else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--personalizer", default="chord")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--rate", type=float, help="open loop: asks a second")
    parser.add_argument("--port", type=int, default=8931)
    parser.add_argument("serve", nargs="*", help="options for `ossia serve`, after --")
    options = parser.parse_args()
    base = Base.load(options.base)
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "serve",
            str(options.base),
            "--data",
            folder,
            "--port",
            str(options.port),
            "--personalizer",
            options.personalizer,
        ]
        program = "from ossia.cli import main; main()"
        server = subprocess.Popen([sys.executable, "-c", program, *words, *options.serve])
        try:
            wait_for(options.port, server)
            requests = make_requests(base, options.port, options.devices)
            asyncio.run(closed_loop(options.port, requests, 1.0, options.connections))  # warm
            cpu, begun = cpu_seconds(server.pid), time.perf_counter()
            if options.rate:
                run = open_loop(options.port, requests, options.seconds, 8 * options.connections, options.rate)
            else:
                run = closed_loop(options.port, requests, options.seconds, options.connections)
            tally = asyncio.run(run)
            wall, cpu = time.perf_counter() - begun, cpu_seconds(server.pid) - cpu
            with urllib.request.urlopen(f"http://127.0.0.1:{options.port}/health", timeout=5) as reply:
                in_flight = json.load(reply)["in_flight"]
            memory, stop = memory_mb(server.pid), time.perf_counter()
            server.send_signal(signal.SIGTERM)
            server.wait(10)
            result = {
                "payloads_per_s": round(len(tally.latencies) / wall),
                "server_cpu_us_each": round(1e6 * cpu / max(1, len(tally.latencies) + len(tally.refusals))),
                "p50_ms": quantile(tally.latencies, 0.5),
                "p99_ms": quantile(tally.latencies, 0.99),
                "refused_per_s": round(len(tally.refusals) / wall),
                "refusal_p99_ms": quantile(tally.refusals, 0.99),
                "faults": tally.faults,
                "checked": check(base, Path(folder), tally.replies),
                "in_flight_after": in_flight,
                "memory_mb": memory,
                "stopped_in_s": round(time.perf_counter() - stop, 2),
                "exit": server.returncode,
            }
        finally:
            server.kill()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
