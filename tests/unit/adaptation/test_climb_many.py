"""Many users at once: as good as the exact optimum on small cases, near it on larger ones, and the same in any batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.adaptation import Base, Importance, allocate, costs
from ossia.adaptation.allocate_codes import GAIN, CodeAllocator
from ossia.adaptation.climb_library import climb_compiled, library
from ossia.adaptation.climb_many import EXACT_THINGS, Steps, climb_in_numpy, climb_many
from ossia.errors import BudgetError
from ossia.quantization.grid import plane_bytes
from ossia.types import WIDTHS, Budget

ALPHABETS = [(2, 4, 8), (0, 2, 4, 8), (2, 8), (0, 8)]


def draw(rng: np.random.Generator, things: int, alphabet: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Channels as bases have them: importance from even to very pointed, gains, prices, and something to spend."""
    inputs = rng.choice([8, 16, 32, 64, 256], things)
    importance = inputs * rng.exponential(size=things) ** rng.uniform(0.3, 3)
    price = np.array([[plane_bytes(int(k), bits) + 8 * (bits > 0) for bits in alphabet] for k in inputs])
    gain = np.array([GAIN[WIDTHS.index(bits)] for bits in alphabet])
    return importance, gain, price, int(rng.uniform(0.02, 1) * (price[:, -1] - price[:, 0]).sum())


def exact(importance: np.ndarray, gain: np.ndarray, price: np.ndarray, slack: int) -> float:
    """The optimum, byte by byte, written apart from the code under test: worth[b] of at most b bytes."""
    worth = np.zeros(slack + 1)
    for one, ladder in zip(importance, price - price[:, :1], strict=True):
        options = [np.pad(worth, (min(up, slack + 1), 0))[: slack + 1] + one * g for g, up in zip(gain, ladder, strict=True)]
        options = [np.where(np.arange(slack + 1) >= up, each, -1) for each, up in zip(options, ladder, strict=True)]
        worth = np.max(options, axis=0)
    return float(worth[-1])


def test_a_thousand_small_cases_are_within_one_percent_of_the_exact_optimum() -> None:
    rng, gaps = np.random.default_rng(0), []
    for case in range(1_000):
        importance, gain, price, slack = draw(rng, int(rng.integers(2, 25)), ALPHABETS[case % 4])
        (rungs,) = climb_many(Steps.of(gain, price), importance[None], np.array([float(slack)]))
        spent = int((price[np.arange(len(price)), rungs] - price[:, 0]).sum())
        assert spent <= slack
        best = exact(importance, gain, price, slack)
        gaps.append((best - (importance * gain[rungs]).sum()) / max(best, 1e-12))
    assert max(gaps) < 1e-9, "few things are solved exactly; the bar is 1 %"


def test_greed_takes_over_where_it_is_good_enough() -> None:
    rng, gaps = np.random.default_rng(1), []
    for case in range(60):
        importance, gain, price, slack = draw(rng, EXACT_THINGS + 1, ALPHABETS[case % 4])
        (rungs,) = climb_many(Steps.of(gain, price), importance[None], np.array([float(slack)]))
        best = exact(importance, gain, price, slack)
        gaps.append((best - (importance * gain[rungs]).sum()) / max(best, 1e-12))
    assert -1e-9 < min(gaps) <= max(gaps) < 0.1  # of very pointed importance and a budget of a few per cent
    assert np.mean(gaps) < 0.005


@given(st.integers(0, 10_000), st.sampled_from(ALPHABETS))
def test_no_slack_is_exceeded_and_no_step_fits_any_more_but_for_what_a_dearer_one_below_holds_up(
    seed: int, alphabet: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    _, gain, price, _ = draw(rng, 80, alphabet)
    steps, importance = Steps.of(gain, price), rng.exponential(size=(20, 80)) ** rng.uniform(0, 4)
    slack = rng.uniform(0, 1.1, 20) * (price[:, -1] - price[:, 0]).sum()
    rungs = climb_many(steps, importance, slack)
    spent = price[np.arange(80), rungs].sum(axis=1) - price[:, 0].sum()
    assert (spent <= slack).all()
    for user in range(20):
        for thing in np.flatnonzero(rungs[user] < len(gain) - 1):
            assert steps.widest[rungs[user, thing], thing] > slack[user] - spent[user]


def test_a_users_answer_does_not_depend_on_the_batch(base: Base) -> None:
    rng = np.random.default_rng(0)
    importance = rng.exponential(size=(40, base.channels)).astype(np.float32)
    whole = costs(base, allocate(base, Importance(), Budget())).weight_bytes
    budgets = [Budget(weight_bytes=share * whole) for share in rng.uniform(0.75, 1.1, 40)]
    together = CodeAllocator.of(base, (2, 4, 8)).allocate(importance, budgets)
    for one, budget, found in zip(importance, budgets, together, strict=True):
        alone = allocate(base, Importance(one), budget)
        assert (found.codes is None) == (alone.codes is None) == (budget.weight_bytes >= whole)
        assert found.codes is None or np.array_equal(found.codes, alone.codes)
        assert costs(base, found).weight_bytes <= budget.weight_bytes


def test_a_batch_with_a_budget_below_the_floor_is_refused_with_the_floor(base: Base) -> None:
    allocator = CodeAllocator.of(base, (2, 4, 8))
    with pytest.raises(BudgetError) as caught:
        allocator.allocate(np.ones((2, base.channels)), [Budget(weight_bytes=1e9), Budget(weight_bytes=10.0)])
    assert caught.value.floor == allocator.floor
    (lowest,) = allocator.allocate(np.ones((1, base.channels)), [Budget(weight_bytes=float(allocator.floor))])
    assert lowest.codes is not None
    assert (lowest.codes == 1).all()


def test_negative_zeros_and_no_importance_at_all_are_no_reason_to_spend_nothing() -> None:
    _, gain, price, _ = draw(np.random.default_rng(0), 100, (2, 4, 8))
    importance = np.array([np.full(100, -0.0), np.zeros(100)])
    rungs = climb_many(Steps.of(gain, price), importance, np.full(2, 1e9))
    assert (rungs == 2).all()


@pytest.mark.skipif(library() is None, reason="there was no compiler")
@given(st.integers(0, 100_000), st.integers(1, 300), st.integers(1, 3))
def test_without_a_compiler_the_answers_are_the_same(seed: int, things: int, levels: int) -> None:
    rng, loaded = np.random.default_rng(seed), library()
    assert loaded is not None
    price = np.cumsum(rng.choice([0, 1, 16, 32, 64, 1_000], (things, levels + 1)), axis=1)
    steps = Steps.of(np.sort(rng.random(levels + 1)), price)
    importance = (rng.exponential(size=(3, things)) ** rng.uniform(0, 8)).astype(np.float32)
    if seed % 2:
        importance = np.floor(2 * importance)  # many are equal, and many are zero
    share = importance / np.maximum(importance.max(axis=1, keepdims=True), np.float32(1e-30))
    slack = (rng.uniform(0, 1.1, 3) * (price[:, -1] - price[:, 0]).sum()).astype(np.int64)
    np.testing.assert_array_equal(climb_compiled(loaded, steps, share, slack), climb_in_numpy(steps, share, slack))
