"""What is under way on a device when its power goes, or its disk refuses: it may be there afterwards, or not.

arm        something begins that writes; now and then the power is to go, or a call to fail, within its next steps
disarm     it is over: what was written is certain; what the disk refused stays in doubt until it takes something
settle     the machine has started again and was compared with what was in doubt
"""

from dataclasses import dataclass
from random import Random
from typing import Final

from ossia.simulation.disk import VirtualDisk

FAULTS: Final = 0.01  # of what is written
STEPS: Final = 6  # of the disk, within which a fault comes


@dataclass(frozen=True)
class Doubt:
    """What may be on the disk, or not.

    Attributes:
        click: an item; empty: none.
        payload: what had arrived; empty: nothing.
    """

    click: str = ""
    payload: bytes = b""


class Peril:
    """The faults of one device's disk, and what they put in doubt.

    Args:
        disk: the device's.
        random: draws whether, when and how something goes wrong.
    """

    def __init__(self, disk: VirtualDisk, random: Random) -> None:
        self._disk, self._random = disk, random
        self.doubts: tuple[Doubt, ...] = ()

    def arm(self, doubt: Doubt) -> None:
        """Let now and then the power go or a call fail in the middle of what begins.

        Args:
            doubt: what is under way.
        """
        self.doubts = (*self.doubts, doubt)
        if self._random.random() < FAULTS:
            step = self._disk.steps + self._random.randint(1, STEPS)
            if self._random.random() < 0.5:
                self._disk.cut_at = step
            else:
                self._disk.fail_at = step

    def disarm(self, *, refused: bool) -> None:
        """Note that nothing is under way any more.

        Args:
            refused: whether the disk did not take it, or may have been given nothing.
        """
        if not refused:
            self.settle()
        self._disk.cut_at = self._disk.fail_at = 0

    def settle(self) -> None:
        """Note that nothing is in doubt any more."""
        self.doubts = ()
