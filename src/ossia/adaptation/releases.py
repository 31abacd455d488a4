"""What releases are: numbered, published in stages, and never taken back. No I/O and no keys here.

    releases/7/manifest.json, releases/7/base/…, releases/7/table/…    targets that offline keys sign: what may be run
    keys.json                                                           likewise: whose payloads may be believed
    rollout.json                                                        what an online key signs: who may run it already

A release is everything that a device holds of a base, so that new items are a release too: the same base, another table, and
only the table's files are fetched. The rollout names two releases: one is everybody's, the next is for a share of devices.

    place(secret, n) = SHA-256("ossia stage" ‖ secret ‖ n), its first 8 bytes as a number, over 2⁶⁴     in 0 … 1
    a device takes release n when place < percent / 100

Its place is the device's own secret: stable for one release, fresh for the next, and nobody is asked or told. A halted release
is taken by nobody any more. **Forward, never back**: who has it keeps it until the next release, which may hold the old
files under a new number; those devices take that one at once, whatever its stage.

Trust and transport are `ossia.device.trust` and `ossia.device.update`; publishing is `ossia.service.repository`.
"""

import hashlib
from typing import Annotated, Final, Literal

import msgspec

KEYS: Final = "keys.json"
ROLLOUT: Final = "rollout.json"
ROLE: Final = "rollout"
"""The delegated TUF role that signs `rollout.json`, and nothing else."""
STAGES: Final = (1, 10, 100)

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]


class Rollout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`rollout.json`: who may run what.

    Attributes:
        settled: the release that everybody may have; 0 before the first.
        next: the newest release; `settled` where none is on its way.
        percent: the share of devices that may have `next`.
        halted: releases that nobody may take any more; who has one takes `next` at once.
    """

    settled: Number = 0
    next: Number = 0
    percent: Percent = 0
    halted: tuple[Number, ...] = ()
    kind: Literal["ossia-rollout"] = "ossia-rollout"
    version: Literal[1] = 1

    def wanted(self, secret: bytes, held: int) -> int:
        """Say which release a device should have.

        Args:
            secret: the device's own.
            held: the release that it has; 0 for none.

        Returns:
            a release's number, never below `held`.

        Example:
            >>> rollout = Rollout(settled=6, next=8, percent=0, halted=(7,))
            >>> rollout.wanted(b"a device's own", 6), rollout.wanted(b"a device's own", 7)
            (6, 8)
        """
        invited = held in self.halted or place(secret, self.next) < self.percent / 100
        offered = self.next if invited and self.next not in self.halted else self.settled
        return max(offered, held)


def place(secret: bytes, number: int) -> float:
    """Say where a device stands in the queue for a release.

    Args:
        secret: the device's own; it never leaves it.
        number: the release's.

    Returns:
        0 … 1: the share of devices that may have the release before this one.
    """
    digest = hashlib.sha256(b"ossia stage" + secret + number.to_bytes(4, "little")).digest()
    return int.from_bytes(digest[:8], "little") / 2**64


def folder_of(number: int) -> str:
    """Name the part of the targets that is one release.

    Args:
        number: the release's.

    Returns:
        what all its targets' paths begin with.

    Example:
        >>> folder_of(7) + "manifest.json"
        'releases/7/manifest.json'
    """
    return f"releases/{number}/"


def must_halt(reports: int, worse: int, *, most: float = 0.05, least: int = 20, z: float = 1.96) -> bool:
    """Judge a release by its guard metric: the share of devices that say it ranks worse, or does not run.

    The release is halted when the lower end of the share's 95 % interval (Wilson) is above what is borne, so that a few
    complaints among the first dozens do not halt it, and one more than is borne among thousands does:

        (p + z²/2n − z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n) > most

    Args:
        reports: devices that reported, n; each counts once.
        worse: of these, those that complain; p = worse / reports.
        most: the share that is borne.
        least: reports without which nothing is judged.
        z: how sure to be.

    Returns:
        whether to halt.

    Example:
        >>> must_halt(3, 3), must_halt(20, 2), must_halt(20, 4), must_halt(1000, 60), must_halt(1000, 70)
        (False, False, True, False, True)
    """
    if reports < least:
        return False
    p, n = worse / reports, reports
    spread = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return (p + z * z / (2 * n) - spread) / (1 + z * z / n) > most
