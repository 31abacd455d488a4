"""The repository of releases in a simulated world: stages, halts and reports by the real rules; files and signatures stand in.

What a look brings is worked out from the device's own secret and the release on its disk, as `ossia.device.update` does. A
release without a base is one that was signed and can't be loaded: whoever wants it keeps what there is, and may tell.
"""

from collections.abc import Mapping

import msgspec

from ossia.adaptation.base import Base
from ossia.adaptation.releases import Rollout, must_halt
from ossia.device.following import News


class Shelf:
    """What is published, and who may have it.

    Args:
        releases: bases by number; None: it can't be loaded. The first is everybody's.
    """

    def __init__(self, releases: Mapping[int, Base | None]) -> None:
        self.releases = releases
        self.rollout = Rollout(settled=1, next=1, percent=100)
        self._reports: dict[int, dict[bytes, bool]] = {}

    def publish(self, percent: int) -> None:
        """Publish the next release; one on its way is halted before.

        Args:
            percent: the first stage.
        """
        self.halt()
        self.rollout = msgspec.structs.replace(self.rollout, next=self.rollout.next + 1, percent=percent)

    def advance(self, percent: int) -> None:
        """Give the release on its way to more devices; at 100 % it is everybody's.

        Args:
            percent: the next stage.
        """
        settled = self.rollout.next if percent == 100 else self.rollout.settled
        self.rollout = msgspec.structs.replace(self.rollout, settled=settled, percent=percent)

    def halt(self) -> None:
        """Let nobody take the release on its way."""
        rollout = self.rollout
        if rollout.next != rollout.settled and rollout.next not in rollout.halted:
            halted = (*rollout.halted, rollout.next)
            self.rollout = msgspec.structs.replace(rollout, halted=halted, percent=0)

    def report(self, device: bytes, release: int, worse: bool) -> bool:
        """Count what a device says of a release, and halt it if too many complain.

        Args:
            device: 16 bytes.
            release: its number.
            worse: whether it complains.

        Returns:
            whether it is halted now.
        """
        voices = self._reports.setdefault(release, {})
        voices[device] = worse
        if release == self.rollout.next and must_halt(len(voices), sum(voices.values())):
            self.halt()
        return release in self.rollout.halted

    def news(self, wanted: int, on_disk: int, in_memory: int) -> News:
        """Say what a look brings.

        Args:
            wanted: the release that is the device's own.
            on_disk: the release on its disk.
            in_memory: the one that it ranks with; 0: it has no base.

        Returns:
            what comes.
        """
        base = self.releases[wanted]
        if base is None:
            return News(False, on_disk, unfit=wanted, faults=("not_a_base",), received=1)
        return News(True, wanted, base if wanted != in_memory else None, received=2 if wanted > on_disk else 1)
