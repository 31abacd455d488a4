"""`ossia serve` as a process: it serves, stops within five seconds, and forgets nothing when it is killed."""

import json
import signal
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ossia.adaptation import Base, encode_profile, make_profile
from ossia.adaptation.keys import TrustedKeys
from ossia.device import Session, open_session
from ossia.service.tokens import enrolment_message


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


def test_a_device_goes_on_after_the_service_was_stopped_and_after_it_was_killed(
    house, serving, ask: dict, tmp_path: Path
) -> None:
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
