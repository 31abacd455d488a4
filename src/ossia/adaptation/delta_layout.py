"""Where a generated number goes: a network's flat answer, and the deltas that it means.

    numbers   slot by slot in wire order;   low rank: left (channels × rank), then right (rank × inputs);   dense: the matrix;
              coordinates: one for each direction of the base's basis

A network that generates weights answers with one vector per user. This is the only place that says which of its numbers
belongs to which slot: training reads the vector in torch by the same sizes, and the service makes of it what crosses the wire.

An adaptation has one spelling, so a delta of nothing is not sent: a network that answers zeros answers with the base itself.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from jaxtyping import Float16, Float32

from ossia.adaptation.adaptation import Coordinates, Delta, Dense, LowRank
from ossia.adaptation.sections import delta_shapes
from ossia.errors import UsageError
from ossia.types import Slot

LARGEST = np.float32(60_000.0)
"""What is farther from 0 than a float16 can tell is cut off here: what is sent is always finite."""


@dataclass(frozen=True)
class DeltaLayout:
    """Which slots have a delta, and in which form.

    Attributes:
        slots: in wire order.
        rank: of every delta; 0: dense.
        coordinates: whether a delta is so many coordinates in the base's basis.

    Example:
        >>> layout = DeltaLayout((Slot("a", 3, 4), Slot("b", 2, 3)), rank=1)
        >>> layout.shapes[0], layout.sizes
        (((3, 1), (1, 4)), (7, 5))
    """

    slots: tuple[Slot, ...]
    rank: int
    coordinates: bool = False

    @classmethod
    def of(cls, slots: Sequence[Slot], names: Collection[str], rank: int, *, coordinates: bool = False) -> "DeltaLayout":
        """Choose slots by name.

        Args:
            slots: all of a base's, in wire order.
            names: those that have a delta, in any order.
            rank: of every delta; 0: dense.
            coordinates: whether a delta is so many coordinates in the base's basis.

        Returns:
            the layout.

        Raises:
            UsageError: no name, an unknown one, or a rank that does not fit its byte; names it.
        """
        known = [slot.name for slot in slots]
        if unknown := sorted(set(names) - set(known)):
            raise UsageError(f"delta: expected slots among {', '.join(known)}, got {unknown[0]!r}")
        if not names or not 0 <= rank <= 255:
            raise UsageError(f"delta: expected at least one slot and a rank of 0 … 255, got {len(names)} slots, rank {rank}")
        return cls(tuple(slot for slot in slots if slot.name in names), rank, coordinates)

    @cached_property
    def shapes(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """The arrays of each slot's delta, in the order of the wire."""
        return tuple(tuple(delta_shapes(slot, self.rank, coordinates=self.coordinates)) for slot in self.slots)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers each slot takes."""
        return tuple(sum(rows * columns for rows, columns in shapes) for shapes in self.shapes)

    @property
    def numbers(self) -> int:
        """How many numbers a user has."""
        return sum(self.sizes)

    def bytes_of(self, names: Collection[str]) -> int:
        """Count the bytes that some slots' numbers take on the wire; the section's own head is not counted.

        Args:
            names: the slots; those without a delta cost nothing.

        Returns:
            bytes.
        """
        return sum(2 * size for slot, size in zip(self.slots, self.sizes, strict=True) if slot.name in names)

    def read(self, numbers: Float32[np.ndarray, " numbers"], skipped: Collection[str] = ()) -> tuple[Delta, ...]:
        """Make deltas of a network's answer.

        Args:
            numbers: one user's, finite.
            skipped: gates that are 0: what a skipped block would add is not sent.

        Returns:
            the deltas of slots that run, in wire order; without those that come to nothing.
        """
        ends = list(accumulate(self.sizes))
        pieces = zip(self.slots, self.shapes, np.split(numbers, ends[:-1]), strict=True)
        made = [
            self._delta(slot, shapes, piece) for slot, shapes, piece in pieces if slot.gate is None or slot.gate not in skipped
        ]
        return tuple(delta for delta in made if delta is not None)

    def _delta(self, slot: Slot, shapes: Sequence[tuple[int, int]], numbers: Float32[np.ndarray, " _"]) -> Delta | None:
        """Make one slot's delta; None where it is nothing."""
        halves: Float16[np.ndarray, " _"] = np.clip(numbers, -LARGEST, LARGEST).astype(np.float16)
        cut = shapes[0][0] * shapes[0][1]
        arrays = [part.reshape(shape) for part, shape in zip((halves[:cut], halves[cut:]), shapes, strict=False)]
        if not all(array.any() for array in arrays):
            return None
        if self.coordinates:
            return Coordinates(slot.name, halves)
        return Dense(slot.name, arrays[0]) if len(arrays) == 1 else LowRank(slot.name, arrays[0], arrays[1])
