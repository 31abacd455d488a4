import itertools

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from ossia.adaptation.climb import Ladder, climb


def concave_ladder(rng, things):
    worth = np.concatenate(
        [np.zeros((things, 1)), np.cumsum(np.sort(rng.exponential(size=(things, 3)), axis=1)[:, ::-1], axis=1)], 1
    )
    steps = rng.integers(1, 9, (things, 1)) * np.array([0, 2, 2, 4])
    return Ladder(worth, np.cumsum(steps, axis=1)[:, :, None].astype(float))


def best_of_all(ladder, slack):
    things = range(len(ladder.worth))
    choices = itertools.product(range(4), repeat=len(ladder.worth))
    fitting = (choice for choice in choices if ladder.cost[things, choice, 0].sum() <= slack)
    return max(ladder.worth[things, choice].sum() for choice in fitting)


@given(st.integers(0, 10_000))
def test_greedy_is_within_one_step_of_the_exact_optimum(seed):
    rng = np.random.default_rng(seed)
    ladder = concave_ladder(rng, 5)
    slack = float(rng.integers(0, int(ladder.cost[:, -1].sum()) + 1))
    (rungs,) = climb([ladder], np.array([slack]))
    found = ladder.worth[range(5), rungs].sum()
    assert ladder.cost[range(5), rungs, 0].sum() <= slack
    assert found >= best_of_all(ladder, slack) - np.diff(ladder.worth, axis=1).max() - 1e-9


@given(st.integers(0, 10_000))
@example(31)  # the first step in the order fits one limit, not the other
def test_with_several_limits_none_is_exceeded_and_no_single_step_fits_any_more(seed):
    rng = np.random.default_rng(seed)
    ladders = [Ladder(concave_ladder(rng, n).worth, rng.integers(0, 9, (n, 4, 3)).cumsum(axis=1).astype(float)) for n in (7, 4)]
    lowest = [ladder.cost - ladder.cost[:, :1] for ladder in ladders]
    slack = np.array([rng.integers(0, 200), rng.integers(0, 200), np.inf])
    rungs = climb(ladders, slack)
    used = sum(cost[range(len(rung)), rung].sum(axis=0) for cost, rung in zip(lowest, rungs, strict=True))
    assert (used <= slack).all()
    for cost, rung in zip(lowest, rungs, strict=True):
        for thing, step in enumerate(rung):
            if step < 3:
                assert (used + cost[thing, step + 1] - cost[thing, step] > slack).any()


def test_without_limits_everything_reaches_the_top():
    ladder = concave_ladder(np.random.default_rng(0), 6)
    assert climb([ladder], np.array([np.inf]))[0].tolist() == [3] * 6


def test_nothing_to_climb_is_fine():
    assert climb([Ladder(np.zeros((0, 4)), np.zeros((0, 4, 1)))], np.array([3.0]))[0].tolist() == []
