"""What `ossia export --format litert` writes and refuses, and which bytes of it are one user's."""

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, Dense, encode_payload
from ossia.cli import main
from ossia.device.runtimes import numpy_ranker
from ossia.errors import ArtifactError, UsageError
from ossia.types import Candidates

interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="ossia[litert] is not installed")
flatbuffer, litert = (importlib.import_module(f"ossia.export.litert_{name}") for name in ("flatbuffer", "template"))

PAGE = Path(__file__).parents[3] / "docs" / "export.md"


def draw(base: Base) -> Adaptation:
    """Every term."""
    random, slot = np.random.default_rng(0), base.manifest.slots[1]
    codes, rows = (random.integers(0, 4, size).astype(np.uint8) for size in (base.channels, len(base.table)))
    delta = Dense(slot.name, np.full((slot.channels, slot.inputs), 0.25, np.float16))
    return Adaptation(np.array([1, 1, 0, 1], np.uint8), codes, (delta,), rows)


@pytest.fixture(scope="module")
def template(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.tflite"
    litert.write_template(base, path)
    return path


@pytest.fixture(scope="module")
def own(base: Base, template: Path) -> Path:
    litert.write_own(base, draw(base), template, template.parent / "own.tflite")
    return template.parent / "own.tflite"


def places(data: bytes) -> dict[str, bytes]:
    return {name: place.tobytes() for name, place in flatbuffer.places(bytearray(data))}


def test_a_payload_changes_bytes_in_its_own_places_and_no_other(base: Base, template: Path, own: Path) -> None:
    before, after = bytearray(template.read_bytes()), bytearray(own.read_bytes())
    assert len(before) == len(after)
    own_places = litert.own_tensors(base, draw(base)).keys()
    assert {name for name, held in places(before).items() if held != places(after)[name]} >= {"rows", "blocks.0.key.values"}
    for data in (before, after):
        for name, place in flatbuffer.places(data):
            if name in own_places:
                place[:] = 0
    assert before == after


def test_a_payload_that_asks_for_nothing_changes_nothing(base: Base, template: Path, tmp_path: Path) -> None:
    litert.write_own(base, Adaptation(), template, tmp_path / "own.tflite")
    assert (tmp_path / "own.tflite").read_bytes() == template.read_bytes()


def test_the_same_base_gives_the_same_bytes(base: Base, template: Path, tmp_path: Path) -> None:
    litert.write_template(base, tmp_path / "again.tflite")
    assert (tmp_path / "again.tflite").read_bytes() == template.read_bytes()


def test_the_template_holds_the_base_in_its_own_numbers(base: Base, template: Path) -> None:
    found = places(template.read_bytes())
    for name, grid in base.grids.items():
        assert found[f"{name}.values"] == grid.q.tobytes()
        assert found[f"{name}.values.scales"] == grid.scales[-1].tobytes()
    assert found["items.values"] == base.table.grid.q.tobytes()


def test_data_lie_at_multiples_of_sixteen_bytes(template: Path) -> None:
    data = bytearray(template.read_bytes())
    start = np.frombuffer(data, np.uint8).ctypes.data
    offsets = [place.ctypes.data - start for name, place in flatbuffer.places(data) if not name.endswith(".scales")]
    assert len(set(offsets)) > 20
    assert {offset % 16 for offset in offsets} == {0}


def test_a_skipped_block_is_zeros_and_a_dropped_channel_has_a_scale_that_litert_takes(base: Base) -> None:
    own = litert.own_tensors(base, Adaptation(np.array([0, 1, 1, 1], np.uint8), np.zeros(base.channels, np.uint8)))
    assert not any(own["blocks.0.query.values"].ravel()) | any(own["blocks.0.query.bias"])
    scales = np.concatenate([value for name, value in own.items() if name.endswith(".scales")])
    assert (scales == 1).all()


def test_codes_for_an_older_table_say_nothing_of_newer_rows(base: Base) -> None:
    rows = litert.own_tensors(base, Adaptation(rows=np.full(30, 2, np.uint8)))["rows"]
    assert rows.tolist() == [2] * 30 + [0] * (len(base.table) - 30)


def test_xnnpack_takes_every_layer(base: Base, template: Path) -> None:
    """A shape or a type that it does not like would cost several times as much, and nobody would see it."""
    interpreter = interpreters.Interpreter(model_path=str(template), num_threads=1)
    interpreter.allocate_tensors()
    numbers = {each["name"]: each["index"] for each in interpreter.get_tensor_details()}
    delegates = [each for each in interpreter._get_ops_details() if each["op_name"] == "DELEGATE"]
    taken = {number for each in delegates for number in each["inputs"]}
    assert {f"{slot.name}.bias" for slot in base.manifest.slots} <= {name for name in numbers if numbers[name] in taken}


def test_a_template_of_another_base_is_refused(make_base: Callable[..., Base], template: Path, tmp_path: Path) -> None:
    other = make_base(seed=1)
    with pytest.raises(ArtifactError, match=f"expected a LiteRT template of base {other.id.hex()}, table .*, got base "):
        litert.write_own(other, Adaptation(), template, tmp_path / "own.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"\x1c\0\0\0TFL4 and more", b"\x1c\0\0\0TFL3", b"\x1c\0\0\0TFL3" + b"\xff" * 60]
)
def test_what_is_no_template_is_refused(base: Base, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.tflite").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"odd\.tflite: expected a LiteRT template of base .*, got something else"):
        litert.write_own(base, Adaptation(), tmp_path / "odd.tflite", tmp_path / "own.tflite")
    with pytest.raises(ArtifactError, match=r"nowhere: expected a LiteRT template"):
        litert.write_own(base, Adaptation(), tmp_path / "nowhere", tmp_path / "own.tflite")
    with pytest.raises(UsageError, match="expected a file's name"):
        litert.write_template(base, tmp_path)


def test_a_torn_template_is_refused(base: Base, template: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.tflite").write_bytes(template.read_bytes()[:-64])
    with pytest.raises(ArtifactError, match=r"torn\.tflite: expected a whole LiteRT template"):
        litert.write_own(base, Adaptation(), tmp_path / "torn.tflite", tmp_path / "own.tflite")


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


@pytest.mark.parametrize("kind", ["litert", "litert-int8"])
def test_the_command_line_writes_both_and_says_what(
    base: Base, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    template, own, payload = (tmp_path / name for name in ("template.tflite", "own.tflite", "payload.bin"))
    payload.write_bytes(encode_payload(base, draw(base), issued=0, expiry=1))
    assert run("export", base.path, "--format", kind, "--out", template, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"files": {str(template): template.stat().st_size}}
    assert run("export", base.path, "--payload", payload, "--out", own, "--template", template) == 0
    litert.write_own(base, draw(base), template, tmp_path / "expected.tflite")
    assert own.read_bytes() == (tmp_path / "expected.tflite").read_bytes()


def test_the_python_of_the_page_runs_as_written(base: Base, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    section = PAGE.read_text("utf-8").split("\n## LiteRT\n")[1]
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(snippet, names)
    expected = numpy_ranker(base, draw(base)).scores(np.array([3, 1, 4]), Candidates(np.array([7, 1, 2])))
    assert np.allclose(names["scores"], expected, rtol=0, atol=1e-5 * np.abs(expected[np.isfinite(expected)]).max())
