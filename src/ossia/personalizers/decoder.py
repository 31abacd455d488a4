"""From what a user is like to the numbers of a delta: the two ends that generators share.

    mapper      z = M₂ relu(M₁ x),   M₂ = 0 at first
    decoder     U z + c,             c random for left factors, 0 for right factors, dense deltas and coordinates

So an untrained generator answers with Δ = 0, the base itself; and left factors are not zero, or a product of two zeros would
never learn.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossia.adaptation.delta_layout import DeltaLayout


class Decoder(nn.Module):
    """U z + c for the slots of one part of the network: random left factors, right factors that are zero where z is.

    Args:
        latent: length of z.
        layout: the slots.
    """

    def __init__(self, latent: int, layout: DeltaLayout) -> None:
        super().__init__()
        pieces = [rows * columns for shapes in layout.shapes for rows, columns in shapes]
        self.linear = nn.Linear(latent, sum(pieces))
        factors = layout.rank > 0 and not layout.coordinates
        is_left = torch.arange(len(pieces)) % 2 == 0 if factors else torch.zeros(len(pieces), dtype=torch.bool)
        channels = torch.tensor([shape[0] for shapes in layout.shapes for shape in shapes], dtype=torch.float32)
        spread = torch.where(is_left, channels**-0.5, 0).repeat_interleave(torch.tensor(pieces))
        with torch.no_grad():
            self.linear.bias.copy_(torch.randn(len(spread)) * spread)

    def forward(self, z: Float[Tensor, "users latent"]) -> Float[Tensor, "users numbers"]:
        """Decode.

        Args:
            z: what the users are like.

        Returns:
            the numbers of all slots, one after the other.
        """
        numbers: Tensor = self.linear(z)
        return numbers


def mapper(inputs: int, hidden: int, latent: int) -> nn.Sequential:
    """Make M₂ relu(M₁ x) with M₂ at zero: the user is nobody in particular until something is learned.

    Args:
        inputs: length of x.
        hidden: inner width.
        latent: length of z.

    Returns:
        the network.
    """
    last = nn.Linear(hidden, latent)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), last)
