"""Dropout that spends its time on dropping, not on drawing.

    y = x · m / keep,   m ~ Bernoulli(keep),   keep = round((1 − p) · 256) / 256

`nn.Dropout` draws one double per value: a fifth of a training step of a small transformer on a CPU. One random byte a value is
enough, and a 64-bit draw gives eight of them: four times faster, at the price of a probability that is a multiple of 1/256
(0.2 becomes 0.199). The division is by the probability that is really used, so the expectation is exact.

Randomness comes from torch's global generator of the input's device, as in `nn.Dropout`; `training.fit` seeds it step by step.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossia.errors import UsageError

BYTE_VALUES = 256
INT64_LOWEST = -(2**63)


class Dropout(nn.Module):
    """Set each value to zero with probability `p` in training, and scale up the others; nothing in evaluation.

    Args:
        p: the probability, 0 ≤ p < 1, taken to the nearest multiple of 1/256.

    Raises:
        UsageError: `p` is out of range.

    Example:
        >>> bool((Dropout(0.5).eval()(torch.ones(4)) == 1).all())
        True
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UsageError(f"dropout: expected 0 ≤ dropout < 1, got {p}")
        self.kept_values = max(1, round((1 - p) * BYTE_VALUES))

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Drop values of `x`.

        Args:
            x: anything.

        Returns:
            the same shape; `x` itself when there is nothing to drop.
        """
        if not self.training or self.kept_values == BYTE_VALUES:
            return x
        # Compared straight into floats: booleans would take two more passes, each slower than this one.
        kept = torch.lt(_random_bytes(x), self.kept_values, out=torch.empty_like(x, requires_grad=False))
        return x * kept.mul_(BYTE_VALUES / self.kept_values)

    def extra_repr(self) -> str:
        """Show the probability that is really used."""
        return f"p={1 - self.kept_values / BYTE_VALUES:.4f}"


def _random_bytes(x: Tensor) -> Tensor:
    """Draw one uniform byte for each value of `x`, eight to a draw."""
    draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(INT64_LOWEST, None)
    return draws.view(torch.uint8)[: x.numel()].view(x.shape)
