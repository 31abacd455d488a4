"""`ossia device run` beside a real `ossia serve`: enrolled, served, killed, restarted, erased; egress lists what left."""

import json
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from ossia.device.home import Home


@pytest.fixture
def device(program: list[str]):
    """Run the device to the end of its clicks."""
    return partial(live, program)


def live(program: list[str], *words: object, clicks: str = "") -> tuple[list[dict], str]:
    done = subprocess.run(
        [*program, "device", "run", *map(str, words), "--json"],
        input=clicks, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture
def phone(tmp_path: Path) -> Path:
    return tmp_path / "phone"


def test_a_device_lives_with_a_service_without_it_and_is_forgotten(
    house, cli, device, serving, tmp_path: Path, phone: Path
) -> None:
    base = ("--base", house.base)
    offline, _ = device(phone, *base, "--top", 3, clicks="i1\ni2\nnobody\n\n")
    assert [(line["click"], line["kept"], line["by"]) for line in offline] == [
        ("i1", True, "base"), ("i2", True, "base"), ("nobody", False, "base"), (None, False, "base")
    ]  # fmt: skip
    assert offline[1]["ranking"] == offline[3]["ranking"]
    with serving(house.base, tmp_path / "cloud") as (server, url):
        trust = ("--trust", tmp_path / "cloud" / "keys" / "keys.json")
        asks = ("--url", url, *trust, "--ask", "always", "--linger", 30, "--no-guard")
        _, served = device(phone, *base, *asks, clicks="i3\ni4\n")
        assert "enrolled" in served
        assert "in force" in served
        kept = Home(phone).load()
        assert kept.history == ("i1", "i2", "i3", "i4")
        assert kept.highest in (1, 2)  # two, where the first answer was there before the second click
        server.kill()
        server.wait()
        after, said = device(phone, *base, *asks, clicks="i5\n")
        assert (after[0]["by"], "no answer" in said) == (f"payload {kept.highest}", True)
    told = cli("device", "egress", phone, "--json").result
    kinds = [request["kind"] for request in told["requests"]]
    failed = (served + said).count("no answer")  # a wait may be as short as nothing: then it asked again
    assert kinds == ["enroll", *["ask"] * (kept.highest + failed)]
    assert told["requests"][1]["profile_norm"] > 0
    assert told["requests"][1]["profile_sha256"] != told["requests"][-1]["profile_sha256"]
    assert f"{len(kinds)} requests" in cli("device", "egress", phone).out
    with serving(house.base, tmp_path / "cloud") as (_, url):
        assert cli("device", "erase", phone, "--url", url).code == 0
    assert list(phone.iterdir()) == []
    assert cli("device", "egress", phone).code == 4


def test_a_damaged_base_leaves_what_is_popular(house, cli, device, tmp_path: Path, phone: Path) -> None:
    device(phone, "--base", house.base, clicks="i1\n")
    lines, said = device(phone, "--base", tmp_path / "nothing", "--top", 2, clicks="\n")
    assert (lines[0]["by"], len(lines[0]["ranking"])) == ("popularity", 2)
    assert "ranking by the popularity that is remembered" in said
    assert cli("device", "run", tmp_path / "new", "--base", tmp_path / "nothing").code == 4


def test_a_socket_takes_clicks_too(house, program, tmp_path: Path, phone: Path) -> None:
    import socket

    place = tmp_path / "s"
    words = ["device", "run", str(phone), "--base", str(house.base), "--socket", str(place), "--json", "--top", "2"]
    process = subprocess.Popen([*program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        for _ in range(600):
            if place.exists():
                break
            time.sleep(0.1)
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(60)
            line.connect(str(place))
            file = line.makefile("rw")
            for item in ("i1", "i2"):
                file.write(f"{item}\n")
                file.flush()
                told = json.loads(file.readline())
                assert (told["click"], told["kept"], len(told["ranking"])) == (item, True, 2)
    finally:
        process.kill()
        process.communicate()
    assert Home(phone).load().history == ("i1", "i2")


def test_a_device_gets_base_and_keys_from_the_service_by_itself_and_mends_what_is_damaged(
    house, cli, device, serving, tmp_path: Path, phone: Path
) -> None:
    pytest.importorskip("tuf")
    off, on, repo, keys = (tmp_path / name for name in ("off", "on", "repo", "cloud/keys"))
    both = ("--keys", off, "--keys", on)
    for role, where in (("root", off), ("targets", off), ("online", on)):
        assert cli("keys", "make", where, "--role", role).code == 0
    assert cli("keys", "make", keys).code == 0
    assert cli("release", "init", repo, *both).code == 0
    assert cli("release", "keys", repo, keys / "keys.json", *both).code == 0
    assert cli("release", "publish", repo, house.base, *both, "--percent", 100).code == 0
    with serving(house.base, tmp_path / "cloud", "--releases", str(repo), "--online", str(on)) as (_, url):
        words = (phone, "--url", url, "--releases", f"{url}/v1/repository", "--ask", "always", "--linger", 40, "--no-guard")
        root = ("--root", repo / "metadata" / "1.root.json")
        first, said = device(*words, *root, clicks="\n")
        assert (first[0]["ranking"], first[0]["by"]) == ([], "popularity")
        assert "release 1 is in force" in said
        assert "payload came and is in force" in said  # signed by a key that came with the release
        then, _ = device(phone, "--releases", repo, clicks="i1\ni2\n")
        assert ([line["kept"] for line in then], then[1]["by"]) == ([True, True], "payload 1")

        plane = phone / "releases" / "1" / "base" / "plane2.safetensors"
        plane.write_bytes(plane.read_bytes()[:-1] + b"x")
        before = then[1]["ranking"]
        damaged, said = device(*words, clicks="\n")
        assert damaged[0]["by"] == "popularity"
        mended, _ = device(phone, "--releases", repo, clicks="\n")
        assert mended[0]["by"].startswith("payload")
        assert {row["id"] for row in mended[0]["ranking"]} & {row["id"] for row in before}
    kinds = [each["kind"] for each in cli("device", "egress", phone, "--json").result["requests"]]
    assert (kinds[:3], kinds.count("look")) == (["look", "enroll", "ask"], 2)


def test_a_url_without_keys_to_trust_is_refused(house, cli, phone: Path) -> None:
    said = cli("device", "run", phone, "--base", house.base, "--url", "http://127.0.0.1:1")
    assert said.code == 2
    assert "--trust" in said.err
