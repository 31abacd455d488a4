"""The coarse tail: what it scores, what it costs, and that it survives growth and refuses damage."""

import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from ossia.adaptation import Adaptation, Base
from ossia.adaptation.cost import costs
from ossia.adaptation.manifests import FileEntry, TableManifest, read_manifest, write_manifest
from ossia.adaptation.table import load_table, write_table
from ossia.adaptation.tail import Tail, tail_tensors
from ossia.device.runtimes import NUMPY
from ossia.errors import ArtifactError
from ossia.types import ABSENT, Candidates

RUNTIME = pytest.mark.parametrize("runtime", sorted(NUMPY))


def random_tail(rows: int, dim: int, parts: int = 4, words: int = 7, seed: int = 0) -> Tail:
    random = np.random.default_rng(seed)
    codewords = random.standard_normal((parts, words, dim // parts)).astype(np.float16)
    return Tail(
        random.integers(0, words, (rows, parts)).astype(np.uint8),
        codewords,
        random.standard_normal((dim, dim)).astype(np.float16),
    )


def with_tail(base: Base, tail: Tail | None = None) -> Base:
    return replace(base, table=replace(base.table, tail=tail or random_tail(len(base.table), base.manifest.shape["dim"])))


def rewrite(folder: Path, tail: dict[str, np.ndarray], content: bytes | None = None) -> None:
    """Put another tail into a table, its digest in the manifest."""
    _, manifest = read_manifest(folder / "manifest.json", TableManifest)
    content = save(tail) if content is None else content
    (folder / "tail.safetensors").write_bytes(content)
    entry = FileEntry(len(content), hashlib.sha256(content).hexdigest())
    write_manifest(folder / "manifest.json", replace_files(manifest, entry))


def replace_files(manifest: TableManifest, entry: FileEntry) -> TableManifest:
    return msgspec.structs.replace(manifest, files=manifest.files | {"tail.safetensors": entry})


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4, 8]))
def test_a_score_is_the_turned_state_times_the_codewords(seed: int, parts: int) -> None:
    tail, state = random_tail(30, 8, parts, seed=seed), np.random.default_rng(seed).standard_normal(8).astype(np.float32)
    rows = np.hstack([tail.codewords[part][tail.codes[:, part]] for part in range(parts)]).astype(np.float64)
    expected = rows @ (state.astype(np.float64) @ tail.rotation.astype(np.float64))
    assert tail.scores(state, np.arange(30)) == pytest.approx(expected, abs=1e-4)
    assert tail.scores_of_all(state[None])[0] == pytest.approx(expected, abs=1e-4)


def test_equal_codes_tie_exactly_wherever_they_stand() -> None:
    tail, state = random_tail(1000, 8, words=2), np.random.default_rng(1).standard_normal(8).astype(np.float32)
    scores = tail.scores(state, np.random.default_rng(2).permutation(1000))
    assert len(np.unique(scores)) <= 2**4


@RUNTIME
def test_the_tail_scores_what_is_not_held_and_nothing_else(base: Base, runtime: str) -> None:
    coarse, codes = with_tail(base), np.random.default_rng(3).integers(0, 4, len(base.table)).astype(np.uint8)
    history, every = np.array([3, 11]), Candidates(np.array([*range(len(base.table)), ABSENT, 10**6]))
    without, tailed = (NUMPY[runtime](each, Adaptation(rows=codes)) for each in (base, coarse))
    before, after = without.scores(history, every), tailed.scores(history, every)
    absent = np.flatnonzero(np.isneginf(before[: len(codes)]))
    assert set(absent) == set(np.flatnonzero(codes == 0)) - set(history)
    assert coarse.table.tail is not None
    assert (after[absent] == coarse.table.tail.scores(tailed.state(history), absent)).all()
    assert (np.delete(after, absent) == np.delete(before, absent)).all()
    assert np.isneginf(after[-2:]).all()


@RUNTIME
def test_an_empty_history_ranks_by_popularity_with_a_tail_too(base: Base, runtime: str) -> None:
    nothing, every = Adaptation(rows=np.zeros(len(base.table), np.uint8)), Candidates(np.arange(len(base.table)))
    scores = [NUMPY[runtime](each, nothing).scores(np.array([], np.int64), every) for each in (base, with_tail(base))]
    assert np.array_equal(*scores)


def test_a_slice_pays_for_the_tail_once_and_the_whole_table_never(base: Base) -> None:
    coarse, some = with_tail(base), Adaptation(rows=np.ones(len(base.table), np.uint8))
    assert coarse.table.tail is not None
    size = coarse.table.tail.nbytes
    assert size == len(base.table) * 4 + 2 * (7 * 8 + 8 * 8)
    assert costs(coarse, some).table_bytes == costs(base, some).table_bytes + size
    assert costs(coarse, some).download_bytes == costs(base, some).download_bytes + size
    assert costs(coarse, some, on_device=some).download_bytes == costs(base, some, on_device=some).download_bytes
    for on_device in (None, Adaptation()):
        assert costs(coarse, Adaptation(), on_device=on_device) == costs(base, Adaptation(), on_device=on_device)


def write(folder: Path, rows: int, tail: Tail | None, extends=None) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)[:rows]
    ids = [str(row) for row in range(rows)]
    write_table(folder, vectors, ids, np.ones(rows, np.float32), extends=extends, tail=tail)


def test_a_tail_survives_the_disk_and_changes_the_tables_id(tmp_path: Path) -> None:
    write(tmp_path / "a", 40, None)
    write(tmp_path / "b", 40, random_tail(40, 8))
    plain, coarse = load_table(tmp_path / "a"), load_table(tmp_path / "b")
    assert plain.tail is None
    assert coarse.tail is not None
    assert plain.id != coarse.id
    for name in ("codes", "codewords", "rotation"):
        assert np.array_equal(getattr(coarse.tail, name), getattr(random_tail(40, 8), name))


def test_new_rows_get_the_nearest_codewords_and_old_ones_keep_theirs(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rotation = np.linalg.qr(random.standard_normal((8, 8)))[0].astype(np.float16)
    tail = replace(random_tail(40, 8), rotation=rotation)
    write(tmp_path / "a", 40, tail)
    write(tmp_path / "b", 50, None, extends=load_table(tmp_path / "a"))
    grown = load_table(tmp_path / "b").tail
    assert grown is not None
    assert np.array_equal(grown.codes[:40], tail.codes)
    new = random.standard_normal((3, 8)).astype(np.float32)
    words = np.stack(
        [np.hstack([tail.codewords[part, code] for part, code in enumerate(codes)]) for codes in ([1, 2, 3, 4], [6, 0, 0, 5])]
    )
    exact = words.astype(np.float64) @ rotation.astype(np.float64).T  # rotation⁻ᵀ is the rotation itself where it is orthogonal
    extended = tail.extend(np.vstack([exact.astype(np.float32), new]))
    assert extended.codes[40:42].tolist() == [[1, 2, 3, 4], [6, 0, 0, 5]]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("codes", np.full((40, 4), 7, np.uint8), "codes below 7, found 7"),
        ("codes", np.zeros((39, 4), np.uint8), "codes uint8 40 × 4"),
        ("codes", np.zeros((40, 4), np.int32), "found codes int32"),
        ("codewords", np.zeros((28, 3), np.float16), "codewords float16 28 × 2"),
        ("codewords", np.zeros((4, 7, 2), np.float16), "codewords float16 28 × 2"),
        ("codewords", np.full((28, 2), np.nan, np.float16), "finite"),
        ("codewords", np.zeros((32, 2), np.float16), "found codes uint8 40 × 4, codewords float16 32 × 2"),
        ("rotation", np.zeros((8, 7), np.float16), "rotation float16 8 × 7"),
        ("rotation", np.full((8, 8), np.inf, np.float16), "finite"),
        ("rotation", np.zeros((8, 8), np.float32), "rotation float32"),
        ("more", np.zeros(1, np.float16), "more"),
    ],
)
def test_a_tail_that_does_not_fit_is_refused_with_the_reason(tmp_path: Path, field: str, value: np.ndarray, says: str) -> None:
    tail = random_tail(40, 8)
    write(tmp_path / "t", 40, tail)
    rewrite(tmp_path / "t", tail_tensors(tail) | {field: value})
    with pytest.raises(ArtifactError, match=says):
        load_table(tmp_path / "t")


def test_a_tail_that_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t", 40, random_tail(40, 8))
    rewrite(tmp_path / "t", {}, b"not tensors")
    with pytest.raises(ArtifactError, match=r"tail\.safetensors"):
        load_table(tmp_path / "t")
