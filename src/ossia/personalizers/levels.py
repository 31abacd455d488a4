"""Budgets by levels: a controller is asked for what validation has judged, and only where it is better than one for all.

    level(b) = the last level whose share is at most b           shares rise, and so does what validation says of them
    ν(p, b)  = controller(p, level(b))     or, where the level has a structure for everybody,   ±1 by that structure

A controller learns by a gradient that passes beside a hard choice, and at some budgets it learns nonsense: on ML-1M it left
out blocks that it could afford and ranked far below the base's first block. What it wants at a budget that nobody judged is
nobody's knowledge. So each budget is rounded down to a level that was judged, and where one structure for everybody was
better there, with weights generated for each user, it takes the controller's place. The weights stay each user's own.

The levels are found by `ossia.training.structures`, and are part of the graph that the service runs. The budget stays hard:
what a device measured may price a level's structure too high, and then the projection drops what does not fit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

ROUNDING = 1e-6
"""A share that is smaller by less than this is the same one."""


class Level(NamedTuple):
    """A budget that validation has judged.

    Attributes:
        share: of what all blocks cost together.
        kept: 1 or 0 for each block, the same for everybody; None: the controller chooses.
    """

    share: float
    kept: tuple[int, ...] | None


class Leveled(nn.Module):
    """A controller, held to levels.

    Args:
        controller: profiles and shares in, log-odds out.
        levels: the first of share 0, the others rising.
        gates: how many blocks there are.
    """

    shares: Tensor
    common: Tensor
    asks: Tensor

    def __init__(self, controller: nn.Module, levels: Sequence[Level], gates: int) -> None:
        super().__init__()
        self.controller = controller
        self.register_buffer("shares", torch.tensor([level.share for level in levels]))
        self.register_buffer("common", torch.tensor([level.kept or (0,) * gates for level in levels]) * 2.0 - 1.0)
        self.register_buffer("asks", torch.tensor([level.kept is None for level in levels]))

    def forward(self, profiles: Float[Tensor, "users dim"], share: Float[Tensor, "users 1"]) -> Float[Tensor, "users gates"]:
        """Ask the controller, or answer everybody alike.

        Args:
            profiles: user states as the device sends them.
            share: of what all blocks cost together, what the device can afford, 0 … 1.

        Returns:
            log-odds of keeping each block.
        """
        level = (self.shares <= share + ROUNDING).sum(dim=1).clamp_min(1) - 1
        asked = self.controller(profiles, self.shares[level][:, None])
        return torch.where(self.asks[level][:, None], asked, self.common[level])
