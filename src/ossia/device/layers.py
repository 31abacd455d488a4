"""What the forwards of all backbones share: a layer norm, σ, and how layers and rows come out of folded weights.

Precision, normative for other engines. The stream and every layer's input and output are float32, and a layer is one of the
two arithmetics of `linear.py`. A norm, an attention, the step of a recurrent unit and a product with a σ in it take float32 and
give float32, but compute in float64 between, σ(x) as ½ + ½ tanh(x / 2), and round once at the end: their sums, roots and
exponentials may then be taken in any order, by any library, and still give the same float32 (but for one value in some hundred
millions). Everything else is one float32 operation per element:

    E[i] = values · scale      relu(x) = max(x, 0)
    norm(h) = (h − mean) / √(variance + 1e-5) · weight + bias           variance over dim, not dim − 1
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int

from ossia.adaptation.apply import Weights
from ossia.device.linear import Arithmetic, Linear
from ossia.quantization.grid import Panel

Encoder: TypeAlias = Callable[[Int[np.ndarray, " events"]], Float32[np.ndarray, " dim"]]
"""A usable history (see `usable_history`) of at least one item to a user state."""

NORM_EPSILON: Final = 1e-5


@dataclass(frozen=True, eq=False)
class Norm:
    """A layer norm: float32 in and out, float64 between."""

    weight: Float32[np.ndarray, " dim"]
    bias: Float32[np.ndarray, " dim"]

    def __call__(self, h: Float32[np.ndarray, "events dim"]) -> Float32[np.ndarray, "events dim"]:
        """Normalize each row of h."""
        centered = h.astype(np.float64)
        centered -= centered.mean(axis=1, keepdims=True)
        variance = np.einsum("ed,ed->e", centered, centered) / h.shape[1]
        centered /= np.sqrt(variance + NORM_EPSILON)[:, None]
        normal: Float32[np.ndarray, "events dim"] = (centered * self.weight + self.bias).astype(np.float32)
        return normal


def take_norm(weights: Weights, name: str) -> Norm:
    """Take the norm called `name` out of the weights.

    Args:
        weights: folded weights.
        name: the norm's name.

    Returns:
        the norm.
    """
    return Norm(weights.floats[f"{name}.weight"], weights.floats[f"{name}.bias"])


def take_layer(weights: Weights, arithmetic: Arithmetic, *slots: str) -> Linear:
    """Make a layer of a slot; several that read the same input are one taller layer.

    Args:
        weights: folded weights.
        arithmetic: how it multiplies.
        slots: their names, at least one.

    Returns:
        the layer; the channels of the first slot come first.
    """
    panels = [weights.slots[name] for name in slots]
    stacked = Panel(np.concatenate([panel.values for panel in panels]), np.concatenate([panel.scale for panel in panels]))
    return arithmetic.linear(stacked, np.concatenate([weights.floats[f"{name}.bias"] for name in slots]))


def sigmoid(x: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """Compute σ(x) = ½ + ½ tanh(x / 2), which never overflows.

    Args:
        x: any numbers.

    Returns:
        0 … 1.
    """
    result: Float64[np.ndarray, "*shape"] = 0.5 + 0.5 * np.tanh(0.5 * x)
    return result


def own_rows(weights: Weights, items: Int[np.ndarray, " events"]) -> Float32[np.ndarray, "events dim"]:
    """Dequantize the rows of a history, at 8 bits: a device always holds its own history's.

    Args:
        weights: folded weights.
        items: known item rows.

    Returns:
        one row per event.
    """
    rows = weights.history_rows
    vectors: Float32[np.ndarray, "events dim"] = rows.values[items] * rows.scale[items, None]
    return vectors
