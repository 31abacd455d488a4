"""The nouns that are plain data. Everything here is a value: made once, never changed.

An *item* is a row number of the item table, 0 … items − 1. The ids of the user's own catalog live in the table and
meet row numbers only at the edges. `ABSENT` (−1) stands for an item that the table does not know.
"""

from dataclasses import dataclass, fields
from typing import Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, Int8

from ossia.errors import UsageError

ABSENT: Final = -1
"""An item that has no row: skipped in a history, ranked last as a candidate, padding in a batch."""

WIDTHS: Final = (0, 2, 4, 8)
"""Bits per weight that the codes 0, 1, 2, 3 name; 0 means that the channel or row is not there."""

History: TypeAlias = Int[np.ndarray, " events"]
"""Items a user met, oldest first, such as `[17, 3, 3, 250]`. May hold `ABSENT`."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Items to re-rank, with or without their vectors.

    Attributes:
        items: row numbers; `ABSENT` where the table has no such item.
        vectors: one vector a candidate, for items whose rows arrived beside the list; None: the table's rows are used.
    """

    items: Int[np.ndarray, " candidates"]
    vectors: Float32[np.ndarray, "candidates dim"] | None = None

    def __len__(self) -> int:
        """Return how many candidates there are."""
        return len(self.items)


@dataclass(frozen=True)
class Budget:
    """What a device can afford. Each limit is hard, all hold at once, and None means no limit.

    Attributes:
        download_bytes: the payload, and the planes and rows that are not yet on the device.
        weight_bytes: the base at rest, packed: only the planes in use.
        table_bytes: rows, their scales and ids, and the rows of the device's own history.
        latency_us: one ranking, by this device's measured cost table, in microseconds.

    Example:
        >>> Budget.parse("weight_bytes=48000,table_bytes=20000")
        Budget(download_bytes=None, weight_bytes=48000.0, table_bytes=20000.0, latency_us=None)
    """

    download_bytes: int | float | None = None
    weight_bytes: int | float | None = None
    table_bytes: int | float | None = None
    latency_us: int | float | None = None

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read `name=number,name=number`, the form of the command line; an empty text means no limit.

        Args:
            text: such as `weight_bytes=48000`; names are this class's fields, numbers are above zero.

        Returns:
            the budget.

        Raises:
            UsageError: an unknown or repeated name, or something that is not a positive finite number.
        """
        names = {field.name for field in fields(cls)}
        limits: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, number = part.partition("=")
            if name not in names or name in limits:
                raise UsageError(f"budget: expected each of {', '.join(sorted(names))} at most once, got {part!r}")
            limits[name] = _positive(name, number)
        return cls(**limits)


@dataclass(frozen=True)
class Slot:
    """A named weight of the backbone that may be adapted: a matrix of `channels` rows, each of `inputs` weights.

    Attributes:
        name: the weight's published name, such as `blocks.0.query`.
        channels: output rows; each has a width of its own.
        inputs: weights per channel.
        gate: the gate that skips this slot's block, such as `blocks.0.attention`; None where no gate does.
    """

    name: str
    channels: int
    inputs: int
    gate: str | None = None


@dataclass(frozen=True, eq=False)
class Profile:
    """What leaves the device: the base's own user state, clipped, as int8 with one scale. Never the history.

    Attributes:
        values: the quantized state, −127 … 127.
        scale: the state is `values * scale`; 0 for a user without history.
    """

    values: Int8[np.ndarray, " dim"]
    scale: np.float32

    @property
    def state(self) -> Float32[np.ndarray, " dim"]:
        """The user state that the cloud works with."""
        return self.values.astype(np.float32) * self.scale


@runtime_checkable
class Ranker(Protocol):
    """Anything that can score candidates for a history; evaluation judges nothing else."""

    def scores(self, history: History, candidates: Candidates) -> Float32[np.ndarray, " candidates"]:
        """Score every candidate, higher is better; −inf for what can't be scored.

        Args:
            history: the user's items, oldest first.
            candidates: what to score.

        Returns:
            one score per candidate, in the candidates' order.
        """
        ...


def _positive(name: str, number: str) -> float:
    """Read one limit of a budget."""
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UsageError(f"budget: expected a number above 0 for {name}, got {number!r}")
    return value
