"""Releases as typed: from keys to a device that has the base, and what it says when it has not."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("tuf")

from ossia.adaptation import Base
from ossia.adaptation.keys import TrustedKeys
from ossia.cli.app import app
from ossia.errors import ReleaseError, UsageError


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository without a release, made as the operator's page says."""
    monkeypatch.chdir(tmp_path)
    for role, folder in (("root", "off"), ("root", "off"), ("targets", "off"), ("online", "on")):
        run("keys", "make", folder, "--role", role)
    run("keys", "make", "payload")
    run("release", "init", "repo", "--keys", "off", "--keys", "on", "--threshold", 2)
    run("release", "keys", "repo", "payload/keys.json", "--keys", "off", "--keys", "on")
    return tmp_path / "repo"


def status(repo: Path) -> dict:
    return json.loads(run("release", "status", repo, "--json"))


def test_a_release_goes_through_its_stages_and_reaches_a_device_over_http(repo: Path, base: Base) -> None:
    run("release", "publish", "repo", base.path, "--keys", "off", "--keys", "on", "--percent", 0)
    handler = partial(SimpleHTTPRequestHandler, directory=str(repo))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_port}/"
        fetch = ("release", "fetch", "device", "--from", "http://127.0.0.1:1/", "--from", mirror, "--json")
        told = json.loads(run(*fetch, "--root", repo / "metadata" / "1.root.json"))
        assert (told["release"], [each["refusal"] for each in told["refused"]]) == (0, ["missing"])
        percents = [json.loads(run("release", "advance", "repo", "--keys", "on", "--json"))["percent"] for _ in range(3)]
        assert percents == [1, 10, 100]
        told = json.loads(run(*fetch))
        server.shutdown()
    assert (told["release"], told["changed"]) == (1, True)
    assert Base.load(Path(told["base"])).id == base.id
    assert TrustedKeys.load(Path("device/keys.json")).keys


def test_a_guard_metric_of_ones_own_halts(repo: Path, base: Base) -> None:
    run("release", "publish", "repo", base.path, "--keys", "off", "--keys", "on")
    run("release", "guard", "repo", "--reports", 1000, "--worse", 60, "--keys", "on")
    assert status(repo)["halted"] == []
    run("release", "guard", "repo", "--reports", 1000, "--worse", 70, "--keys", "on")
    assert status(repo)["halted"] == [1]
    assert "release 1 halted" in run("release", "status", repo)


def test_one_of_several_root_keys_is_revoked_and_the_next_root_counts(repo: Path, base: Base) -> None:
    first, second = sorted(path.stem.removeprefix("root-") for path in Path("off").glob("root-*.pem"))
    ids = json.loads(run("keys", "revoke", "off", first, "--role", "root", "--repository", "repo", "--keys", "on", "--json"))[
        "ids"
    ]
    assert len(ids) == 2
    assert not any(key.startswith(first) for key in ids)
    assert any(key.startswith(second) for key in ids)
    run("keys", "rotate", "on", "--role", "online", "--repository", "repo", "--keys", "off")
    run("release", "publish", "repo", base.path, "--keys", "off", "--keys", "on", "--percent", 100)
    run("release", "fetch", "device", "--from", "repo", "--root", repo / "metadata" / "1.root.json")
    assert Base.load(Path("device/releases/1")).id == base.id


def test_what_can_not_be_done_is_said(repo: Path) -> None:
    with pytest.raises(UsageError, match="expected --repository"):
        run("keys", "rotate", "off", "--role", "root")
    with pytest.raises(UsageError, match="expected one of root, targets, online"):
        run("keys", "make", "off", "--role", "king")
    with pytest.raises(UsageError, match="expected a release on its way"):
        run("release", "halt", "repo", "--keys", "on")
    (repo / "metadata" / "timestamp.json").write_bytes(b"{}")
    with pytest.raises(ReleaseError, match="everything is as it was") as told:
        run("release", "fetch", "device", "--from", "repo", "--root", repo / "metadata" / "1.root.json")
    assert (told.value.refusal, told.value.exit_code) == ("malformed", 7)
