"""Policies and waits: when a device asks, and how a crowd that failed together comes back."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.device.policy import Backoff, Situation, parse_policy
from ossia.errors import UsageError

NOW, YEAR = 1_800_000_000, 365 * 86_400


def situation(served: int | None = NOW - 100, clicks: int = 3, drift: float = 0.2, spent: int = 500) -> Situation:
    return Situation(NOW, served, clicks, lambda: drift, lambda: spent)


@pytest.mark.parametrize(
    ("text", "told", "asks"),
    [
        ("never", situation(None), False),
        ("always", situation(), True),
        ("always", situation(clicks=0), False),
        ("always", situation(None, clicks=0), True),
        ("periodic:100", situation(), True),
        ("periodic:101", situation(), False),
        ("periodic:86400", situation(served=NOW + YEAR), True),  # a clock that was wrong does not silence a device
        ("drift:0.2", situation(), True),
        ("drift:0.3", situation(), False),
        ("drift:0.3", situation(None), True),
        ("always,bytes:501", situation(), True),
        ("always,bytes:500", situation(), False),
    ],
)
def test_each_policy_asks_when_it_should(text: str, told: Situation, asks: bool) -> None:
    assert parse_policy(text)(told) is asks


@pytest.mark.parametrize("text", ["", "sometimes", "periodic", "periodic:soon", "always:3", "drift:", "always,bytes:many"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="policy: expected never, always"):
        parse_policy(text)


@given(failures=st.integers(1, 10**9), chance=st.floats(0, 1, exclude_max=True), after=st.integers(0, 2**40))
def test_a_wait_is_at_least_what_the_service_asked_for_and_never_longer_than_two_caps(failures, chance, after) -> None:
    backoff = Backoff()
    assert min(after, backoff.cap_s) <= backoff.wait(failures, chance, after) <= 2 * backoff.cap_s
    assert backoff.wait(failures, chance) <= min(backoff.cap_s, 10 * 2 ** min(failures, 30))


@given(now=st.integers(0, 2**32), wait=st.integers(0, 2 * 3600), wrong=st.integers(-400 * 86_400, 400 * 86_400))
def test_a_clock_that_comes_right_again_makes_nobody_wait_longer_than_the_longest_wait(now, wait, wrong) -> None:
    backoff = Backoff()
    not_before = now + wrong + wait  # set while the clock was wrong
    assert any(backoff.due(now + later, not_before) for later in (0, 2 * backoff.cap_s + 1))
    assert backoff.due(now, now)
    assert not backoff.due(now, now + 1)


def test_a_crowd_that_failed_together_comes_back_spread_over_the_cap() -> None:
    random, backoff = Random(0), Backoff()
    back = np.array([backoff.wait(12, random.random()) for _ in range(60_000)])
    counts = np.bincount(back // 60, minlength=60)
    assert len(counts) == 60  # the last of them within the hour
    assert counts.max() < 1.2 * 1000
    assert counts.min() > 0.8 * 1000
