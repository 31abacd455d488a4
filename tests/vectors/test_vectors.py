"""The device held to the files that ports are held to, read as a port reads them."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, apply, decode_payload, encode_payload
from ossia.device import NUMPY, RUNTIMES, open_session, rerank
from ossia.types import Candidates

HERE = Path(__file__).parent
MAKE = runpy.run_path(str(HERE / "make.py"))  # a script beside this file, not a module of any package
KINDS = sorted(MAKE["SHAPES"])
FOLDERS: dict[str, Path] = {kind: MAKE["folder_of"](HERE, kind) for kind in KINDS}
VECTORS: dict[str, dict[str, Any]] = {kind: json.loads((FOLDERS[kind] / "vectors.json").read_text()) for kind in KINDS}
BOUND = 1e-6  # of the largest; a port may have ten times as much
NAMES = sorted(VECTORS["sasrec"]["adaptations"])
HISTORIES = sorted(VECTORS["sasrec"]["histories"])


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest) -> Base:
    return Base.load(FOLDERS[request.param] / "base")


@pytest.fixture
def told(base: Base) -> dict[str, Any]:
    """The file beside the base."""
    return next(told for told in VECTORS.values() if told["base_id"] == base.id.hex())


def adaptation_of(base: Base, told: dict[str, Any], name: str) -> Adaptation:
    return decode_payload(base, bytes.fromhex(told["adaptations"][name]["payload"]), allow_unsigned=True).adaptation


def history_of(told: dict[str, Any], name: str) -> np.ndarray:
    return np.array(told["histories"][name], np.int64)


def assert_close(got: np.ndarray, told: list[float | None], bound: float = BOUND) -> None:
    """Hold floats to the file's: null for −inf, exactly; the others within the bound."""
    expected = np.array([-np.inf if number is None else number for number in told], np.float32)
    there = np.isfinite(expected)
    assert (np.isfinite(got) == there).all()
    assert np.abs(got[there] - expected[there]).max(initial=0) <= bound * np.abs(expected[there]).max(initial=0)


def told_by(case: dict[str, Any], runtime: str) -> tuple[dict[str, Any], float]:
    """Give what a runtime must say, and how closely: the engine computes as `numpy_int8`, with a port's tolerance."""
    return (case[runtime], BOUND) if runtime in NUMPY else (case["numpy_int8"], 10 * BOUND)


def test_the_base_and_its_table_are_the_ones_named(base: Base, told: dict[str, Any]) -> None:
    assert (base.id.hex(), base.table.id.hex()) == (told["base_id"], told["table_id"])


@pytest.mark.parametrize("name", NAMES)
def test_a_payload_says_what_the_file_says_and_has_one_spelling(base: Base, told: dict[str, Any], name: str) -> None:
    expected = told["adaptations"][name]
    data = bytes.fromhex(expected["payload"])
    payload = decode_payload(base, data, allow_unsigned=True)
    for term in ("gates", "codes", "rows"):
        decoded = getattr(payload.adaptation, term)
        assert (None if decoded is None else decoded.tolist()) == expected[term]
    header = {field: getattr(payload.header, field) for field in ("device_id", "sequence", "issued", "expiry", "key_id")}
    assert header["device_id"].hex() == told["device_id"]
    assert encode_payload(base, payload.adaptation, **header) == data


@pytest.mark.parametrize("name", NAMES)
def test_an_adaptation_folds_to_the_byte(base: Base, told: dict[str, Any], name: str) -> None:
    folded = apply(base, adaptation_of(base, told, name))
    assert MAKE["folded_digest"](folded) == told["adaptations"][name]["folded_sha256"]


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@pytest.mark.parametrize("name", NAMES)
def test_every_history_comes_out_as_told(base: Base, told: dict[str, Any], name: str, runtime: str) -> None:
    ranker, candidates = RUNTIMES[runtime](base, adaptation_of(base, told, name)), Candidates(np.array(told["candidates"]))
    cases = [case for case in told["cases"] if case["adaptation"] == name]
    assert {case["history"] for case in cases} == set(HISTORIES)
    for case in cases:
        history = history_of(told, case["history"])
        expected, bound = told_by(case, runtime)
        assert_close(ranker.state(history), expected["state"], bound)
        assert_close(ranker.scores(history, candidates), expected["scores"], bound)
        assert rerank(ranker, history, candidates).positions.tolist() == expected["ranking"], case["history"]


@pytest.mark.parametrize("name", HISTORIES)
def test_what_goes_up_is_as_told(base: Base, told: dict[str, Any], name: str) -> None:
    session, expected = open_session(base, history=history_of(told, name), runtime="numpy"), told["profiles"][name]
    assert session.profile().values.tolist() == expected["values"]
    assert session.profile().scale == pytest.approx(expected["scale"], rel=BOUND)


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_vectors_of_candidates_come_before_rows(base: Base, told: dict[str, Any], runtime: str) -> None:
    case = told["vectors"]
    vectors = np.array([[np.inf if x is None else x for x in row] for row in case["candidate_vectors"]], np.float32)
    ranker, candidates = (
        RUNTIMES[runtime](base, adaptation_of(base, told, case["adaptation"])),
        Candidates(np.array(case["items"]), vectors),
    )
    expected, bound = told_by(case, runtime)
    assert_close(ranker.scores(history_of(told, case["history"]), candidates), expected["scores"], bound)


def test_a_session_accepts_and_refuses_as_told() -> None:
    base, told = Base.load(HERE / "base"), VECTORS["sasrec"]
    session = open_session(base, bytes.fromhex(told["device_id"]), allow_unsigned=True)
    for event in told["session"]:
        session, receipt = session.receive(bytes.fromhex(event["payload"]), event["now"])
        assert (receipt.accepted, receipt.reason.partition(":")[0]) == (event["accepted"], event["refused_by"]), event["name"]
    assert session.highest == 9


@pytest.mark.parametrize("kind", KINDS)
def test_the_maker_writes_these_very_files(kind: str, tmp_path: Path) -> None:
    MAKE["write_vectors"](tmp_path, kind)
    here, told = FOLDERS[kind], VECTORS[kind]
    files = [path.relative_to(here) for path in (here / "base").rglob("*") if path.is_file()]
    assert sorted(files) == sorted(path.relative_to(tmp_path) for path in (tmp_path / "base").rglob("*") if path.is_file())
    assert all((tmp_path / file).read_bytes() == (here / file).read_bytes() for file in files)
    written = json.loads((tmp_path / "vectors.json").read_text())
    floats = ("cases", "profiles", "vectors")  # last digits are the machine's; the tests above hold them to the bound
    assert {key: written[key] for key in written if key not in floats} == {key: told[key] for key in told if key not in floats}
    assert [[case["adaptation"], case["history"]] for case in written["cases"]] == [
        [case["adaptation"], case["history"]] for case in told["cases"]
    ]
