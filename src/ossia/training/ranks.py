"""Several processes train one model: each takes part of a batch's rows, and all take the same step.

    torchrun --nproc-per-node 2 --no-python ossia train data --out run

Every rank makes the same batch and draws the same negatives, for both follow from the seed; then rank r keeps rows r, r + R, …
of the batch. The loss of a batch is a mean over its N events, so with n_r events in its part

    loss = Σ_r (n_r / N) · loss_r        gradient = Σ_r (n_r / N) · gradient_r

and summing the weighted gradients (gloo's all-reduce, every rank gets the same bits) gives the step that one process would
take on the whole batch, up to rounding. Dropout is drawn by each rank for its own rows, so only without it are the two
comparable number by number.

Rank 0 writes the run's folder and validates; the others wait for its figure. torchrun stops all when one is gone, and the same
command goes on from the checkpoint, with as many ranks as it likes. What this does not do: many machines, or devices other
than the CPU.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn

from ossia.errors import UsageError
from ossia.training.batches import Batch
from ossia.training.fit import Loss
from ossia.training.teacher import TaughtBatch
from ossia.types import ABSENT


class Ranks(NamedTuple):
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            distributed.barrier()

    def agree(self, compute: Callable[[], float]) -> float:
        """Let rank 0 compute a number, and tell the others.

        Args:
            compute: called by rank 0 alone.

        Returns:
            the number, to all.
        """
        if self.size == 1:
            return compute()
        number = torch.tensor([compute() if self.first else 0.0], dtype=torch.float64)
        distributed.broadcast(number, src=0)
        return float(number)

    def add_up(self, numbers: list[float]) -> list[float]:
        """Add up each rank's numbers, place by place.

        Args:
            numbers: as many in every rank.

        Returns:
            the sums, to all.
        """
        if self.size == 1:
            return numbers
        sums = torch.tensor(numbers, dtype=torch.float64)
        distributed.all_reduce(sums)
        return [float(number) for number in sums]


def join_ranks(device: str) -> Ranks:
    """Join the processes that torchrun started; without it this process is alone.

    Args:
        device: where training runs.

    Returns:
        which of them this one is.

    Raises:
        UsageError: several processes on a device other than the CPU.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks()
    if device != "cpu":
        raise UsageError(f"torchrun: expected device cpu for several processes, got {device}")
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return Ranks(distributed.get_rank(), distributed.get_world_size())


@dataclass(frozen=True, eq=False)
class Part:
    """One rank's rows of a batch.

    Attributes:
        batch: the rows.
        weight: the share of the batch's events that they hold.
    """

    batch: Batch
    weight: float

    def to(self, device: torch.device) -> "Part":
        """Put the rows on a device.

        Args:
            device: where.

        Returns:
            the rows there.
        """
        return Part(self.batch.to(device), self.weight)


def parts(batches: Iterator[Batch] | Iterator[TaughtBatch], ranks: Ranks) -> Iterator[Part]:
    """Take one rank's part of every batch.

    Args:
        batches: the same in every rank.
        ranks: whose part.

    Yields:
        the parts; where a batch has fewer rows than there are ranks, the last ones take a row that counts for nothing.
    """
    for batch in batches:
        mine = torch.arange(len(batch.inputs)) % ranks.size == ranks.rank
        counts = bool(mine.any())
        mine[0] |= not counts
        real = batch.inputs != ABSENT
        plain = Batch(batch.inputs[mine], batch.targets[mine], batch.positions[mine], batch.pieces[mine])
        weight = float(real[mine].sum() / real.sum()) if counts else 0.0
        if isinstance(batch, TaughtBatch):
            events = mine[:, None].expand_as(real)[real]
            plain = TaughtBatch(**vars(plain), lists=batch.lists[events], scores=batch.scores[events])
        yield Part(plain, weight)


def weighted(loss: Loss, ranks: Ranks) -> Loss:
    """Make a loss of whole batches one of parts.

    Args:
        loss: a mean over events.
        ranks: which process computes.

    Returns:
        the part's share of the batch's loss.
    """

    def share(model: nn.Module, part: Part, generator: torch.Generator) -> Tensor:
        torch.manual_seed(torch.initial_seed() + ranks.rank)  # dropout of its own; `fit` puts the generator back
        return part.weight * loss(model, part.batch, generator)

    return share


def add_gradients(model: nn.Module) -> None:
    """Replace every gradient by the sum of all ranks' gradients: in one message, and one more for each table of rows.

    Args:
        model: the same in every rank, after its backward pass.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    dense = [gradient for gradient in gradients if not gradient.is_sparse]
    together = torch.cat([gradient.flatten() for gradient in dense])
    distributed.all_reduce(together)
    for gradient, total in zip(dense, torch.split(together, [gradient.numel() for gradient in dense]), strict=True):
        gradient.copy_(total.view_as(gradient))
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            rows = parameter.grad.coalesce()
            distributed.all_reduce(rows)
            parameter.grad = rows
