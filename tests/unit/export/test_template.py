"""What `ossia export` writes, what it refuses, and the three ways in which a runtime takes one user's tensors."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load, load_file

from ossia.adaptation import Adaptation, Base, Dense, encode_payload
from ossia.cli import main
from ossia.errors import ArtifactError, UsageError
from ossia.export.template import own_tensors, write_own, write_template

PAGE = Path(__file__).parents[3] / "docs" / "export.md"
FEED = {"history": np.array([3, 1, 4]), "candidates": np.arange(10)}


def draw(base: Base) -> Adaptation:
    """Codes, gates, and a delta."""
    random, slot = np.random.default_rng(0), base.manifest.slots[1]
    codes, gates = random.integers(0, 4, base.channels).astype(np.uint8), np.array([1, 1, 0, 1], np.uint8)
    return Adaptation(gates, codes, (Dense(slot.name, np.full((slot.channels, slot.inputs), 0.25, np.float16)),))


@pytest.fixture(scope="module")
def template(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "T"
    write_template(base, path)
    return path


@pytest.fixture(scope="module")
def own(base: Base, template: Path) -> Path:
    write_own(base, draw(base), template, template.parent / "own.safetensors")
    return template.parent / "own.safetensors"


def scores(template: Path, options: onnxruntime.SessionOptions) -> np.ndarray:
    return onnxruntime.InferenceSession(str(template / "model.onnx"), options).run(["scores"], FEED)[0]


def own_scores(template: Path, own: Path) -> np.ndarray:
    """Put tensors in by name; they must live until the session is open."""
    options, tensors = onnxruntime.SessionOptions(), load_file(own)
    options.add_external_initializers(list(tensors), [onnxruntime.OrtValue.ortvalue_from_numpy(t) for t in tensors.values()])
    return scores(template, options)


def test_the_graph_is_valid_onnx_and_holds_no_weights(base: Base, template: Path) -> None:
    onnx.checker.check_model(str(template / "model.onnx"), full_check=True)
    graph = onnx.load(str(template / "model.onnx"), load_external_data=False).graph
    outside = {each.name for each in graph.initializer if each.data_location == onnx.TensorProto.EXTERNAL}
    assert outside == set(load_file(template / "weights.safetensors"))
    assert {f"{slot.name}.values" for slot in base.manifest.slots} < outside


def test_the_same_base_gives_the_same_bytes(base: Base, template: Path, tmp_path: Path) -> None:
    write_template(base, tmp_path / "again")
    for name in ("model.onnx", "weights.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (template / name).read_bytes()


def test_codes_replace_bytes_and_only_a_delta_replaces_a_matrix(base: Base) -> None:
    small = own_tensors(base, Adaptation(codes=np.zeros(base.channels, np.uint8)))
    assert {name: tensor.nbytes for name, tensor in small.items()} == {
        "codes": base.channels,
        "gates": 4,
        "rows": len(base.table),
    }
    slot = base.manifest.slots[1].name
    assert own_tensors(base, draw(base)).keys() - small.keys() == {f"{slot}.values", f"{slot}.scales"}


def test_codes_for_an_older_table_say_nothing_of_newer_rows(base: Base) -> None:
    rows = own_tensors(base, Adaptation(rows=np.full(30, 2, np.uint8)))["rows"]
    assert rows.tolist() == [2] * 30 + [0] * (len(base.table) - 30)


def test_bytes_patched_into_the_weights_do_the_same_as_tensors_by_name(template: Path, own: Path, tmp_path: Path) -> None:
    """The browser's way: onnxruntime-web takes whole files; so does this call, which C and Python share."""
    weights, changed = bytearray((template / "weights.safetensors").read_bytes()), own.read_bytes()

    def places(data: bytes) -> dict[str, tuple[int, int]]:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        return {name: tuple(start + at for at in entry["data_offsets"]) for name, entry in header.items() if name[:2] != "__"}

    ours, theirs = places(bytes(weights)), places(changed)
    for name, (first, end) in theirs.items():
        weights[slice(*ours[name])] = changed[first:end]
    patched = onnxruntime.SessionOptions()
    whole = bytes(weights)  # this too must live until the session is open
    patched.add_external_initializers_from_files_in_memory(["weights.safetensors"], [whole], [len(whole)])
    got, plain = scores(template, patched), scores(template, onnxruntime.SessionOptions())
    assert np.array_equal(got, own_scores(template, own))
    assert not np.allclose(got, plain)


def test_a_tensor_of_another_size_is_refused_by_the_runtime(base: Base, template: Path) -> None:
    options = onnxruntime.SessionOptions()
    short = onnxruntime.OrtValue.ortvalue_from_numpy(np.full(base.channels - 1, 3, np.uint8))
    options.add_external_initializers(["codes"], [short])
    with pytest.raises(Exception, match="dimensions do not match"):
        scores(template, options)


def test_a_template_of_another_base_is_refused(make_base: Callable[..., Base], template: Path, tmp_path: Path) -> None:
    other = make_base(seed=1)
    with pytest.raises(
        ArtifactError, match=f"expected a template made of base {other.id.hex()}, table .*, got one made of base "
    ):
        write_own(other, Adaptation(), template, tmp_path / "own")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_template_is_refused(base: Base, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"weights\.safetensors: expected a template's weights"):
        write_own(base, Adaptation(), tmp_path, tmp_path / "own")
    (tmp_path / "T").write_text("mine")
    with pytest.raises(UsageError, match="new or empty folder"):
        write_template(base, tmp_path / "T")


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


def test_the_command_line_writes_both_and_says_what(base: Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "payload.bin").write_bytes(encode_payload(base, draw(base), issued=0, expiry=1))
    assert run("export", base.path, "--format", "onnx", "--out", tmp_path / "T", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "files": {str(path): path.stat().st_size for path in (tmp_path / "T").iterdir()}
    }
    words = ("export", base.path, "--payload", tmp_path / "payload.bin", "--out", tmp_path / "own")
    assert run(*words, "--template", tmp_path / "T") == 0
    expected = own_tensors(base, draw(base))
    found = load((tmp_path / "own").read_bytes())
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert run(*words) == 2
    assert "--payload and --template together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"--format": "tflite"}, 2, "format: expected onnx, litert or litert-int8, got 'tflite'"),
        ({"--payload": "other.bin"}, 5, "other.bin: base: expected a payload for base"),
        ({"--payload": "nowhere.bin"}, 4, "nowhere.bin: expected a payload"),
        ({"--template": "nowhere"}, 4, "nowhere"),
    ],
)
def test_the_command_line_refuses_by_name(
    base: Base,
    template: Path,
    make_base: Callable[..., Base],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    code: int,
    says: str,
) -> None:
    for name, made in (("payload.bin", base), ("other.bin", make_base(seed=1))):
        (tmp_path / name).write_bytes(encode_payload(made, Adaptation(gates=np.zeros(4, np.uint8)), issued=0, expiry=1))
    options = {"--format": "onnx", "--payload": "payload.bin", "--template": str(template), "--out": "own"} | change
    paths = {name: value if name == "--format" else tmp_path / value for name, value in options.items()}
    assert run("export", base.path, *(word for pair in paths.items() for word in pair)) == code
    assert says in capsys.readouterr().err
    assert not (tmp_path / "own").exists()


def test_the_python_of_the_page_runs_as_written(
    template: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(template.parent)
    section = PAGE.read_text("utf-8").split("\n## ExecuTorch\n")[0]
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    template.rename("template")
    try:
        exec(snippet, names)
    finally:
        Path("template").rename(template)
    expected = own_scores(template, own)
    assert np.array_equal(names["scores"], expected[[7, 1, 2]])
