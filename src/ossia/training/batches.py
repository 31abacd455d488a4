"""Histories → training batches without work on padding.

Most users of a real log have a handful of events, so a batch padded to 50 columns is nine tenths padding. Here users of
similar length travel together, and a batch is cropped to its longest. A batch holds a number of *events*, not of users, so
that every event weighs the same in a mean:

    targets of windows    2 2 2 2 3 3 | 8 10 11 | 50        events = 50, say; one more event would be too many
    columns                     3     |    11   | 50

A user with more than `length` + 1 events is cut into *windows* from the newest end. Neighbours share one event, the last
target of the older and the first input of the newer, so that every event but a user's first is a target exactly once:

    history a b c d e f, length 2     →     windows [a b] [b c d] [d e f]     inputs a | b c | d e     targets b | c d | e f

The order is new in every epoch: which windows of equal size meet is random, and so is the order of the batches. Rows are
padded on the left with `ABSENT`, as backbones want them. What this does not do: put anything on a device, or draw negatives.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, Int32, Int64
from torch import Tensor

from ossia.data import Histories
from ossia.types import ABSENT


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows side by side, left-padded.

    Attributes:
        inputs: what the model reads; `ABSENT` is padding.
        targets: the item that came after each input; `ABSENT` exactly where the input is.
    """

    inputs: Int[Tensor, "windows time"]
    targets: Int[Tensor, "windows time"]

    def to(self, device: torch.device) -> "Batch":
        """Put the batch on a device.

        Args:
            device: where.

        Returns:
            the batch there.
        """
        return Batch(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True, eq=False)
class Windows:
    """Pieces of histories to train on: window w is the events `starts[w] … starts[w] + sizes[w]`, both included.

    Attributes:
        events: the item rows of all users end to end.
        starts: where each window's first input is.
        sizes: targets in each window; it has one event more.
    """

    events: Int32[np.ndarray, " events"]
    starts: Int64[np.ndarray, " windows"]
    sizes: Int64[np.ndarray, " windows"]

    def __len__(self) -> int:
        """Return how many windows there are."""
        return len(self.starts)

    def batch(self, windows: Int[np.ndarray, " chosen"], time: int) -> Batch:
        """Put some windows side by side.

        Args:
            windows: which.
            time: columns; at least the largest size among them.

        Returns:
            the batch, on the CPU.
        """
        back = np.arange(time, -1, -1)  # how far an event lies before its window's last
        sizes = self.sizes[windows, None]
        place = np.where(back <= sizes, self.starts[windows, None] + sizes - back, 0)
        rows = torch.from_numpy(np.where(back <= sizes, self.events[place], ABSENT).astype(np.int64))
        inputs = rows[:, :-1]
        # A window's first event is no target; with padding before it, its column would look like one.
        return Batch(inputs, rows[:, 1:].where(inputs != ABSENT, ABSENT))


def cut_windows(histories: Histories, length: int) -> Windows:
    """Cut histories into windows of at most `length` targets, from the newest end.

    Args:
        histories: the training part of the log.
        length: the longest input that the model reads, in events.

    Returns:
        the windows; a user with fewer than two events has none.

    Example:
        >>> windows = cut_windows(Histories.from_lists([[0, 1, 2, 3, 4, 5], [6]]), length=2)
        >>> [windows.events[s : s + n + 1].tolist() for s, n in zip(windows.starts, windows.sizes, strict=True)]
        [[3, 4, 5], [1, 2, 3], [0, 1]]
    """
    targets = np.maximum(histories.lengths - 1, 0)
    pieces = -(-targets // length)
    user = np.repeat(np.arange(len(histories)), pieces)
    newer = np.arange(len(user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)  # windows of that user that are newer
    sizes = np.minimum(length, targets[user] - newer * length)
    last = histories.offsets[user + 1] - 1 - newer * length
    return Windows(histories.items, last - sizes, sizes)


def epoch_batches(windows: Windows, events: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Go once through all windows, similar sizes together, batches in random order.

    Args:
        windows: what to train on.
        events: targets per batch, about; a batch is never empty, nor larger by more than one window.
        rng: the randomness; equal generators give equal epochs.

    Yields:
        batches, each cropped to its largest window.
    """
    groups = group_by_size(windows.sizes, events, rng)
    for group in rng.permutation(len(groups)):
        chosen = groups[group]
        yield windows.batch(chosen, int(windows.sizes[chosen].max()))


def group_by_size(
    sizes: Int64[np.ndarray, " windows"], events: int, rng: np.random.Generator
) -> list[Int64[np.ndarray, " chosen"]]:
    """Deal windows into groups of about `events` targets, similar sizes together.

    Args:
        sizes: targets per window.
        events: targets per group.
        rng: decides which windows of equal size meet.

    Returns:
        the windows of each group; every window is in exactly one.
    """
    if not len(sizes):
        return []
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(sizes[shuffled], kind="stable")]
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.split(order, np.flatnonzero(np.diff(before // events)) + 1)
