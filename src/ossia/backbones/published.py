"""A published base in torch again: the twin of what a device computes with.

A base is int8 panels with scales; dequantized, they are ordinary float32 matrices, and the textbook module runs on them. So
the device's forward in numpy and this one must agree to the last few digits, and studies can judge an adaptation in torch.

    W = values · scale  per channel          a skipped branch: its last slot is zero, so that it adds nothing

The module's item table holds every row at 8 bits, as a device holds the rows of its own history. The rows that an adaptation
leaves for *candidates* are `weights.rows`: a score is `state · rows[i]`, by the caller, for absent rows have no score at all.
"""

import numpy as np
import torch
from torch import Tensor

from ossia.adaptation import Weights
from ossia.backbones.backbone import Backbone
from ossia.backbones.kinds import BACKBONES
from ossia.errors import UsageError


def from_weights(weights: Weights) -> Backbone:
    """Build the torch twin of a folded base.

    Args:
        weights: what `apply` made of a base and an adaptation.

    Returns:
        the module in evaluation mode, on the CPU, without gradients.

    Raises:
        UsageError: no such backbone is here.

    Example:
        `from_weights(apply(base, Adaptation()))(histories)` gives the states that the device computes.
    """
    if weights.backbone not in BACKBONES:
        raise UsageError(f"backbone: expected one of {', '.join(BACKBONES)}, got {weights.backbone!r}")
    model = BACKBONES[weights.backbone](**weights.shape, dropout=0.0)
    state = {name: _tensor(array) for name, array in weights.floats.items()}
    state |= {f"{name}.weight": _tensor(panel.dequantize()) for name, panel in weights.slots.items()}
    state["items.weight"] = _tensor(weights.history_rows.dequantize())
    last = {slot.gate: slot.name for slot in model.slots()}  # of several with one gate the last ends the branch
    for slot in (last[gate] for gate, runs in weights.gates.items() if not runs):
        state |= {name: torch.zeros_like(state[name]) for name in (f"{slot}.weight", f"{slot}.bias")}
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def _tensor(array: np.ndarray) -> Tensor:
    """Copy an array: what is loaded from a base is read-only."""
    return torch.from_numpy(array.copy())
