"""Releases behind a running service: handed out, judged by those who have them, halted; and old bases and tables served on."""

import asyncio
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from service_client import Client, binary, enroll, profile, session_request

pytest.importorskip("tuf")

from ossia.adaptation import Base
from ossia.adaptation.keys import TrustedKeys
from ossia.adaptation.request import decode_reply
from ossia.adaptation.table import write_table
from ossia.device import open_session
from ossia.device.update import begin, release_folder, update
from ossia.errors import UsageError
from ossia.service import repository
from ossia.service.app import Service
from ossia.service.edition import read_edition
from ossia.service.release_keys import load_keyring, make_release_key
from ossia.service.serve import open_service

DAY = 86_400


@pytest.fixture
def repo(published: Base, tmp_path: Path) -> Path:
    for role, where in (("root", "off"), ("targets", "off"), ("online", "on")):
        make_release_key(tmp_path / where, role)
    keys, now = load_keyring([tmp_path / "off", tmp_path / "on"]), int(time.time())
    repository.create(tmp_path / "repo", keys, now)
    repository.publish_release(tmp_path / "repo", keys, published.path, now, percent=100)
    repository.publish_release(tmp_path / "repo", keys, published.path, now, percent=10)
    return tmp_path / "repo"


@pytest.fixture
def service(published: Base, repo: Path, tmp_path: Path):
    made = open_service(published.path, tmp_path / "data", releases=repo, online=tmp_path / "on", deadline_s=30.0)
    yield made
    made.batcher.close()
    made.issuer.store.close()


def test_a_device_updates_from_the_service_itself(service: Service, repo: Path, published: Base, tmp_path: Path) -> None:
    client = Client(service)

    def mirror(path: str, start: int = 0):
        told = client.ask("GET", f"/v1/repository/{path}", **({"range": f"bytes={start}-"} if start else {}))
        if told.status not in (200, 206):
            raise FileNotFoundError(path)
        fetched[path] = fetched.get(path, 0) + (breaks := path.endswith("plane8.safetensors") and not start)
        return iter([told.body[: 100 if breaks else None]])

    fetched: dict[str, int] = {}
    begin(tmp_path / "device", (repo / "metadata" / "1.root.json").read_bytes())
    broken = [update(tmp_path / "device", [mirror], int(time.time())).refused[0].refusal for _ in range(2)]
    assert broken == ["other_bytes"] * 2  # twice a file that ended after 100 bytes, and goes on there
    done = update(tmp_path / "device", [mirror], int(time.time()))
    assert max(fetched.values()) == 1
    assert done.refused == ()
    assert Base.load(release_folder(tmp_path / "device", done.release)).id == published.id
    stamp, plane = (client.ask("GET", f"/v1/repository/{path}").headers["cache-control"] for path in (
        "metadata/timestamp.json", "metadata/1.root.json"))  # fmt: skip
    assert (stamp, "immutable" in plane) == ("no-cache", True)


OUTSIDE = [".lock", "metadata/../../on", "../on", "metadata/.hidden", "metadata", "targets/%00", "data/service.db"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_else_of_the_machine_is_handed_out(service: Service, path: str) -> None:
    assert Client(service).ask("GET", f"/v1/repository/{path}").status == 404


def test_complaints_of_many_devices_halt_a_release_and_none_takes_it_any_more(service: Service, repo: Path) -> None:
    clients = [enroll(service)[0] for _ in range(24)]
    told = [client.post("/v1/guard", {"release": 2, "worse": index % 2 == 0}) for index, client in enumerate(clients)]
    assert all(each.status == 200 for each in told)
    halted = [index for index, each in enumerate(told) if each.json["halted"]]
    assert halted == [19]
    assert read_edition(repo).rollout.halted == (2,)
    assert "ossia_halts_total 1.0" in Client(service).ask("GET", "/metrics").body.decode()


def test_one_device_however_loud_and_a_release_that_is_settled_halt_nothing(service: Service, repo: Path) -> None:
    client, _ = enroll(service)
    for _ in range(60):
        assert client.post("/v1/guard", {"release": 2, "worse": True}).json == {"halted": False}
    for each in [enroll(service)[0] for _ in range(30)]:
        each.post("/v1/guard", {"release": 1, "worse": True})
    assert read_edition(repo).rollout.halted == ()
    assert client.post("/v1/guard", {"release": 9, "worse": True}).status == 400
    assert Client(service).post("/v1/guard", {"release": 2, "worse": True}).status == 401


def test_without_the_online_key_nothing_is_halted_nor_renewed(service: Service, repo: Path) -> None:
    from ossia.service.guard import Guard

    late = int(time.time()) + 2 * DAY
    blind = Guard(repo, load_keyring([]))
    assert not blind.renew(late)
    assert not blind.judge(2, 100, 100, late)
    assert not service.guard.renew(int(time.time()))
    assert service.guard.renew(late)
    assert read_edition(repo).timestamp.expires.timestamp() > late + 2 * DAY


def test_a_service_and_an_operator_who_edit_at_once_lose_nothing(repo: Path, tmp_path: Path) -> None:
    keys, now, before = load_keyring([tmp_path / "on"]), int(time.time()), read_edition(repo).timestamp.version

    async def scene() -> None:
        await asyncio.gather(*(asyncio.to_thread(repository.refresh, repo, keys, now) for _ in range(8)),
                             asyncio.to_thread(repository.halt, repo, keys, now))  # fmt: skip

    asyncio.run(scene())
    assert read_edition(repo).timestamp.version == before + 9
    assert read_edition(repo).rollout.halted == (2,)


class _Page(HTMLParser):
    """Checks that tags are closed in order, and keeps the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data if self.open[-1:] != ["style"] else ""


def test_the_operators_page_tells_what_goes_on_and_names_nobody(service: Service, published: Base, repo: Path) -> None:
    client, device = enroll(service)
    assert "nothing yet" in client.ask("GET", "/operator").body.decode()
    client.ask("POST", "/v1/payload", binary(published))
    client.ask("POST", "/v1/payload", binary(published, base_id=bytes(16)))
    client.post("/v1/session", session_request(published, candidates=3, block=["item-3"], offer=["item-5"]))
    client.post("/v1/guard", {"release": 2, "worse": True})
    told = client.ask("GET", "/operator")
    page = _Page()
    page.feed(told.body.decode())
    assert (told.status, page.open) == (200, [])
    for part in ("devices1", "given out2", "another_base1", "2for 10 %11", "1for everybody00", "200 guard1"):
        assert part in page.text, part
    for secret in (device.hex(), client.token, "item-", "Title"):
        assert secret not in told.body.decode()
    assert "<script" not in told.body.decode()


def test_metrics_and_logs_of_releases_name_nobody(
    service: Service, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    client, device = enroll(service)
    client.post("/v1/guard", {"release": 2, "worse": True})
    client.ask("GET", f"/v1/repository/{device.hex()}/item-3")
    said = client.ask("GET", "/metrics").body.decode() + caplog.text + "".join(capfd.readouterr())
    assert 'route="guard"' in said
    assert device.hex() not in said
    assert "item-" not in said


def with_longer_table(base: Base, folder: Path) -> Base:
    """The base with two more items, as a release of a table alone."""
    shutil.copytree(base.path, folder)
    shutil.rmtree(folder / "table")
    vectors = np.vstack([base.table.whole.dequantize(), 3 * np.ones((2, 8), np.float32)])
    counts = np.concatenate([base.table.counts, np.zeros(2, np.float32)])
    titles = [*base.table.titles, "New", "Newer"]
    write_table(folder / "table", vectors, [*base.table.ids, "new", "newer"], counts, titles=titles, extends=base.table)
    return Base.load(folder)


def test_while_new_items_are_on_their_way_both_tables_are_served(published: Base, tmp_path: Path) -> None:
    longer = with_longer_table(published, tmp_path / "longer")
    assert (longer.id, longer.table.id == published.table.id) == (published.id, False)
    service = open_service(longer.path, tmp_path / "data", also=[published.path], deadline_s=30.0)
    client, device = enroll(service)
    verify = TrustedKeys.load(tmp_path / "data" / "keys" / "keys.json").verify
    replies = {base: decode_reply(client.ask("POST", "/v1/payload", binary(base)).body) for base in (published, longer)}
    refusals = {
        (holds, sent): open_session(holds, device, verify=verify).receive(replies[sent].payload, int(time.time()))[1].refusal
        for holds in replies
        for sent in replies
    }
    assert refusals.pop((published, longer)) == "another_table"
    assert set(refusals.values()) == {None}  # a payload for the older table goes on working where the longer one is
    told = client.post("/v1/session", session_request(published, table=published.table.id.hex(), offer=["new", "item-3"]))
    assert told.json["candidates"] == ["item-3"]
    assert client.ask("POST", "/v1/payload", binary(published, base_id=bytes(16))).json["name"] == "another_base"
    assert client.ask("POST", "/v1/payload", binary(published, table_id=bytes(16))).json["name"] == "another_table"
    for base in (published, longer):
        assert client.ask("GET", f"/v1/artifacts/{base.table.id.hex()}").status == 200
    service.batcher.close()
    service.issuer.store.close()


def test_candidates_come_from_the_callers_own_retrieval_if_there_is_one(service: Service, published: Base) -> None:
    client, _ = enroll(service)
    scores = published.table.whole.dequantize() @ profile(published).state
    offered = [3, 17, 30, 5, 8]
    best = [published.table.ids[row] for row in sorted(offered, key=lambda row: -scores[row])]
    items = [published.table.ids[row] for row in offered]

    def shown(**more: object) -> list[str]:
        return client.post("/v1/session", session_request(published, offer=[*items, "unknown"], **more)).json["candidates"]

    assert shown() == best
    assert shown(candidates=2) == best[:2]
    assert shown(block=best[:1]) == best[1:]
    assert client.post("/v1/session", session_request(published, offer=["unknown"], candidates=3)).json["candidates"] == []


def test_json_brings_the_same_rows_as_the_binary_path(service: Service, published: Base) -> None:
    client, _ = enroll(service)
    reply = decode_reply(client.ask("POST", "/v1/payload", binary(published, rows=True)).body)
    assert reply.rows
    assert client.post("/v1/session", session_request(published, rows=True)).json["rows"] == reply.rows.hex()
    assert client.post("/v1/session", session_request(published)).json["rows"] == ""


def test_a_stateless_service_serves_and_keeps_nothing_of_anybody(published: Base, tmp_path: Path) -> None:
    told: list[int] = []
    for _ in range(2):  # and once more after a restart
        service = open_service(published.path, tmp_path / "data", stateless=True, deadline_s=30.0)
        (client, device), (other, stranger) = enroll(service), enroll(service)
        verify = TrustedKeys.load(tmp_path / "data" / "keys" / "keys.json").verify
        session = open_session(published, device, verify=verify, counts={0: max(told, default=0)})
        for _ in range(3):
            other.ask("POST", "/v1/payload", binary(published))
            reply = decode_reply(client.ask("POST", "/v1/payload", binary(published)).body)
            session, receipt = session.receive(reply.payload, int(time.time()))
            assert receipt.accepted, receipt.reason
            told.append(session.highest)
        assert client.post("/v1/feedback", {"consent": True, "events": ["item-3"]}).status == 400
        assert client.ask("GET", "/health").json["devices"] == 0
        assert client.ask("DELETE", "/v1/devices").json == {"erased": False}
        content = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
        assert not any(secret in content for secret in (device, stranger, device.hex().encode(), b"item-"))
        service.batcher.close()
        service.issuer.store.close()
    assert told == sorted(set(told))


def test_a_folder_that_promised_to_remember_is_not_opened_stateless(published: Base, tmp_path: Path) -> None:
    service = open_service(published.path, tmp_path, deadline_s=30.0)
    enroll(service)
    service.batcher.close()
    service.issuer.store.close()
    with pytest.raises(UsageError, match="expected a store without devices, found 1"):
        open_service(published.path, tmp_path, stateless=True)


def test_a_repository_that_is_not_there_is_said_at_once(published: Base, tmp_path: Path) -> None:
    service = open_service(published.path, tmp_path / "data", deadline_s=30.0)
    client, _ = enroll(service)
    assert client.ask("GET", "/v1/repository/metadata/timestamp.json").status == 404
    assert client.post("/v1/guard", {"release": 1, "worse": True}).status == 400
    assert client.ask("GET", "/operator").status == 200
    service.batcher.close()
    service.issuer.store.close()
