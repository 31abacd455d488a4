"""Product codes trained along with the model: encoder, item vectors, codewords and rotation move together; codes stay.

    loss      = next item's loss over the rows + w · next item's loss over the coarse rows
    coarse(i) = (c_1[a_i1], …, c_m[a_im]) Rᵀ,     s · coarse(i) = (s R) · (c_1[a_i1], …, c_m[a_im])

A run that is trained has a coarse tail (`ossia.adaptation.tail`) fitted to its table (`product_codes.py`): the table is what
it is, and codewords have to follow. Here a training goes on from such a run with its tail: a state is asked for the next item
twice, of the table's rows and of coarse ones, with the same draws, and so learns to be read by both. What a device is judged
by is both as well, so an epoch is as good as the mean of the two.

Codes are where k-means put them. A row whose vector moves away keeps its codewords, as it does on a device.
"""

from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ossia.adaptation.tail import Tail
from ossia.backbones import Backbone
from ossia.training.batches import Batch
from ossia.training.losses import AS_TRAINED, Beside, NextItemLoss, Reading

NAME = "coarse"
"""Of the module in its backbone, and so the first part of its tensors' names in a run's files."""
TURN = 0.3
"""The rotation's step, of the codewords' (in the spread of what they are of), as in `learn_order`."""


class CoarseRows(nn.Module):
    """A tail whose codewords and rotation can be trained.

    Args:
        tail: where they begin.
    """

    codes: Tensor

    def __init__(self, tail: Tail) -> None:
        super().__init__()
        self.register_buffer("codes", torch.from_numpy(tail.codes.copy()))
        self.codewords, self.rotation = (
            nn.Parameter(torch.from_numpy(each.astype(np.float32))) for each in (tail.codewords, tail.rotation)
        )

    def forward(self, items: Int[Tensor, " items"]) -> Float[Tensor, "items dim"]:
        """Make coarse rows, as long as the table's own.

        Args:
            items: which.

        Returns:
            what stands for them: their scalar product with a state is the tail's score.
        """
        parts, words, _ = self.codewords.shape
        places = self.codes[items].long() + words * torch.arange(parts, device=items.device)
        return self.codewords.flatten(0, 1)[places].flatten(1) @ self.rotation.T


def attach(backbone: Backbone, tail: Tail) -> None:
    """Give a backbone a tail that is trained, averaged, saved and resumed as all else of it.

    Args:
        backbone: changed in place.
        tail: of its item table.
    """
    backbone.add_module(NAME, CoarseRows(tail))


def coarse_rows(backbone: Backbone) -> CoarseRows:
    """Find the tail of a backbone.

    Args:
        backbone: one that has been given one.

    Returns:
        the tail.
    """
    return cast(CoarseRows, backbone.get_submodule(NAME))


def with_coarse(loss: NextItemLoss, weight: float) -> NextItemLoss:
    """Make a loss that compares the next item with others by coarse rows as well.

    Args:
        loss: of the next item.
        weight: w.

    Returns:
        what `fit` minimizes, of backbones with a tail.
    """

    def both(backbone: Backbone, batch: Batch, generator: torch.Generator, reading: Reading = AS_TRAINED) -> Tensor:
        return loss(backbone, batch, generator, reading._replace(beside=Beside(weight, coarse_rows(backbone))))

    return both


def steps_of(backbone: Backbone, lr: float) -> list[dict[str, Any]]:
    """Tell an optimizer how far to step: codewords and rotation in their spread, all else as it says itself.

    Args:
        backbone: with a tail.
        lr: step size of codewords.

    Returns:
        groups of parameters.
    """
    tail = coarse_rows(backbone)
    own = {tail.codewords: lr, tail.rotation: lr * TURN}
    rest = [each for each in backbone.parameters() if each not in own]
    return [{"params": rest}, *({"params": [each], "lr": rate * float(each.detach().std())} for each, rate in own.items())]


def every_row(backbone: Backbone) -> Float[Tensor, "items dim"]:
    """Make the coarse table.

    Args:
        backbone: with a tail.

    Returns:
        a coarse row for each of its items.
    """
    weight = backbone.items.weight
    rows: Tensor = coarse_rows(backbone)(torch.arange(len(weight), device=weight.device))
    return rows


def take_tail(weights: dict[str, Tensor]) -> Tail | None:
    """Take the tail out of a run's weights, as a base has it: codewords and rotation in float16.

    Args:
        weights: by name; those of a tail are removed.

    Returns:
        the tail, if there is one.
    """
    if f"{NAME}.codes" not in weights:
        return None
    codes, codewords, rotation = (weights.pop(f"{NAME}.{name}") for name in ("codes", "codewords", "rotation"))
    return Tail(codes.numpy(), codewords.half().numpy(), rotation.half().numpy())
