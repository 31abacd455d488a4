"""Rankers on the device: what each candidate scores."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.adaptation import Adaptation, Base, apply
from ossia.device.linear import FLOAT, INTEGER
from ossia.device.ranking import rerank
from ossia.device.runtimes import NUMPY, RUNTIMES, make_ranker, numpy_ranker
from ossia.errors import UsageError
from ossia.quantization.grid import quantize_rows
from ossia.types import ABSENT, Candidates

RUNTIME = pytest.mark.parametrize("runtime", sorted(RUNTIMES))


def random_adaptation(base: Base, seed: int) -> Adaptation:
    """Draw gates, codes of all four widths, and rows of all four widths."""
    random = np.random.default_rng(seed)
    sizes, ends = (len(base.manifest.gates), base.channels, len(base.table)), (2, 4, 4)
    gates, codes, rows = (random.integers(0, end, size).astype(np.uint8) for size, end in zip(sizes, ends, strict=True))
    return Adaptation(gates, codes, rows=rows)


def everything(base: Base) -> Candidates:
    return Candidates(np.arange(len(base.table), dtype=np.int32))


@RUNTIME
def test_a_score_is_the_state_times_the_row_as_the_device_holds_it(base: Base, runtime: str) -> None:
    adaptation = random_adaptation(base, 1)
    ranker, history, weights = RUNTIMES[runtime](base, adaptation), np.array([3, 11, 3]), apply(base, adaptation)
    state, got = ranker.state(history), ranker.scores(history, everything(base))
    if runtime != "numpy":
        state = quantize_rows(state[None]).dequantize()[0]
    assert adaptation.rows is not None
    for item, code in enumerate(adaptation.rows):
        rows = weights.history_rows if item in history else weights.rows
        expected = rows.dequantize()[item] @ state
        assert got[item] == (pytest.approx(expected, abs=1e-5) if code or item in history else -np.inf)


@RUNTIME
def test_own_history_counts_as_held_at_8_bits_and_nothing_else_does(base: Base, runtime: str) -> None:
    nothing = Adaptation(rows=np.zeros(len(base.table), np.uint8))
    history = np.array([5, 2])
    got = RUNTIMES[runtime](base, nothing).scores(history, everything(base))
    whole = RUNTIMES[runtime](base, Adaptation()).scores(history, everything(base))
    assert np.flatnonzero(np.isfinite(got)).tolist() == [2, 5]
    assert (got[[2, 5]] == whole[[2, 5]]).all()


@RUNTIME
def test_an_item_that_left_the_readable_history_is_no_longer_held(base: Base, runtime: str) -> None:
    nothing = Adaptation(rows=np.zeros(len(base.table), np.uint8))
    history = np.array([9, *range(base.manifest.shape["length"])])
    got = RUNTIMES[runtime](base, nothing).scores(history, Candidates(np.array([9, 0])))
    assert got[0] == -np.inf
    assert np.isfinite(got[1])


@RUNTIME
def test_widths_of_rows_leave_the_state_alone(base: Base, runtime: str) -> None:
    history = np.array([5, 2, 8])
    states = [
        RUNTIMES[runtime](base, Adaptation(rows=np.full(len(base.table), code, np.uint8))).state(history) for code in range(4)
    ]
    assert len({state.tobytes() for state in states}) == 1


@RUNTIME
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(0, 60))
def test_permuting_candidates_permutes_scores(base: Base, runtime: str, seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    ranker, history = RUNTIMES[runtime](base, random_adaptation(base, 2)), np.array([1, 30, 8])
    items, order = random.integers(-2, len(base.table) + 2, size), random.permutation(size)
    scores = ranker.scores(history, Candidates(items))
    assert (ranker.scores(history, Candidates(items[order])) == scores[order]).all()


@RUNTIME
def test_unknown_candidates_score_minus_infinity(base: Base, runtime: str) -> None:
    items = np.array([ABSENT, 0, len(base.table), -(2**31), 2**31 - 1])
    for history in (np.array([3]), np.zeros(0, np.int32)):
        scores = RUNTIMES[runtime](base, Adaptation()).scores(history, Candidates(items))
        assert np.isfinite(scores).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("runtime", sorted(NUMPY))
@pytest.mark.parametrize("history", [[], [ABSENT, 10**6]], ids=["empty", "unknown"])
def test_without_a_history_items_rank_by_popularity_held_or_not(base: Base, runtime: str, history: list[int]) -> None:
    weights = apply(base, Adaptation(rows=np.zeros(len(base.table), np.uint8)))
    order = np.random.default_rng(0).permutation(len(base.table)).astype(np.int32)
    arithmetic = {"numpy": FLOAT, "numpy_int8": INTEGER}[runtime]
    ranker = make_ranker(replace(weights, popularity=order), arithmetic)
    assert rerank(ranker, np.array(history, np.int32), everything(base)).items.tolist() == order.tolist()
    assert not ranker.state(np.array(history, np.int32)).any()


@RUNTIME
def test_vectors_that_come_with_candidates_replace_rows(base: Base, runtime: str) -> None:
    nothing = Adaptation(rows=np.zeros(len(base.table), np.uint8))
    ranker, history = RUNTIMES[runtime](base, nothing), np.array([3, 4])
    vectors = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    got = ranker.scores(history, Candidates(np.array([3, 20, ABSENT]), vectors))  # in the history, not held, not known
    exact = vectors @ ranker.state(history)
    assert np.allclose(got, exact, atol=1e-6 if runtime == "numpy" else 0.05 * np.abs(exact).max())


@RUNTIME
def test_a_vector_that_is_not_finite_spoils_its_own_score_only(base: Base, runtime: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    ranker, history, items = RUNTIMES[runtime](base, Adaptation()), np.array([3, 4]), np.arange(5)
    fine = ranker.scores(history, Candidates(items, vectors))
    vectors[1, 3], vectors[2, 0], vectors[3] = np.nan, np.inf, np.finfo(np.float32).max
    got = ranker.scores(history, Candidates(items, vectors))
    assert (got[[1, 2]] == -np.inf).all()
    assert np.allclose(got[[0, 4]], fine[[0, 4]], rtol=1e-6)
    assert not np.isnan(got).any()


def test_vectors_of_another_shape_are_the_callers_mistake(base: Base) -> None:
    ranker = numpy_ranker(base, Adaptation())
    with pytest.raises(UsageError, match=r"vectors of shape \(2, 8\), got \(2, 7\)"):
        ranker.scores(np.array([3]), Candidates(np.array([1, 2]), np.zeros((2, 7), np.float32)))


def test_a_backbone_without_a_forward_is_named(base: Base) -> None:
    weights = replace(apply(base, Adaptation()), backbone="narm")
    with pytest.raises(UsageError, match="backbone: expected one of sasrec, caser, gru4rec, got 'narm'"):
        make_ranker(weights, FLOAT)


@RUNTIME
def test_two_users_on_one_base_never_disturb_each_other(base: Base, runtime: str) -> None:
    history, rows = np.array([1, 2, 3]), base.table.grid.q.copy()
    first = RUNTIMES[runtime](base, random_adaptation(base, 1))
    alone = first.scores(history, everything(base))
    second = RUNTIMES[runtime](base, random_adaptation(base, 2))
    other = second.scores(history[::-1].copy(), everything(base))
    assert (first.scores(history, everything(base)) == alone).all()
    assert (other != alone).any()
    assert (base.table.grid.q == rows).all()


@RUNTIME
def test_the_8_bit_base_ranks_alike_in_both_arithmetics(reference_base: Base, runtime: str) -> None:
    history = np.random.default_rng(0).integers(0, len(reference_base.table), 50)
    exact = numpy_ranker(reference_base, Adaptation()).scores(history, everything(reference_base))
    got = RUNTIMES[runtime](reference_base, Adaptation()).scores(history, everything(reference_base))
    assert np.corrcoef(exact, got)[0, 1] > 0.999
