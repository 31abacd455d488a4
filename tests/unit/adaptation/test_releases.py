"""Stages and halts: who may have what, decided by each device for itself."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.adaptation.releases import Rollout, must_halt, place

NUMBERS = st.integers(0, 50)


@given(NUMBERS, NUMBERS, st.integers(0, 100), st.sets(NUMBERS, max_size=4), st.binary(max_size=32), NUMBERS)
def test_no_rollout_whatever_takes_a_device_back(settled, following, percent, halted, secret, held) -> None:
    wanted = Rollout(settled, following, percent, tuple(halted)).wanted(secret, held)
    assert wanted >= held
    assert wanted in (held, settled, following)


def test_each_stage_holds_its_share_of_devices_and_those_before_it() -> None:
    secrets = [number.to_bytes(4, "big") for number in range(20_000)]
    held: set[bytes] = set()
    for percent in (1, 10, 100):
        rollout = Rollout(settled=6, next=7, percent=percent)
        now = {secret for secret in secrets if rollout.wanted(secret, 6) == 7}
        assert abs(len(now) / len(secrets) - percent / 100) < 0.005
        assert held <= now
        held = now


def test_who_is_first_with_one_release_is_not_with_the_next() -> None:
    first = [secret for secret in (number.to_bytes(4, "big") for number in range(20_000)) if place(secret, 7) < 0.1]
    assert abs(sum(place(secret, 8) < 0.1 for secret in first) / len(first) - 0.1) < 0.03


def test_a_halted_release_is_taken_by_nobody_and_left_at_once_by_who_has_it() -> None:
    halted = Rollout(settled=6, next=7, percent=0, halted=(7,))
    secrets = [number.to_bytes(4, "big") for number in range(1000)]
    assert Counter(halted.wanted(secret, 6) for secret in secrets) == {6: 1000}
    assert Counter(halted.wanted(secret, 7) for secret in secrets) == {7: 1000}
    after = Rollout(settled=6, next=8, percent=1, halted=(7,))
    assert Counter(after.wanted(secret, 7) for secret in secrets) == {8: 1000}
    assert Counter(after.wanted(secret, 6) for secret in secrets)[6] > 980


def test_a_good_release_is_seldom_halted_and_a_bad_one_soon() -> None:
    """Reports come one by one, and each time the release is judged: a chance to be wrong at every step."""
    import numpy as np

    rng = np.random.default_rng(0)

    def halted_after(share: float) -> float:
        worse = np.cumsum(rng.random(800) < share)
        return next((count for count in range(1, 801) if must_halt(count, int(worse[count - 1]))), np.inf)

    assert np.mean([np.isfinite(halted_after(0.02)) for _ in range(60)]) < 0.05
    assert np.quantile([halted_after(0.2) for _ in range(40)], 0.95) < 200


@pytest.mark.parametrize("reports", [0, 1, 19])
def test_a_handful_of_complaints_halts_nothing(reports: int) -> None:
    assert not must_halt(reports, reports)
