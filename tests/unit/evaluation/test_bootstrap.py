"""Intervals: do they hold what they promise, on data whose truth is known?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossia.errors import UsageError
from ossia.evaluation.bootstrap import bootstrap_mean, paired_bootstrap


def test_ninety_five_percent_intervals_cover_the_truth_about_ninety_five_times_in_a_hundred() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(400):
        gains = np.where(rng.random(300) < 0.3, 0.6, 0.0)  # true mean 0.18
        interval = bootstrap_mean(gains, seed=trial, draws=400)
        covered += interval.low <= 0.18 <= interval.high
    assert 0.91 <= covered / 400 <= 0.985


def test_p_of_a_difference_that_is_not_there_is_even() -> None:
    rng = np.random.default_rng(2)
    small = sum(
        (paired_bootstrap(rng.normal(size=150), rng.normal(size=150), seed=trial, draws=400).p or 0) < 0.1
        for trial in range(400)
    )
    assert 0.06 <= small / 400 <= 0.15


def test_the_interval_of_a_mean_is_as_wide_as_the_theory_says() -> None:
    values = np.random.default_rng(3).normal(size=2_000)
    interval = bootstrap_mean(values, seed=0)
    assert interval.half_width == pytest.approx(1.96 * values.std() / np.sqrt(2_000), rel=0.05)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.p is None


@pytest.mark.parametrize("noise", [0.0, 1e-9], ids=["few distinct values", "as many as users"])
def test_both_ways_of_drawing_are_the_textbook_one(noise: float) -> None:
    rng = np.random.default_rng(4)
    values = rng.choice([0.0, 0.4, 1.0], size=80, p=[0.7, 0.2, 0.1]) + noise * rng.normal(size=80)
    users = np.random.default_rng(5).integers(0, 80, size=(20_000, 80))  # the textbook way
    slow = np.quantile(values[users].mean(axis=1), [0.025, 0.975])
    fast = bootstrap_mean(values, seed=6, draws=20_000)
    assert (fast.low, fast.high) == pytest.approx(slow, abs=0.004)


def test_pairing_cancels_what_two_rankers_share() -> None:
    rng = np.random.default_rng(7)
    shared = rng.normal(size=500)
    a, b = shared + 0.05 + 0.1 * rng.normal(size=500), shared
    paired = paired_bootstrap(a, b, seed=0)
    alone = bootstrap_mean(a, seed=0).half_width + bootstrap_mean(b, seed=0).half_width
    assert paired.low > 0
    assert paired.p is not None
    assert paired.p < 0.01
    assert paired.half_width < alone / 8


@given(arrays(np.float64, 30, elements=st.floats(0, 1)), arrays(np.float64, 30, elements=st.floats(0, 1)), st.integers(0, 99))
def test_swapping_the_sides_swaps_the_sign(a: np.ndarray, b: np.ndarray, seed: int) -> None:
    there, back = paired_bootstrap(a, b, seed=seed, draws=2_000), paired_bootstrap(b, a, seed=seed, draws=2_000)
    assert there.mean == pytest.approx(-back.mean, abs=1e-12)
    wiggle = 0.15 * there.half_width + 1e-9  # the two draw differently
    assert abs(there.low + back.high) <= wiggle
    assert there.low - 1e-12 <= there.mean <= there.high + 1e-12


def test_a_ranker_against_itself_is_no_difference() -> None:
    values = np.random.default_rng(8).random(50)
    same = paired_bootstrap(values, values, seed=0)
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_a_difference_for_every_user_has_the_least_p_there_is() -> None:
    assert paired_bootstrap(np.ones(20), np.zeros(20), seed=0, draws=999).p == pytest.approx(2 / 1000)


def test_the_same_seed_gives_the_same_interval_and_another_one_nearly_the_same() -> None:
    values = np.random.default_rng(9).random(300)
    first, again, other = (bootstrap_mean(values, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert other.low == pytest.approx(first.low, abs=0.003)


def test_users_are_drawn_and_not_their_runs() -> None:
    values = np.random.default_rng(10).random(200)
    once, thrice = bootstrap_mean(values, seed=0), bootstrap_mean(np.tile(values, (3, 1)), seed=0)
    assert thrice.half_width == pytest.approx(once.half_width)  # copies of a run teach nothing about other users


def test_seeds_are_averaged_per_user_before_the_difference_is_drawn() -> None:
    a, b = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 0.0], [0.0, 0.0]])
    interval = paired_bootstrap(a, b, seed=0)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_sides_about_different_users_are_refused() -> None:
    with pytest.raises(UsageError, match="same users"):
        paired_bootstrap(np.zeros(3), np.zeros(4), seed=0)
    with pytest.raises(UsageError, match="same users"):
        paired_bootstrap(np.zeros((2, 3)), np.zeros(3), seed=0)


def test_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one user"):
        bootstrap_mean(np.empty(0), seed=0)
