"""The service from outside, over ASGI and without a socket: what it gives, what it refuses, and under which name."""

import asyncio
import hashlib
import json
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_client import Client, Response, beyond, binary, budget, enroll, profile, session_request

from ossia.adaptation import Base, costs, decode_payload, make_profile
from ossia.adaptation.held_rows import encode_held, join_rows, missing_rows
from ossia.adaptation.keys import TrustedKeys
from ossia.adaptation.request import Reply, decode_reply
from ossia.device import open_session
from ossia.device.ranking import top_k
from ossia.errors import PayloadError
from ossia.service.app import Service
from ossia.service.serve import open_service
from ossia.types import Budget


@pytest.fixture
def service(published: Base, tmp_path: Path):
    made = open_service(published.path, tmp_path / "data", deadline_s=30.0)  # a busy machine is not what is tested
    yield made
    made.batcher.close()
    made.issuer.store.close()


def test_an_enrolled_device_gets_a_payload_that_its_session_accepts(service: Service, published: Base, tmp_path: Path) -> None:
    client, device = enroll(service)
    assert client.ask("GET", "/v1/keys").body == (tmp_path / "data" / "keys" / "keys.json").read_bytes()
    verify = TrustedKeys.load(tmp_path / "data" / "keys" / "keys.json").verify
    session = open_session(published, device, verify=verify)
    for sequence in (1, 2):
        told = client.ask("POST", "/v1/payload", binary(published))
        assert told.status == 200, told.body
        session, receipt = session.receive(decode_reply(told.body).payload, int(time.time()))
        assert receipt.accepted, receipt.reason
        assert session.highest == sequence


def test_the_budget_is_kept_and_the_rows_are_those_that_the_payload_vouches_for(service: Service, published: Base) -> None:
    client, _ = enroll(service)
    reply = decode_reply(client.ask("POST", "/v1/payload", binary(published, rows=True)).body)
    adaptation = decode_payload(published, reply.payload, verify=lambda *_: None).adaptation
    found, limits = costs(published, adaptation, signed=True), budget(published)
    assert 0.9 * limits.table_bytes <= found.table_bytes <= limits.table_bytes
    assert found.weight_bytes <= limits.weight_bytes
    assert hashlib.sha256(reply.rows).digest() == published.table.digest_rows(adaptation.rows)
    assert hashlib.sha256(reply.rows).digest() == reply.payload[-96:-64]


def test_candidates_are_the_exact_best_of_the_base_less_those_blocked(service: Service, published: Base) -> None:
    client, _ = enroll(service)
    scores = published.table.whole.dequantize() @ profile(published).state
    best = top_k(scores, 12)
    reply = decode_reply(client.ask("POST", "/v1/payload", binary(published, candidates=7)).body)
    assert reply.candidates.tolist() == best[:7].tolist()
    blocked = [published.table.ids[row] for row in best[:3]]
    told = client.post("/v1/session", session_request(published, candidates=5, block=[*blocked, "no such item"]))
    assert told.json["candidates"] == [published.table.ids[row] for row in best[3:8]]


def test_a_user_without_a_history_is_offered_what_is_popular(service: Service, published: Base) -> None:
    client, _ = enroll(service)
    nobody = make_profile(np.zeros(published.manifest.shape["dim"], np.float32), 1.0)
    reply = decode_reply(client.ask("POST", "/v1/payload", binary(published, profile=nobody, candidates=5)).body)
    assert reply.candidates.tolist() == published.table.popularity[:5].tolist()


def test_json_and_binary_give_the_same_adaptation(service: Service, published: Base) -> None:
    client, _ = enroll(service)
    told = client.post("/v1/session", session_request(published)).json
    reply = decode_reply(client.ask("POST", "/v1/payload", binary(published)).body)
    assert (told["sequence"], len(told["payload"])) == (1, 2 * len(reply.payload))
    assert bytes.fromhex(told["payload"])[80:-64] == reply.payload[80:-64]


def test_many_ask_at_once_and_each_gets_the_bytes_that_it_would_get_alone(service: Service, published: Base) -> None:
    clients = [enroll(service)[0] for _ in range(6)]

    async def scene() -> list[Reply]:
        asks = (client.send("POST", "/v1/payload", binary(published, seed)) for seed, client in enumerate(clients))
        return [decode_reply(told.body) for told in await asyncio.gather(*asks)]

    together = asyncio.run(scene())
    alone = [decode_reply(client.ask("POST", "/v1/payload", binary(published, i)).body) for i, client in enumerate(clients)]
    assert [each.payload[80:-64] for each in together] == [each.payload[80:-64] for each in alone]
    assert len({each.payload[80:-64] for each in together}) > 3


def test_a_refresh_brings_the_rows_that_are_missing_and_no_others(service: Service, published: Base) -> None:
    """Both ways of asking; and whoever claims what he does not hold finds out by the digest."""
    client, _ = enroll(service)
    first, alone = (personal_rows(published, client, seed) for seed in (1, 2))
    assert first.rows == published.table.row_bytes(first.codes)
    held = encode_held(first.codes)
    second = personal_rows(published, client, 2, held)
    assert second.rows == missing_rows(published.table, second.codes, first.codes)
    assert len(second.rows) < len(missing_rows(published.table, alone.codes, first.codes)) < len(alone.rows)
    assert np.array_equal(np.sort(second.codes), np.sort(alone.codes))  # as many rows, at the same widths
    widths = tuple(published.table.planes[name].shape[1] for name in ("plane2", "plane4", "plane8"))
    whole = published.table.row_bytes(second.codes)
    assert join_rows(widths, second.codes, first.codes, first.rows, second.rows) == whole
    with pytest.raises(PayloadError, match="rows: expected"):
        join_rows(widths, second.codes, np.zeros_like(first.codes), b"", second.rows)
    told = client.post("/v1/session", session_request(published) | {"held": held.hex()}).json
    plain = client.post("/v1/session", session_request(published) | {"rows": True}).json
    assert 0 < len(told["rows"]) < len(plain["rows"])


@dataclass(frozen=True)
class Rows:
    """What a user's payload names, and the bytes of it."""

    codes: np.ndarray
    rows: bytes


def personal_rows(base: Base, client: Client, seed: int, held: bytes = b"") -> Rows:
    reply = decode_reply(client.ask("POST", "/v1/payload", binary(base, seed, rows=True, held=held)).body)
    return Rows(decode_payload(base, reply.payload, verify=lambda *_: None).adaptation.rows, reply.rows)


def flagged(base: Base, flags: int) -> bytes:
    return binary(base)[:5] + bytes([flags]) + binary(base)[6:]


def holding(base: Base, lists: bytes) -> bytes:
    return flagged(base, 3) + lists


REFUSED = {
    "no token": ("", lambda base: binary(base), 401, "unauthorized"),
    "another's token": ("ab" * 36, lambda base: binary(base), 401, "unauthorized"),
    "cut": (None, lambda base: binary(base)[:-1], 400, "truncated"),
    "too long": (None, lambda base: binary(base) + b"\0", 413, "too_large"),
    "longer than any lists of rows": (None, lambda base: holding(base, bytes(20_000)), 413, "too_large"),
    "rows that the table does not have": (None, lambda base: holding(base, b"\x01\xff\x7f\0\0"), 400, "malformed"),
    "rows that are no lists": (None, lambda base: holding(base, b"\x80"), 400, "malformed"),
    "rows held, and none wanted": (None, lambda base: flagged(base, 2) + b"\0\0\0", 400, "malformed"),
    "other base": (None, lambda base: binary(base, base_id=bytes(16)), 409, "another_base"),
    "other table": (None, lambda base: binary(base, table_id=bytes(16)), 409, "another_table"),
    "a state beyond the clip": (None, lambda base: binary(base, profile=beyond(base)), 400, "malformed"),
    "too small a budget": (None, lambda base: binary(base, budget=Budget(weight_bytes=1)), 422, "budget"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_an_ask_is_named_and_takes_no_sequence(service: Service, published: Base, case: str) -> None:
    token, make, status, name = REFUSED[case]
    client, device = enroll(service)
    told = (client if token is None else Client(service, token)).ask("POST", "/v1/payload", make(published))
    assert (told.status, told.json["name"]) == (status, name)
    assert service.issuer.store.device(device).sequence == 0
    assert client.ask("POST", "/v1/payload", binary(published)).status == 200
    assert f'ossia_refusals_total{{reason="{name}"}} 1.0' in client.ask("GET", "/metrics").body.decode()


def test_a_full_queue_says_no_before_it_reads_and_when_to_come_again(service: Service, published: Base) -> None:
    client, _ = enroll(service)
    service.batcher._queue.extend([None] * 128)  # type: ignore[list-item]
    told = asyncio.run(client.send("POST", "/v1/payload", hang=True))
    assert (told.status, told.json["name"], told.headers["retry-after"]) == (503, "overloaded", "30")
    assert b'"overloaded"' in (service.refuse() or b"")  # the short way
    service.batcher._queue.clear()
    assert service.refuse() is None
    assert client.ask("POST", "/v1/payload", binary(published)).status == 200
    assert 'ossia_refusals_total{reason="overloaded"} 2.0' in client.ask("GET", "/metrics").body.decode()


def test_a_body_that_never_ends_is_not_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ossia.service.bodies.BODY_S", 0.1)
    client, _ = enroll(service)
    for path in ("/v1/payload", "/v1/session"):
        assert asyncio.run(client.send("POST", path, b"{", hang=True)).status == 408
    assert asyncio.run(client.send("POST", "/v1/payload", *[b"x" * 1000] * 19, hang=True)).status == 413


@pytest.mark.parametrize(
    ("path", "document", "complaint"),
    [
        ("/v1/session", {"profile": "zz"}, "$.profile"),
        ("/v1/session", {"profile": "00", "more": 1}, "unknown field `more`"),
        ("/v1/session", {"profile": "0" * 24, "budget": {"weight_bytes": 0}}, "$.budget.weight_bytes"),
        ("/v1/session", {"profile": "00"}, "profile: expected 12 bytes"),
        ("/v1/session", [], "Expected `object`"),
        ("/v1/devices", {"public": "00", "at": 1, "signature": ""}, "$.public"),
        ("/v1/feedback", {"events": ["a"]}, "consent"),
        ("/v1/feedback", {"consent": False, "events": ["a"]}, "$.consent"),
    ],
)
def test_a_crooked_document_is_refused_with_the_place(service: Service, path: str, document: object, complaint: str) -> None:
    told = enroll(service)[0].post(path, document)
    assert told.status == 400
    assert complaint in told.json["error"]


def test_erasure_forgets_the_device_and_its_token_gets_nothing_more(service: Service, published: Base, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    client, device = enroll(service, key)
    assert client.post("/v1/feedback", {"consent": True, "events": ["canary-of-an-item"]}).json == {"kept": 1}
    assert client.ask("GET", "/health").json == {"status": "ok", "devices": 1, "feedback": 1, "in_flight": 0}
    assert client.ask("DELETE", "/v1/devices").json == {"erased": True}
    content = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir() if path.is_file())
    assert device not in content
    assert key.public_key().public_bytes_raw() not in content
    assert b"canary" not in content
    assert client.ask("POST", "/v1/payload", binary(published)).status == 401
    assert client.post("/v1/feedback", {"consent": True, "events": ["a"]}).status == 400
    assert client.ask("DELETE", "/v1/devices").json == {"erased": False}


def test_no_metric_and_no_log_names_a_device_or_an_item(
    service: Service, published: Base, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    client, device = enroll(service)
    client.ask("POST", "/v1/payload", binary(published))
    client.post("/v1/session", session_request(published, candidates=3, block=["item-3"]))
    client.post("/v1/feedback", {"consent": True, "events": ["item-7"]})
    client.ask("GET", f"/v1/{device.hex()}")
    client.ask("GET", "/v1/artifacts/item-9")
    told = client.ask("GET", "/metrics").body.decode()
    assert "ossia_payloads_total 2.0" in told
    said = told + caplog.text + "".join(capfd.readouterr())
    assert device.hex() not in said
    assert client.token not in said
    assert "item-" not in said


def test_a_base_is_fetched_by_address_in_ranges_and_kept_for_ever(service: Service, published: Base) -> None:
    client = Client(service)
    release = client.ask("GET", "/v1/release").json
    assert (release["base"], release["table"]) == (published.id.hex(), published.table.id.hex())
    for address, path in ((release["base"], "manifest.json"), (release["table"], "table/manifest.json")):
        content = client.ask("GET", f"/v1/artifacts/{address}").body
        assert content == (published.path / path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == address
    for name, entry in json.loads((published.path / "manifest.json").read_bytes())["files"].items():
        whole, address = (published.path / name).read_bytes(), f"/v1/artifacts/{entry['sha256']}"
        told = client.ask("GET", address)
        assert (told.status, told.body, told.headers["cache-control"]) == (200, whole, "public, max-age=31536000, immutable")
        half = len(whole) // 2
        first = client.ask("GET", address, range=f"bytes=0-{half - 1}")
        rest = client.ask("GET", address, range=f"bytes={half}-", if_range=told.headers["etag"])
        assert (first.status, rest.status, first.body + rest.body) == (206, 206, whole)
        assert client.ask("GET", address, range=f"bytes={len(whole)}-").status == 416
        again = client.ask("GET", address, if_none_match=told.headers["etag"])
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("address", ["0" * 64, "..%2f..%2fkeys", "../keys/keys.json", "%00", ""])
def test_nothing_else_is_fetched(service: Service, address: str) -> None:
    assert Client(service).ask("GET", f"/v1/artifacts/{address}").status in (404, 307)


def test_the_json_surface_is_described_and_its_references_hold(service: Service) -> None:
    page = Client(service).ask("GET", "/openapi.json").json
    assert page["openapi"].startswith("3.1")
    text = json.dumps(page)
    for name in page["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in text
    served = {route.path for route in service._people.routes}  # type: ignore[attr-defined]
    assert set(page["paths"]) <= served
    assert "PrivateKey" not in text


def test_the_clock_of_a_key_bounds_every_payload(published: Base, tmp_path: Path) -> None:
    service = open_service(published.path, tmp_path)
    object.__setattr__(service.issuer, "life_s", 10_000 * 86_400)
    client, _ = enroll(service)
    told = client.post("/v1/session", session_request(published)).json
    assert told["expiry"] == service.issuer.signer.expiry
    late = Client(service, service.tokens.make(bytes(16), service.issuer.signer.expiry))
    object.__setattr__(service, "clock", lambda: float(service.issuer.signer.expiry))
    assert "rotate" in late.post("/v1/session", session_request(published)).json["error"]
    service.batcher.close()
    service.issuer.store.close()


def test_every_flipped_bit_of_an_ask_and_of_a_token_is_served_or_refused_by_a_name(service: Service, published: Base) -> None:
    client, _ = enroll(service)
    data = binary(published, candidates=2)

    async def scene() -> list[Response]:
        found = []
        for at in range(len(data)):
            flipped = [data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :] for bit in range(8)]
            found += await asyncio.gather(*(client.send("POST", "/v1/payload", each) for each in flipped))
        for at in range(len(client.token)):
            other = Client(service, client.token[:at] + ("0" if client.token[at] != "0" else "1") + client.token[at + 1 :])
            found.append(await other.send("POST", "/v1/payload", data))
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # an overflow on a stranger's numbers becomes a fault, and is seen
        told = asyncio.run(scene())
    names = {each.json["name"] for each in told if each.status != 200}
    assert {each.status for each in told} == {200, 400, 401, 409, 422}
    assert names == {"malformed", "unauthorized", "another_base", "another_table", "budget"}
    assert sum(each.status == 401 for each in told) == len(client.token)
    assert service.batcher.in_flight == 0


FIELDS = ["profile", "budget", "weight_bytes", "candidates", "block", "public", "at", "signature", "consent", "events"]
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
NESTED = partial(st.dictionaries, st.sampled_from(FIELDS), max_size=5)
DOCUMENTS = st.recursive(LEAVES, lambda inner: NESTED(inner | st.lists(inner, max_size=3)), max_leaves=8)


@pytest.fixture
def guest(service: Service) -> Client:
    return enroll(service)[0]


@given(DOCUMENTS)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_document_is_served_or_refused_by_a_name(guest: Client, document: object) -> None:
    for path in ("/v1/session", "/v1/devices", "/v1/feedback", "/v1/guard"):
        told = guest.post(path, document)
        assert told.status == 200 or (told.status in (400, 401, 409, 422) and told.json["name"]), told
