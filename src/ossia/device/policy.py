"""When a device asks, and when it asks again: plain functions of a situation, a clock and a random number.

    always          whenever there was a click since the last payload came
    periodic        every so many seconds
    on_drift        when the profile has turned away from the one that was sent: 1 − cos(then, now) ≥ least
    within_budget   another policy, as long as the bytes of the last day allow it

A clock can be wrong by a year and come right again. So a time that lies in the future counts as none, and nobody waits longer
than the longest wait there is.

**Failures wait with full jitter.** After the n-th failure in a row a device waits

    retry_after + u · min(cap, first · 2ⁿ)        u uniform in [0, 1)

(Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog 2015). Devices that failed together come back spread over the
whole cap: whatever kept a fleet away, its first minute brings about 60 / (cap / 2) of it, and the cap has seen everyone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from ossia.errors import UsageError

DAY_S: Final = 86_400


@dataclass(frozen=True)
class Situation:
    """What a policy may look at.

    Attributes:
        now: seconds since 1970.
        served: when the last payload came; None: never.
        clicks: since then.
        drift: computes 1 − cosine between the profile of now and the one last sent; 1 before the first.
        spent: counts bytes of bodies, both ways, in the last day.
    """

    now: int
    served: int | None
    clicks: int
    drift: Callable[[], float]
    spent: Callable[[], int]


Policy: TypeAlias = Callable[[Situation], bool]
"""Whether a device should ask now."""


def never(_situation: Situation) -> bool:
    """Never ask.

    Args:
        _situation: of no account.

    Returns:
        false.
    """
    return False


def always(situation: Situation) -> bool:
    """Ask whenever something happened.

    Args:
        situation: of the device.

    Returns:
        whether there was a click since the last payload, or there was no payload yet.
    """
    return situation.served is None or situation.clicks > 0


def periodic(situation: Situation, *, every_s: int) -> bool:
    """Ask every so often.

    Args:
        situation: of the device.
        every_s: seconds between a payload and the next ask.

    Returns:
        whether they are over, or the last payload came at a time that is yet to be.
    """
    return situation.served is None or not 0 <= situation.now - situation.served < every_s


def on_drift(situation: Situation, *, least: float) -> bool:
    """Ask when the user has turned to something else.

    Args:
        situation: of the device.
        least: how far the profile must have turned, 0 … 2.

    Returns:
        whether it has.
    """
    return situation.served is None or situation.drift() >= least


def within_budget(situation: Situation, *, policy: Policy, bytes_a_day: int) -> bool:
    """Hold another policy to a communication budget.

    Args:
        situation: of the device.
        policy: who would like to ask.
        bytes_a_day: of bodies, both ways; an ask may begin below it.

    Returns:
        whether it may.
    """
    return situation.spent() < bytes_a_day and policy(situation)


@dataclass(frozen=True)
class Backoff:
    """How long to wait after failures.

    Attributes:
        first_s: the longest wait after the first failure is twice this.
        cap_s: the longest wait after any; of what a service asks for, too.
    """

    first_s: int = 5
    cap_s: int = 3_600

    def wait(self, failures: int, chance: float, retry_after_s: int = 0) -> int:
        """Draw a wait.

        Args:
            failures: in a row, this one included.
            chance: uniform in [0, 1).
            retry_after_s: what the service asked for.

        Returns:
            seconds.

        Example:
            >>> Backoff().wait(1, 0.5), Backoff().wait(20, 0.5), Backoff().wait(1, 0.5, retry_after_s=60)
            (5, 1800, 65)
        """
        return min(retry_after_s, self.cap_s) + int(chance * min(self.cap_s, self.first_s * 2 ** min(failures, 32)))

    def due(self, now: int, not_before: int) -> bool:
        """Tell whether a wait is over.

        Args:
            now: seconds since 1970.
            not_before: when it ends.

        Returns:
            whether it has ended, or is longer than any wait: then the clock was set back.
        """
        return not 0 < not_before - now <= 2 * self.cap_s


def parse_policy(text: str) -> Policy:
    """Read a policy: `never`, `always`, `periodic:SECONDS` or `drift:LEAST`, and `,bytes:N` for so many bytes a day.

    Args:
        text: such as `drift:0.1,bytes:20000`.

    Returns:
        the policy.

    Raises:
        UsageError: anything else.

    Example:
        >>> parse_policy("periodic:60")(Situation(now=100, served=50, clicks=9, drift=float, spent=int))
        False
    """
    words, _, limit = text.partition(",bytes:")
    name, _, number = words.partition(":")
    try:
        policy = _make_policy(name, number)
        return partial(within_budget, policy=policy, bytes_a_day=int(limit)) if limit else policy
    except (KeyError, ValueError):
        expected = "never, always, periodic:SECONDS or drift:LEAST, and perhaps ,bytes:N"
        raise UsageError(f"policy: expected {expected}, got {text!r}") from None


def _make_policy(name: str, number: str) -> Policy:
    """Make a policy of its two words; KeyError or ValueError where they are none."""
    if name == "periodic":
        return partial(periodic, every_s=int(number))
    if name == "drift":
        return partial(on_drift, least=float(number))
    if number:
        raise ValueError(number)
    return {"always": always, "never": never}[name]
