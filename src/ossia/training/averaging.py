"""The mean of the weights along the last steps: what is validated and published, while training goes on with the latest.

    w̄ ← k · w̄ + (1 − k) · w,     k = min(decay, (1 + t) / (10 + t)) after step t = 0, 1, …

At a constant step size the weights wander around a good place without settling. Their running mean sits in the middle of
that walk (Polyak and Juditsky, 1992), costs one pass over the parameters a step, and needs no schedule that would have to
know beforehand when training ends. While it is young it reaches back over a ninth of all steps so far, so that a small log
with few steps is not held up by its first weights. A training that begins at another run's weights, which are such a mean
themselves, has nothing to be held up by: its mean is never young.
"""

import torch
from torch import nn

from ossia.training.rows import RowMean


def keep_at(decay: float, step: int, *, young: bool = True) -> float:
    """Tell how much of the mean is kept at a step.

    Args:
        decay: 0 ≤ decay < 1; in the long run the mean reaches back about 1 / (1 − decay) steps. 0: no averaging.
        step: steps taken before this one, over all epochs.
        young: whether the first weights are to be forgotten soon.

    Returns:
        k.

    Example:
        >>> [keep_at(0.998, step) for step in (0, 8, 100_000)], keep_at(0.0, 7), keep_at(0.998, 0, young=False)
        ([0.1, 0.5, 0.998], 0.0, 0.998)
    """
    return min(decay, (1 + step) / (10 + step)) if young else decay


@torch.no_grad()
def blend(average: nn.Module, model: nn.Module, keep: float, rows: RowMean | None = None) -> None:
    """Move the mean a step towards the model, in place.

    Args:
        average: a module of the same shape; its parameters are the mean.
        model: the weights after the latest step.
        keep: how much of the mean stays, 0 … 1.
        rows: the mean of a table that catches up by itself; it is told that a step has passed.
    """
    means, latest = (list[torch.Tensor](module.parameters()) for module in (average, model))
    if rows is not None:
        rows.wait(keep)
        means = [mean for mean in means if mean is not rows.average]
        latest = [parameter for parameter in latest if parameter is not rows.latest]
    torch._foreach_lerp_(means, latest, 1 - keep)  # all tensors in one call
