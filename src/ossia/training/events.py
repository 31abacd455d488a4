"""Events: cases with the profiles that the cloud would have had of their histories, alone and side by side in batches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from ossia.backbones.ranker import pad_left
from ossia.data import Cases, Histories
from ossia.training.batches import group_by_size


@dataclass(frozen=True, eq=False)
class EventBatch:
    """Events side by side: what a user had met, what came next, and the profile that the cloud would have had.

    Attributes:
        histories: item rows, left-padded.
        targets: the item that came next.
        profiles: dequantized int8 profiles of those histories.
        rows: the number of each event among all of them.
    """

    histories: Int[Tensor, "events time"]
    targets: Int[Tensor, " events"]
    profiles: Float[Tensor, "events dim"]
    rows: Int[Tensor, " events"]

    def to(self, device: torch.device) -> "EventBatch":
        """Put the batch on a device.

        Args:
            device: where.

        Returns:
            the batch there.
        """
        return EventBatch(*(tensor.to(device) for tensor in (self.histories, self.targets, self.profiles, self.rows)))


@dataclass(frozen=True, eq=False)
class Events:
    """Cases with the profiles that belong to their histories.

    Attributes:
        cases: histories and what came next.
        profiles: dequantized int8 profiles, one per case, on the CPU.
        length: the newest events that the backbone reads of a history.
    """

    cases: Cases
    profiles: Float[Tensor, "events dim"]
    length: int

    def __len__(self) -> int:
        """Return how many events there are."""
        return len(self.cases)

    def batch(self, rows: Int64[np.ndarray, " chosen"]) -> EventBatch:
        """Put some events side by side.

        Args:
            rows: which.

        Returns:
            the batch, on the CPU.
        """
        padded = torch.from_numpy(pad_left([self.cases.histories[row] for row in rows.tolist()], self.length))
        targets = torch.from_numpy(self.cases.targets[rows].astype(np.int64))
        return EventBatch(padded, targets, self.profiles[rows], torch.from_numpy(rows))

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[EventBatch]:
        """Go once through all events, histories of similar length together, batches in random order.

        Args:
            size: history events per batch, about.
            rng: the randomness.

        Yields:
            batches, each cropped to its longest history.
        """
        groups = group_by_size(np.minimum(self.cases.histories.lengths, self.length), size, rng)
        for group in rng.permutation(len(groups)):
            yield self.batch(groups[group])


def take_cases(cases: Cases, rows: Int64[np.ndarray, " chosen"]) -> Cases:
    """Take some cases, in the order asked for.

    Args:
        cases: all of them.
        rows: which.

    Returns:
        those.
    """
    histories = [cases.histories[row].tolist() for row in rows.tolist()]
    return Cases(Histories.from_lists(histories), cases.targets[rows], cases.users[rows])


def earlier(cases: Cases, events: int) -> Cases:
    """Go back some events in every history, but keep its first.

    Args:
        cases: as they are now.
        events: how many to forget.

    Returns:
        the cases, with shorter histories.
    """
    shorter = [history[: max(1, len(history) - events)].tolist() for history in cases.histories]
    return Cases(Histories.from_lists(shorter), cases.targets, cases.users)
