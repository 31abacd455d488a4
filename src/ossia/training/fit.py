"""The training loop, as a generator: one optimizer step per batch, and the caller watches by iterating.

Every step has randomness of its own, a function of (seed, step): torch's global generators, which dropout draws from, are
seeded for the step and put back after it, and the loss gets a generator for its negatives. So an epoch gives the same
weights whatever ran before it in the process, which is what makes an interrupted training resumable to the last bit; and
training disturbs nobody else's randomness.

What it does not do: epochs, validation, early stopping, checkpoints (`backbone.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@runtime_checkable
class Movable(Protocol):
    """A batch: anything that can be put on a device."""

    def to(self, device: torch.device) -> "Movable":
        """Put the batch on a device.

        Args:
            device: where.

        Returns:
            the batch there.
        """
        ...


Loss: TypeAlias = Callable[..., Tensor]
"""`(model, batch, generator) -> mean loss`, a scalar; batch and generator are on the model's device."""


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        index: 0 for the first step of the epoch.
        loss: the batch's mean loss before the step, in the loss's unit.
    """

    index: int
    loss: float


def fit(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Movable],
    optimizer: Optimizer,
    *,
    seed: tuple[int, ...],
    after: Sequence[Callable[[nn.Module], None]] = (),
) -> Iterator[Step]:
    """Take one optimizer step per batch and yield what happened; stop iterating to stop training.

    Args:
        model: is put into training mode, and trained in place on its own device.
        loss: called with the model, the batch on the model's device, and a generator there.
        batches: one epoch of them, on any device.
        optimizer: over the parameters that are to move.
        seed: the randomness of these steps, such as (seed, epoch).
        after: called one after the other when the gradients are there, before the step: several processes add theirs up
            (`ranks.py`), a delayed update holds them back (`widths.py`).

    Yields:
        one `Step` per batch.
    """
    device = next(model.parameters()).device
    model.train()
    for index, batch in enumerate(batches):
        with seeded((*seed, index), device) as generator:
            value = loss(model, batch.to(device), generator)
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
        for change in after:
            change(model)
        optimizer.step()
        yield Step(index, value.item())


@contextmanager
def seeded(seed: tuple[int, ...], device: torch.device) -> Iterator[torch.Generator]:
    """Seed torch's global generators for a block, and put them back as they were.

    Args:
        seed: numbers ≥ 0; every tuple is a stream of its own.
        device: the device that computes; the CPU's generator is seeded as well.

    Yields:
        a generator on the device for draws that take one, of a stream of its own.
    """
    first, second = np.random.SeedSequence(seed).generate_state(2, np.uint64).tolist()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(first)
        yield torch.Generator(device).manual_seed(second)
