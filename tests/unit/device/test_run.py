"""A running device: no ranking waits for a network, whoever answers; and nothing of the history is in what leaves."""

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, encode_payload
from ossia.adaptation.enrolment import device_of
from ossia.adaptation.request import Reply, encode_reply
from ossia.device.client import exchange
from ossia.device.exchange import NO_ANSWER, Request
from ossia.device.following import News
from ossia.device.home import FILE, Home, Keeper
from ossia.device.kept import exchanges, new_kept
from ossia.device.policy import always
from ossia.device.resident import open_resident
from ossia.device.run import Came, Click, Device, End, Ranked
from ossia.device.settings import Settings
from ossia.errors import UsageError
from ossia.files import Disk

SECRET = bytes(range(32))
DEVICE = device_of(new_kept(SECRET).public)
SETTINGS = Settings(policy=always, allow_unsigned=True, guard=None)


def http(body: bytes, status: str = "200 OK", head: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{head}\r\n".encode() + body


class Service(socketserver.ThreadingTCPServer):
    """Listens, remembers every byte, and behaves as it is told."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, behave) -> None:
        self.heard, self.behave = bytearray(), behave
        super().__init__(("127.0.0.1", 0), Connection)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.request.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        while len(body) < length:
            body += self.request.recv(65536)
        self.server.heard += head + body
        with suppress(OSError):  # the device had enough of it
            self.server.behave(self.request, head.split(b" ")[1])


def silent(connection, _path) -> None:
    time.sleep(30)


def endless(connection, _path) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(bytes(65536))


def dripping(connection, _path) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b".")
        time.sleep(0.1)


def broken(connection, _path) -> None:
    connection.sendall(http(b"x" * 100)[:-50])


def closing(connection, _path) -> None:
    connection.close()


def babbling(connection, _path) -> None:
    connection.sendall(b"\xff\x00 what?\r\n\r\n")


@pytest.fixture
def serve() -> Iterator:
    servers = []

    def start(behave) -> Service:
        servers.append(Service(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def device(base: Base, folder: Path, **changed: object) -> Device:
    kept = msgspec.structs.replace(new_kept(SECRET), **changed)
    return Device(Keeper(Home(folder), open_resident(kept, base, SETTINGS)), top=5)


def live(lives: Device, items: list[str], *, linger_s: float = 0.0) -> tuple[list[Ranked], list]:
    ranked: list[Ranked] = []
    for item in items:
        lives.events.put(Click(item, ranked.append))
    lives.events.put(End())
    return ranked, list(lives.live(linger_s))


@pytest.mark.parametrize("behave", [silent, endless, dripping, broken, closing, babbling])
def test_no_ranking_waits_for_a_service_whatever_it_does(base: Base, tmp_path: Path, serve, behave) -> None:
    lives = device(base, tmp_path)
    lives.connect(serve(behave).url, deadline_s=10.0)
    ranked, _ = live(lives, [f"item-{row}" for row in range(20)])
    alone = device(base, tmp_path / "alone")
    expected, _ = live(alone, [f"item-{row}" for row in range(20)])
    assert [each.shown for each in ranked] == [each.shown for each in expected]
    assert lives.resident.kept.history == alone.resident.kept.history


@pytest.mark.parametrize("behave", [endless, dripping, broken, closing, babbling])
def test_whatever_is_no_answer_is_no_answer_and_ends(serve, behave) -> None:
    begun = time.monotonic()
    answer = exchange(serve(behave).url, Request("ask", "POST", "/v1/payload"), most_bytes=1_000_000, deadline_s=1.0)
    assert answer == NO_ANSWER
    assert time.monotonic() - begun < 8


def test_nobody_there_is_no_answer() -> None:
    assert exchange("http://127.0.0.1:1", Request("ask", "POST", "/"), most_bytes=10, deadline_s=1.0) == NO_ANSWER


def test_a_refusal_arrives_with_its_time_to_come_again(serve) -> None:
    def refuse(connection, _path) -> None:
        connection.sendall(http(b"{}", "503 No", "retry-after: 7\r\n"))

    answer = exchange(serve(refuse).url, Request("ask", "POST", "/"), most_bytes=10, deadline_s=5.0)
    assert (answer.status, answer.retry_after_s) == (503, 7)


@pytest.mark.parametrize("url", ["ftp://x", "nothing", "http://"])
def test_an_address_that_is_none_is_refused(base: Base, tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="url: expected"):
        device(base, tmp_path).connect(url)


def friendly(base: Base):
    """Enroll whoever asks, and give everybody a payload."""
    sequence = iter(range(1, 1000))

    def behave(connection, path: bytes) -> None:
        if path == b"/v1/devices":
            connection.sendall(http(msgspec.json.encode({"device": DEVICE.hex(), "token": "ab12", "sequence": 0})))
            return
        rows = np.random.default_rng(0).choice([0, 3], len(base.table)).astype(np.uint8)
        now = int(time.time())
        payload = encode_payload(
            base, Adaptation(rows=rows), device_id=DEVICE, sequence=next(sequence), issued=now, expiry=now + 1000
        )
        connection.sendall(http(encode_reply(Reply(payload, np.zeros(0, np.int32)))))

    return behave


def test_a_device_enrolls_asks_and_ranks_with_what_it_got_and_no_item_leaves_it(base: Base, tmp_path: Path, serve) -> None:
    service = serve(friendly(base))
    lives = device(base, tmp_path)
    lives.connect(service.url)
    items = [f"item-{row}" for row in (4, 17, 30, 9)]
    _, told = live(lives, items, linger_s=20.0)
    assert [receipt.accepted for receipt in told] == [True, True]
    assert (lives.resident.kept.highest, lives.resident.rank(None, 3, int(time.time())).by) == (1, "payload 1")
    records = list(exchanges(lives.resident.kept.log))
    assert [record.kind for record in records] == ["enroll", "reply", "ask", "reply"]
    assert bytes(service.heard).count(b"HTTP/1.1") == 2
    rows = np.array([4, 17, 30, 9])
    canaries = [b"item-", *(rows[2:].astype(kind).tobytes() for kind in ("<i2", "<i4", "<i8", ">i4"))]
    assert [canary for canary in canaries if canary in service.heard] == []
    assert any(canary in (tmp_path / FILE).read_bytes() for canary in canaries)  # the search can find something


class Full(Disk):
    """A disk that is full from some moment on."""

    full = False

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().write(descriptor, data)


def test_on_a_full_disk_rankings_go_on_and_nothing_leaves_that_the_log_could_not_take(
    base: Base, tmp_path: Path, serve
) -> None:
    service, disk = serve(friendly(base)), Full()
    disk.full = True
    lives = Device(Keeper(Home(tmp_path, disk), open_resident(new_kept(SECRET), base, SETTINGS)), top=5)
    lives.connect(service.url)
    ranked, told = live(lives, ["item-4", "item-17"])
    assert [each.fault for each in ranked] == ["No space left on device"] * 2
    assert all(len(each.shown.ids) == 5 for each in ranked)
    assert told
    assert set(told) == {"not asked, for the disk refused the log: No space left on device"}
    assert (lives.resident.kept.history, bytes(service.heard)) == ((), b"")


def test_clicks_are_answered_while_a_release_comes_and_the_next_one_by_its_base(base: Base, make_base, tmp_path: Path) -> None:
    other, lives = make_base(seed=1), device(base, tmp_path)
    asked: list[int] = []

    class Slow:
        def fetch(self, held: int) -> None:
            asked.append(held)

    lives.follow(Slow())
    during, _ = live(lives, ["item-4", "item-17"])
    alone, _ = live(device(base, tmp_path / "alone"), ["item-4", "item-17"])
    assert [each.shown for each in during] == [each.shown for each in alone]
    assert asked == [0]  # release 0, which came with the app; and once, though there were two clicks
    lives.events.put(Came(News(True, 1, other, received=9)))
    ranked, told = live(lives, ["item-30"])
    assert told == ["release 1 is in force"]
    expected = open_resident(
        msgspec.structs.replace(new_kept(SECRET), history=("item-4", "item-17", "item-30")), other, SETTINGS
    )
    assert ranked[0].shown == expected.rank(None, 5, int(time.time()))
    again = open_resident(Home(tmp_path).load(), other, SETTINGS)
    assert again.rank(None, 5, int(time.time())) == ranked[0].shown


def test_a_list_of_keys_that_the_disk_did_not_take_is_in_force_with_the_next_news(base: Base, tmp_path: Path) -> None:
    """A follower tells of a list once: lost here, a stolen key would be believed until the next start."""
    disk = Full()
    lives = Device(Keeper(Home(tmp_path, disk), open_resident(new_kept(SECRET), base, SETTINGS)), top=5)

    def verify(*_: object) -> None:
        return

    disk.full = True
    assert "disk" in "".join(lives.take(News(True, verify=verify)))
    assert lives.resident.settings.verify is not verify
    disk.full = False
    assert list(lives.take(News(True))) == []
    assert lives.resident.settings.verify is verify


def test_a_release_that_the_disk_does_not_take_is_not_in_force(base: Base, make_base, tmp_path: Path) -> None:
    disk = Full()
    lives = Device(Keeper(Home(tmp_path, disk), open_resident(new_kept(SECRET), base, SETTINGS)), top=5)
    disk.full = True
    lives.events.put(Came(News(True, 1, make_base(seed=1))))
    _, told = live(lives, [])
    assert told == ["release not taken, for the disk refused it: No space left on device"]
    assert (lives.resident.session.base, lives.resident.kept.following.release) == (base, 0)
