"""Controls: permutations that leave nobody in place, shuffles that cost the same bytes, measures of difference."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossia.errors import UsageError
from ossia.evaluation.controls import another_user, code_entropy, constant_importance, mean_distance, shuffle_codes

codes_of_users = st.tuples(st.integers(2, 6), st.integers(1, 10)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3))
)


@given(st.integers(2, 200), st.integers(0, 1000))
def test_everybody_gets_somebody_else_and_everybody_is_named_once(users: int, seed: int) -> None:
    other = another_user(users, seed=seed)
    assert not np.any(other == np.arange(users))
    assert sorted(other.tolist()) == list(range(users))
    assert np.array_equal(other, another_user(users, seed=seed))


def test_all_permutations_without_a_fixed_place_are_equally_likely() -> None:
    drawn = Counter(tuple(another_user(4, seed=seed).tolist()) for seed in range(1_800))
    assert len(drawn) == 9  # derangements of four
    assert all(abs(count - 200) < 5 * math.sqrt(200) for count in drawn.values())


def test_one_user_has_nobody_to_swap_with() -> None:
    with pytest.raises(UsageError, match="at least 2 users"):
        another_user(1, seed=0)


@given(codes_of_users, st.integers(0, 99))
def test_a_shuffle_keeps_every_users_histogram_in_every_size_of_channel(codes: np.ndarray, seed: int) -> None:
    inputs = np.arange(codes.shape[1]) % 2 * 64 + 64
    shuffled = shuffle_codes(codes, inputs, seed=seed)
    for size in (64, 128):
        alike = inputs == size
        assert np.array_equal(np.sort(shuffled[:, alike], axis=1), np.sort(codes[:, alike], axis=1))
    assert np.array_equal(shuffled, shuffle_codes(codes, inputs, seed=seed))


def test_a_shuffle_moves_codes_differently_for_every_user_and_leaves_the_original_alone() -> None:
    codes = np.tile(np.arange(200, dtype=np.uint8) % 4, (5, 1))
    before = codes.copy()
    shuffled = shuffle_codes(codes, np.full(200, 64), seed=0)
    assert np.array_equal(codes, before)
    assert mean_distance(shuffled) == pytest.approx(0.75, abs=0.08)  # four equally frequent codes, independent


def test_the_constant_importance_listens_to_everybody_equally() -> None:
    quiet, loud, silent = [1.0, 3.0], [400.0, 400.0], [0.0, 0.0]
    assert constant_importance(np.array([quiet, loud, silent])).tolist() == [0.375, 0.625]
    assert constant_importance(np.zeros((2, 3))).tolist() == [0, 0, 0]
    with pytest.raises(UsageError, match="at least one user"):
        constant_importance(np.empty((0, 3)))


@given(codes_of_users)
def test_the_mean_distance_is_that_of_all_pairs(codes: np.ndarray) -> None:
    users = len(codes)
    pairs = [(codes[u] != codes[v]).mean() for u in range(users) for v in range(users) if u != v]
    assert mean_distance(codes) == pytest.approx(np.mean(pairs))


@given(codes_of_users)
def test_entropy_is_zero_exactly_when_all_users_agree(codes: np.ndarray) -> None:
    assert 0 <= code_entropy(codes) <= 2
    assert (code_entropy(codes) == 0) == bool(np.all(codes == codes[0]))


def test_four_codes_in_equal_shares_are_two_bits() -> None:
    assert code_entropy(np.arange(4, dtype=np.uint8)[:, None]) == 2


def test_one_user_has_no_distance() -> None:
    with pytest.raises(UsageError, match="at least 2 users"):
        mean_distance(np.zeros((1, 4), np.uint8))
