"""`ossia serve` as a process: it serves, stops within five seconds, and forgets nothing when it is killed."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ossia.adaptation import Base, encode_profile, make_profile
from ossia.adaptation.keys import TrustedKeys
from ossia.adaptation.request import Ask, decode_reply, encode_ask
from ossia.device import Session, open_session
from ossia.service.tokens import enrolment_message
from ossia.types import Budget

PROGRAM = "from ossia.cli import main; main()"


@contextmanager
def serving(base: Path, data: Path, *options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Run `ossia serve` until the block ends; it is killed if it has not stopped by then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["serve", str(base), "--data", str(data), "--port", str(port), *options]
    server = subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(f"http://127.0.0.1:{port}", server)
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def wait_for(url: str, server: subprocess.Popen) -> None:
    for _ in range(600):
        assert server.poll() is None, server.stderr.read()
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the service did not begin within a minute")


def post(url: str, document: dict, token: str = "") -> dict:
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps(document).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


def enroll(url: str, key: Ed25519PrivateKey) -> dict:
    public, at = key.public_key().public_bytes_raw(), int(time.time())
    signature = key.sign(enrolment_message(public, at))
    return post(f"{url}/v1/devices", {"public": public.hex(), "at": at, "signature": signature.hex()})


@pytest.fixture
def ask(house) -> dict:
    base = Base.load(house.base)
    state = np.ones(base.manifest.shape["dim"], np.float32)
    return {"profile": encode_profile(make_profile(state, base.manifest.profile_clip)).hex(), "candidates": 3}


def receive(session: Session, told: dict) -> Session:
    session, receipt = session.receive(bytes.fromhex(told["payload"]), int(time.time()))
    assert receipt.accepted, receipt.reason
    return session


def test_a_device_goes_on_after_the_service_was_stopped_and_after_it_was_killed(house, ask: dict, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    with serving(house.base, tmp_path) as (server, url):
        known = enroll(url, key)
        verify = TrustedKeys.load(tmp_path / "keys" / "keys.json").verify
        session = open_session(Base.load(house.base), bytes.fromhex(known["device"]), verify=verify)
        told = post(f"{url}/v1/session", ask, known["token"])
        session = receive(session, told)
        assert len(told["candidates"]) == 3
        begun = time.monotonic()
        server.send_signal(signal.SIGTERM)
        server.wait(10)
        assert time.monotonic() - begun < 5
        assert "Traceback" not in server.stderr.read()
    assert not (tmp_path / "service.db-wal").exists()  # a clean stop leaves one file
    with serving(house.base, tmp_path) as (server, url):
        for _ in range(5):
            session = receive(session, post(f"{url}/v1/session", ask, known["token"]))
        server.kill()
    with serving(house.base, tmp_path) as (_, url):
        assert enroll(url, key)["sequence"] == session.highest == 6
        session = receive(session, post(f"{url}/v1/session", ask, known["token"]))
        assert session.highest == 7


async def flood(port: int, request: bytes, lines: int, each: int) -> list[tuple[int, bytes]]:
    """Ask over many connections at once, again and again; every request is waited for."""

    async def one() -> list[tuple[int, bytes]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        told = []
        for _ in range(each):
            writer.write(request)
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
            told.append((int(head[9:12]), await asyncio.wait_for(reader.readexactly(length), 30)))
        writer.close()
        return told

    return [told for line in await asyncio.gather(*(one() for _ in range(lines))) for told in line]


def test_a_flood_gets_an_answer_each_and_nothing_is_left_behind(house, tmp_path: Path) -> None:
    base = Base.load(house.base)
    profile = make_profile(np.ones(base.manifest.shape["dim"], np.float32), base.manifest.profile_clip)
    ask = encode_ask(Ask(base.id[:16], base.table.id[:16], Budget(), profile))
    with serving(house.base, tmp_path, "--batch", "2", "--waiting", "4", "--deadline", "20") as (server, url):
        known = enroll(url, Ed25519PrivateKey.generate())
        head = f"POST /v1/payload HTTP/1.1\r\nAuthorization: Bearer {known['token']}\r\nContent-Length: {len(ask)}\r\n\r\n"
        told = asyncio.run(flood(int(url.rpartition(":")[2]), head.encode() + ask, lines=64, each=10))
        counts = Counter(status for status, _ in told)
        assert set(counts) == {200, 503}
        assert counts.total() == 640
        assert all(json.loads(body)["name"] == "overloaded" for status, body in told if status == 503)
        sequences = [int.from_bytes(decode_reply(body).payload[60:68], "little") for status, body in told if status == 200]
        assert sorted(sequences) == list(range(1, counts[200] + 1))  # none given twice, none taken by a refusal
        with urllib.request.urlopen(f"{url}/health", timeout=10) as reply:
            assert json.load(reply)["in_flight"] == 0
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:
            assert f'ossia_refusals_total{{reason="overloaded"}} {counts[503]}.0' in reply.read().decode()
        server.send_signal(signal.SIGTERM)
        server.wait(10)
        assert "Traceback" not in server.stderr.read()
