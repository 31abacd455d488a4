"""How sure we are: intervals by drawing the users again.

A mean over users is one draw from what other users would have given. The bootstrap asks how far it would have moved: draw as
many users again, with replacement, average, repeat, and read the 2.5 % and 97.5 % quantiles of those means.

Two rankers are compared **paired**, on the same users: the user's difference is drawn, not the two values apart. Most of the
spread between users, who is easy and who is hard, then cancels, and the interval is several times narrower.

    d_u = a_u − b_u        p = 2 · min( P*[mean d ≤ 0], P*[mean d ≥ 0] )

with one added to each count, so that p is never 0 and a ranker against itself gives 1 (Davison and Hinkley 1997, 4.2).

**How it is fast.** Metrics at k take few values (eleven at k = 10). Drawing n users with replacement and counting how often
each *value* was drawn is one multinomial draw over the distinct values: the same distribution exactly, ten thousand draws of
22,363 users in 60 ms rather than in three seconds.

**Several seeds.** Values shaped `(seeds, users)` are averaged per user first, then users are drawn: runs of one user are not
independent, and counting them as if they were would narrow the interval for free. The interval then speaks of other users
under *these* training seeds; what another seed would give it does not say.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from ossia.errors import UsageError

_CELLS_AT_ONCE = 4_000_000  # 32 MB of counts, or of drawn values
_DRAWS_A_COUNT = 25  # one binomial count takes as long as drawing about so many users


@dataclass(frozen=True)
class Interval:
    """A mean over users, and where it would lie with other users.

    Attributes:
        mean: what was measured.
        low: 2.5 % of the redrawn means lie below.
        high: 2.5 % of them lie above.
        p: for a difference: how often chance alone would give one as large, two-sided; None for a single mean.
    """

    mean: float
    low: float
    high: float
    p: float | None = None

    @property
    def half_width(self) -> float:
        """Half of the interval's length, the ± of a table."""
        return (self.high - self.low) / 2


def bootstrap_mean(values: Float[np.ndarray, "*seeds users"], *, seed: int, draws: int = 10_000) -> Interval:
    """95 % percentile interval of one ranker's mean.

    Args:
        values: one value per user, such as `gains_at_k`; with several seeds a row for each.
        seed: of the random draws.
        draws: how often the users are drawn again.

    Returns:
        the mean with its interval, without p.

    Raises:
        UsageError: there is no user.

    Example:
        >>> bootstrap_mean(np.array([0.0, 1.0] * 200), seed=0)
        Interval(mean=0.5, low=0.45..., high=0.55, p=None)
    """
    pooled = _per_user(values)
    low, high = np.quantile(_redrawn_means(pooled, seed, draws), [0.025, 0.975])
    return Interval(float(pooled.mean()), float(low), float(high))


def paired_bootstrap(
    a: Float[np.ndarray, "*seeds users"], b: Float[np.ndarray, "..."], *, seed: int, draws: int = 10_000
) -> Interval:
    """95 % percentile interval and two-sided p of the mean difference a − b, user by user.

    Args:
        a: one value per user (and per seed, a row for each).
        b: the same users, and seeds, in the same order.
        seed: of the random draws.
        draws: how often the users are drawn again; no p is below 2 / (draws + 1).

    Returns:
        the mean difference with its interval and p.

    Raises:
        UsageError: there is no user, or the two are not about the same users.
    """
    if a.shape != b.shape:
        raise UsageError(f"paired bootstrap: expected the same users on both sides, got shapes {a.shape} and {b.shape}")
    pooled = _per_user(np.asarray(a, np.float64) - b)
    means = _redrawn_means(pooled, seed, draws)
    low, high = np.quantile(means, [0.025, 0.975])
    tail = 1 + min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return Interval(float(pooled.mean()), float(low), float(high), min(1.0, float(2 * tail / (draws + 1))))


def as_share(gap: Interval, whole: float) -> Interval:
    """Say a difference as a share of what it is held against: 1 + (a − b) / b, where b's mean is taken as known.

    Args:
        gap: the paired difference a − b.
        whole: the mean of b.

    Returns:
        the share of b that a has, with the difference's interval and p.

    Example:
        >>> as_share(Interval(-0.5, -1.0, 0.5, 0.3), 2.0)
        Interval(mean=0.75, low=0.5, high=1.25, p=0.3)
    """
    return Interval(1 + gap.mean / whole, 1 + gap.low / whole, 1 + gap.high / whole, gap.p)


def _per_user(values: Float[np.ndarray, "*seeds users"]) -> Float64[np.ndarray, " users"]:
    """Average each user over the seeds."""
    if not values.size:
        raise UsageError("bootstrap: expected at least one user, got none")
    return values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)


def _redrawn_means(values: Float64[np.ndarray, " users"], seed: int, draws: int) -> Float64[np.ndarray, " draws"]:
    """Means of `draws` samples of the users with replacement: by counting values where they are few, else by drawing users."""
    rng = np.random.default_rng(seed)
    users = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    few = len(distinct) * _DRAWS_A_COUNT < users
    at_once = max(1, _CELLS_AT_ONCE // (len(distinct) if few else users))
    sums = []
    for done in range(0, draws, at_once):
        now = min(at_once, draws - done)
        if few:
            sums.append(rng.multinomial(users, counts / users, size=now) @ distinct)
        else:
            sums.append(values[rng.integers(0, users, (now, users), np.int32)].sum(axis=1))
    return np.concatenate(sums) / users
