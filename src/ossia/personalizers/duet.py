"""DUET: the head of the network, generated from what the user did (arXiv 2209.05227, WWW 2023).

    z    = M₂ relu(M₁ norm(p))                  the profile p in the place of the paper's GRU over the history
    Δ_n  = reshape(U_n z + c_n)                 a decoder U_n for each slot of the head

The head is the branch that ends the network: for SASRec the last block's feed-forward network, two layers like the head in the
authors' code, 32 → 32 → 32; for GRU4Rec the last layer, for Caser what combines its filters. The base's own weights stay
and Δ is added to them, so that no base needs slots of zeros to be personalized; a dense Δ can replace them altogether.

M₂ starts at zero, and so does Δ (`decoder.py`): an untrained DUET is the base itself.

Trap in the public code: its decoders are kept in plain lists, so they never train and never save. Here they are registered and
they learn; `decoders=frozen` is the control that does what that code did, decoders as they were drawn, but saved.

Differences from the paper: what leaves the device is the profile, not the history, so z is a perceptron on it; the head's
biases are the base's own (a payload carries none); Δ is low rank by default, dense (`rank=0`) as theirs.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from ossia.adaptation.delta_layout import DeltaLayout
from ossia.personalizers.decoder import Decoder, mapper
from ossia.personalizers.generator import HeadGenerator
from ossia.types import Slot


class Duet(HeadGenerator):
    """A delta for the head of a frozen base.

    Args:
        layout: the head's slots.
        gates: names of the base's gates; all of them stay open.
        profile_dim: length of a profile.
        costs: what each block costs; not read.
        hidden: inner width of the mapper.
        latent: length of z.
        decoders: whether decoders learn.
    """

    settings: ClassVar[tuple[str, ...]] = ("hidden", "latent", "decoders")

    def __init__(
        self,
        layout: DeltaLayout,
        gates: Sequence[str],
        profile_dim: int,
        *,
        costs: Sequence[float],
        hidden: int = 128,
        latent: int = 32,
        decoders: Literal["trained", "frozen"] = "trained",
    ) -> None:
        super().__init__(layout, gates, costs)
        self.norm = nn.LayerNorm(profile_dim)
        self.mapper = mapper(profile_dim, hidden, latent)
        self.decoder = Decoder(latent, layout).requires_grad_(decoders == "trained")

    @classmethod
    def own_slots(cls, slots: Sequence[Slot]) -> tuple[str, ...]:
        """Choose the head: the slots of the branch that ends the network.

        Args:
            slots: all of a base's, in wire order.

        Returns:
            the last slot's name, and those of its gate's other slots.
        """
        last = slots[-1]
        return tuple(slot.name for slot in slots if slot == last or (last.gate is not None and slot.gate == last.gate))

    def forward(self, profiles: Float[Tensor, "users dim"]) -> Float[Tensor, "users numbers"]:
        """Generate the head.

        Args:
            profiles: user states as the device sends them.

        Returns:
            what the layout reads.
        """
        numbers: Tensor = self.decoder(self.mapper(self.norm(profiles)))
        return numbers
