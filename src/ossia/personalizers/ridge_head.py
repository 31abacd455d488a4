"""The ridge head: weights for the end of the network, linear in random features of the profile; a linear solve trains it.

    u(p)  = φ(p) C                          φ: `ridge.py`
    Δ_n   = u_n(p) v_nᵀ                     for each slot n that it moves; v_n, the *reader*, is the same for everybody

The reader is chosen so that v · x is nearly 1 for what the slot reads at the present event (`ossia.training.ridge_head`). Then
W x + Δ x ≈ W x + u: a bias of one's own, which a payload can't carry as such and can as a delta of rank 1. With coordinates
in the base's basis u is the coordinates, and there are no readers. u is linear in C, so C has a closed form; C starts at 0,
which is the base itself.

By default the slot that ends the network is moved: DUET's head, learned as the ridge learns widths.

Differences from the literature: none known; it is gradient boosting (Friedman, 2001) by ridge regression on random features,
its answer written as a delta.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossia.adaptation.delta_layout import DeltaLayout
from ossia.errors import UsageError
from ossia.personalizers.generator import HeadGenerator
from ossia.personalizers.ridge import Cosines
from ossia.types import Slot


class RidgeHead(HeadGenerator):
    """A delta of rank 1 for the end of a frozen base.

    Args:
        layout: the slots that move; rank 1, or coordinates.
        gates: names of the base's gates; all of them stay open.
        profile_dim: length of a profile.
        costs: what each block costs; not read.

    Raises:
        UsageError: another rank than 1 without coordinates.
    """

    settings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, layout: DeltaLayout, gates: Sequence[str], profile_dim: int, *, costs: Sequence[float]) -> None:
        super().__init__(layout, gates, costs)
        if layout.rank != 1 and not layout.coordinates:
            raise UsageError(f"ridge-head: expected rank=1 or coordinates, got rank={layout.rank}")
        self.features = Cosines(profile_dim)
        self.moved = [shapes[0][0] * shapes[0][1] for shapes in layout.shapes]
        self.coefficients = nn.Parameter(torch.zeros(self.features.size, sum(self.moved)))
        inputs = [] if layout.coordinates else [slot.inputs for slot in layout.slots]
        self.readers = nn.ParameterList(torch.full((size,), size**-0.5) for size in inputs)

    @classmethod
    def own_slots(cls, slots: Sequence[Slot]) -> tuple[str, ...]:
        """Choose the slot that ends the network.

        Args:
            slots: all of a base's, in wire order.

        Returns:
            its name.
        """
        return (slots[-1].name,)

    def forward(self, profiles: Float[Tensor, "users dim"]) -> Float[Tensor, "users numbers"]:
        """Generate.

        Args:
            profiles: user states as the device sends them.

        Returns:
            what the layout reads.
        """
        return self.arrange(self.features(profiles) @ self.coefficients)

    def arrange(self, moves: Float[Tensor, "users moved"]) -> Float[Tensor, "users numbers"]:
        """Put readers beside what they carry.

        Args:
            moves: u of all slots, one after the other.

        Returns:
            what the layout reads: of each slot u, then v.
        """
        if self.layout.coordinates:
            return moves
        ones = torch.ones_like(moves[:, :1])  # not the length of a batch, which a graph would keep
        pairs = zip(torch.split(moves, self.moved, dim=1), self.readers, strict=True)
        return torch.cat([part for u, v in pairs for part in (u, ones * v)], dim=1)
