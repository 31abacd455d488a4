"""The k best of a long table: rows that are left out unread change nothing, not a position, not a bit of a score.

The reference is the engine itself: `ossia_score` reads every row in full, and a stable sort puts the scores in order.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ossia.adaptation import Adaptation, Base, write_base
from ossia.adaptation.tail import Tail
from ossia.device import NUMPY
from ossia.device import engine as native
from ossia.device.ranking import top_k
from ossia.errors import UsageError
from ossia.types import Candidates, Slot

ITEMS = 4999
PATHS = ("plain", "avx2", "vnni", "neon", "dotprod", "i8mm")

pytestmark = pytest.mark.skipif(native.library() is None, reason="the engine is not built, so numpy does the work")


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.path()
    try:
        yield native.path(request.param)
    except UsageError:
        pytest.skip(f"this build or processor has no {request.param}")
    finally:
        native.path(before)


def table_of(kind: str, dim: int, state: np.ndarray) -> np.ndarray:
    """Make a table that is easy or hard to sift, for the state that row 0 alone leads to."""
    random = np.random.default_rng(dim)
    rows = random.standard_normal((ITEMS, dim)).astype(np.float32)
    if kind == "skewed":
        rows *= np.exp(3 * random.standard_normal((ITEMS, 1))).astype(np.float32)
    elif kind == "equal":
        rows[:] = rows[0]
    elif kind == "few different":
        rows = rows[random.integers(0, 7, ITEMS)]
    elif kind in ("rising", "falling"):  # along the state, so that each row is better, or worse, than all before
        along = np.linspace(-1, 1, ITEMS, dtype=np.float32)[:: 1 if kind == "rising" else -1, None]
        rows = np.where(np.abs(along) < 1e-6, 1, along) * np.sign(state) + 1e-3 * rows
    elif kind == "worst low bits":  # the low bits are 15 where the state is positive, 0 where it is not: the bound is met
        q = 16 * random.integers(-7, 7, (ITEMS, dim)) + np.where(state > 0, 15, 0)
        q[:, 0] = 127
        rows = q.astype(np.float32)
    elif kind == "zeros":
        rows[random.random(ITEMS) < 0.5] = 0
    return rows.astype(np.float32)


KINDS = ("normal", "skewed", "equal", "few different", "rising", "falling", "worst low bits", "zeros")


def publish(folder: Path, vectors: np.ndarray, state: np.ndarray, tail: Tail | None = None) -> Base:
    """Publish a base without layers: the state is the norm of a position, whatever the history."""
    dim = vectors.shape[1]
    weights = {
        "positions.weight": np.zeros((1, dim), np.float32),
        "norm.weight": np.zeros(dim, np.float32),
        "norm.bias": state,
    }
    for part, inputs in (("query", dim), ("key", dim), ("value", dim), ("output", dim), ("expand", dim), ("contract", 4)):
        channels = 4 if part == "expand" else dim
        weights |= {f"blocks.0.{part}.weight": np.zeros((channels, inputs), np.float32)}
        weights |= {f"blocks.0.{part}.bias": np.zeros(channels, np.float32)}
    for norm in ("attention_norm", "feed_forward_norm"):
        weights |= {f"blocks.0.{norm}.{end}": np.ones(dim, np.float32) for end in ("weight", "bias")}
    parts = (
        ("query", dim, dim),
        ("key", dim, dim),
        ("value", dim, dim),
        ("output", dim, dim),
        ("expand", 4, dim),
        ("contract", dim, 4),
    )
    return write_base(
        folder,
        backbone="sasrec",
        shape={"items": ITEMS, "dim": dim, "length": 1, "blocks": 1, "heads": 1, "hidden": 4},
        slots=[
            Slot(f"blocks.0.{part}", channels, inputs, f"blocks.0.{'attention' if channels == inputs else 'feed_forward'}")
            for part, channels, inputs in parts
        ],
        gates=["blocks.0.attention", "blocks.0.feed_forward"],
        weights=weights,
        profile_clip=3.0,
        item_vectors=vectors,
        item_ids=[str(row) for row in range(ITEMS)],
        item_counts=np.ones(ITEMS, np.float32),
        tail=tail,
    )


@pytest.fixture(scope="module", params=[(kind, dim) for kind in KINDS for dim in (64, 128, 20) if dim == 64 or kind != "zeros"])
def long_base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A base without layers: the state is the norm of a position, whatever the history."""
    kind, dim = request.param
    random = np.random.default_rng(1)
    state = random.standard_normal(dim).astype(np.float32)
    vectors = table_of(kind, dim, state)
    return publish(tmp_path_factory.mktemp("base") / "BASE", vectors, state)


@pytest.fixture(scope="module", params=(64, 20))
def coarse_base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The same with a tail that says something of the rows."""
    dim, random = request.param, np.random.default_rng(1)
    state = random.standard_normal(dim).astype(np.float32)
    words = random.standard_normal((4, 60, dim // 4)).astype(np.float16)
    codes = random.integers(0, 60, (ITEMS, 4)).astype(np.uint8)
    rotation = random.standard_normal((dim, dim)).astype(np.float16)
    tail = Tail(codes, words, rotation)
    return publish(tmp_path_factory.mktemp("base") / "BASE", table_of("normal", dim, state), state, tail)


def widths_of(mixture: str) -> np.ndarray | None:
    """Draw the rows' widths."""
    if mixture == "all 8":
        return None
    if mixture == "runs":
        return np.repeat(np.array([3, 2, 3, 0, 1, 3], np.uint8), [2000, 700, 1500, 300, 200, 299])
    if mixture == "all 4, then 8":
        return np.repeat(np.array([2, 3], np.uint8), [4000, 999])
    shares = {
        "nearly all 8": [0.04, 0.01, 0.01, 0.94],
        "mostly 8": [0.05, 0.05, 0.1, 0.8],
        "a fourth each": [0.25] * 4,
        "none": [1.0, 0, 0, 0],
    }[mixture]
    return np.random.default_rng(3).choice(4, ITEMS, p=shares).astype(np.uint8)


MIXTURES = ("all 8", "nearly all 8", "mostly 8", "a fourth each", "runs", "all 4, then 8", "none")


def expect_the_same(ranker: native.EngineRanker, history: np.ndarray, items: np.ndarray | None, k: int, unseen: bool) -> None:
    """Hold `top` to a stable sort of `scores`, to the bit."""
    listed = np.arange(ITEMS) if items is None else items
    scores = ranker.scores(history, Candidates(listed))
    if unseen:
        scores[np.isin(listed, history)] = -np.inf
    order = top_k(scores, k)
    if items is None:
        order = order[np.isfinite(scores[order])]
    positions, best = ranker.top(history, items, k, unseen=unseen)
    assert positions.tolist() == order.tolist()
    assert np.array_equal(best.view(np.int32), scores[order].view(np.int32))


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_k_best_of_a_long_table_are_those_of_a_full_sort(long_base: Base, path: str, mixture: str) -> None:
    ranker, random = native.engine_ranker(long_base, Adaptation(rows=widths_of(mixture))), np.random.default_rng(5)
    listed = random.integers(-2, ITEMS + 2, 6000)
    best = ranker.top(np.array([4]), None, 30)[0]
    for history in (np.array([4]), best[:1].astype(np.int64)):
        for k in (0, 1, 10, 300, ITEMS):
            for unseen in (False, True):
                expect_the_same(ranker, history, None, k, unseen)
        expect_the_same(ranker, history, listed, 10, False)
        expect_the_same(ranker, history, np.sort(listed)[::-1].copy(), 300, True)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_list_and_any_widths_give_the_k_best_of_a_full_sort(long_base: Base, data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shares = random.dirichlet(np.full(4, 0.3)) * np.array([1, 1, 1, data.draw(st.sampled_from([1, 30]))])
    rows = random.choice(4, ITEMS, p=shares / shares.sum()).astype(np.uint8)
    ranker, history = native.engine_ranker(long_base, Adaptation(rows=rows)), random.integers(0, ITEMS, 1)
    count, k, unseen = data.draw(st.integers(0, 9000)), data.draw(st.integers(0, 60)), data.draw(st.booleans())
    items = random.integers(-1, ITEMS + 1, count) if count % 3 else None
    expect_the_same(ranker, history, items, min(k, count) if items is not None else k, unseen)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_rows_that_are_not_held_score_by_the_tail(coarse_base: Base, path: str, mixture: str) -> None:
    adaptation, history = Adaptation(rows=widths_of(mixture)), np.array([4, 4000])
    ranker, reference = native.engine_ranker(coarse_base, adaptation), NUMPY["numpy_int8"](coarse_base, adaptation)
    listed = Candidates(np.array([*range(ITEMS), -1, ITEMS, 2**31 - 1]))
    scores, expected = ranker.scores(history, listed), reference.scores(history, listed)
    assert np.isfinite(expected[:ITEMS]).all()
    assert np.isneginf(scores[ITEMS:]).all()
    assert np.abs(scores[:ITEMS] - expected[:ITEMS]).max() <= 1e-5 * np.abs(expected[:ITEMS]).max()
    held = np.ones(ITEMS, bool) if adaptation.rows is None else adaptation.rows > 0
    assert np.array_equal(scores[:ITEMS][held], expected[:ITEMS][held])
    assert len(np.unique(scores[:ITEMS][~held])) <= 60**4


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_k_best_with_a_tail_are_those_of_a_full_sort(coarse_base: Base, path: str, mixture: str) -> None:
    ranker, random = native.engine_ranker(coarse_base, Adaptation(rows=widths_of(mixture))), np.random.default_rng(5)
    listed, best = random.integers(-2, ITEMS + 2, 6000), ranker.top(np.array([4]), None, 30)[0]
    for k in (1, 10, 300, ITEMS):
        for unseen in (False, True):
            expect_the_same(ranker, best[:1].astype(np.int64), None, k, unseen)
            expect_the_same(ranker, best[:1].astype(np.int64), listed, k, unseen)


def test_a_row_of_the_history_counts_at_eight_bits_among_neighbors_at_four(tmp_path: Path, path: str) -> None:
    state = np.random.default_rng(1).standard_normal(64).astype(np.float32)
    base = publish(tmp_path / "BASE", table_of("worst low bits", 64, state), state)
    ranker, found = native.engine_ranker(base, Adaptation(rows=np.full(ITEMS, 2, np.uint8))), 0
    for row in ranker.top(np.array([-1, 0]), None, 60)[0][10:]:  # none of the ten best, at 4 bits
        history = np.array([row])
        found += int(row in ranker.top(history, None, 10)[0])
        for unseen in (False, True):
            expect_the_same(ranker, history, None, 10, unseen)
    assert found > 10
