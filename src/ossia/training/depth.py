"""One base for every depth: what is left when only its first branches run is trained along, by the same steps.

    loss(first k of L branches),   k uniform on 1 … L, drawn for each row of a batch;   at first every branch adds nothing

A base is trained whole, and a device that skips a block runs something that nobody trained. Drawing the depth (stochastic
depth, Huang et al., ECCV 2016, https://arxiv.org/abs/1603.09382; elastic depth, Cai et al., ICLR 2020,
https://arxiv.org/abs/1908.09791) makes the first blocks a recommender by themselves and lets the others add to it. Nothing is
rescaled: a branch that runs is what it is on a device. Branches count in wire order, so a depth can end between a block's
attention and its feed-forward network.

Branches begin closed, their last layer at zero (as in ReZero, https://arxiv.org/abs/2003.04887): the untrained state is the
newest item's, and each branch has to earn its place. Among random branches the items, which begin small, drown, the more the
deeper.

On Amazon Beauty four blocks that are trained whole are worse than one and learn more slowly; drawn they are level with one,
in a third of the epochs. Better than two they are not.
"""

import torch
from torch import Tensor

from ossia.backbones import Backbone
from ossia.backbones.backbone import GateJoint
from ossia.training.batches import Batch
from ossia.training.losses import AS_TRAINED, NextItemLoss, Reading


def at_drawn_depth(loss: NextItemLoss) -> NextItemLoss:
    """Make a loss that runs the first branches of a backbone, as many as it draws for each row of a batch.

    Args:
        loss: of the next item.

    Returns:
        what `fit` minimizes.
    """

    def drawn(backbone: Backbone, batch: Batch, generator: torch.Generator, reading: Reading = AS_TRAINED) -> Tensor:
        return loss(backbone, batch, generator, reading._replace(gate=_first(backbone, len(batch.inputs), generator)))

    return drawn


@torch.no_grad()
def close_branches(backbone: Backbone) -> None:
    """Let every branch add nothing, until something is learned.

    Args:
        backbone: of residual branches, each ended by a linear layer; changed in place.
    """
    last = {slot.gate: slot.name for slot in backbone.slots()}
    for name in last.values():
        layer = backbone.get_submodule(name)
        for parameter in layer.parameters():
            parameter.zero_()


def _first(backbone: Backbone, rows: int, generator: torch.Generator) -> GateJoint:
    """Draw how many branches each row runs."""
    place = {name: index for index, name in enumerate(backbone.gates())}
    depth = torch.randint(1, len(place) + 1, (rows,), generator=generator, device=generator.device)

    def gate(name: str, branch: Tensor) -> Tensor:
        return branch * (place[name] < depth).view(-1, *[1] * (branch.ndim - 1))

    return gate
