"""What the graphs of all backbones share: layers, norms, and which rows they read. The twin of `device/layers.py`.

A layer is LiteRT's own: an int8 panel, a scale per channel, a bias, which is what a fold gives. In float32 a node in front of
it dequantizes the panel; that depends on no input, so the runtime does it once, when it opens the file. Without that node the
same layer multiplies integers, and puts each row of activations on 8 bits as it comes (LiteRT calls that dynamic range).

    SLOT.values, SLOT.bias, the scales of SLOT.values       what a payload replaces, `litert_template.py`
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Int8

from ossia.adaptation.apply import Weights
from ossia.export.litert_graph import Graph, Tensor

NORM_EPSILON: Final = np.float32(1e-5)
SMALLEST: Final = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Events:
    """What an encoder reads.

    Attributes:
        rows: a row for each place in a history, the newest last; where nothing stands, any row.
        there: whether an event stands there, one bool a place; None where the history is always full.
    """

    rows: Tensor
    there: Tensor | None


def panel(weights: Weights, slot: str) -> tuple[Int8[np.ndarray, "channels inputs"], Float32[np.ndarray, " channels"]]:
    """Take a slot's panel as LiteRT wants it: a scale below the smallest normal number, which it refuses, is none.

    Args:
        weights: folded weights.
        slot: its name.

    Returns:
        the int8 values and a scale for each channel. A dropped channel is zeros with scale 1.
    """
    folded = weights.slots[slot]
    usable = folded.scale >= SMALLEST
    return np.where(usable[:, None], folded.values, np.int8(0)), np.where(usable, folded.scale, np.float32(1))


@dataclass(frozen=True)
class Layer:
    """A slot in a graph.

    Attributes:
        weight: channels × inputs, in int8 or float32.
        bias: one number a channel; None: nothing is added.
    """

    weight: Tensor
    bias: Tensor | None


def take_layer(graph: Graph, weights: Weights, slot: str) -> Layer:
    """Put a slot into a graph, once.

    Args:
        graph: where to.
        weights: folded weights.
        slot: its name.

    Returns:
        the layer.
    """
    weight = put_panel(graph, f"{slot}.values", *panel(weights, slot))
    return Layer(weight, graph.weight(f"{slot}.bias", weights.floats[f"{slot}.bias"]))


def put_panel(
    graph: Graph, name: str, values: Int8[np.ndarray, "channels inputs"], scales: Float32[np.ndarray, " channels"]
) -> Tensor:
    """Put a panel into a graph, for layers that multiply as this graph does.

    Args:
        graph: where to.
        name: the tensor's name.
        values: the panel.
        scales: what a unit of each channel is worth.

    Returns:
        the weight.
    """
    weight = graph.weight(name, values, scales)
    return weight if graph.int8 else graph.op("DEQUANTIZE", weight, shape=weight.shape, version=5)


def apply_layer(graph: Graph, layer: Layer, x: Tensor, *, activation: int = 0) -> Tensor:
    """Apply a layer: x · Wᵀ + bias.

    Args:
        graph: where to compute it.
        layer: the layer.
        x: rows × inputs.
        activation: what LiteRT does to each product, such as `RELU`.

    Returns:
        rows × channels.
    """
    options: dict[str, Any] = {"fusedActivationFunction": activation, "keepNumDims": True}
    version = 12 if graph.int8 else 6  # 12: int8 with a scale per channel; 6: may do without a bias
    shape = (*x.shape[:-1], layer.weight.shape[0])
    return graph.op("FULLY_CONNECTED", x, layer.weight, layer.bias, shape=shape, version=version, **options)


def linear(graph: Graph, weights: Weights, slot: str, x: Tensor, *, activation: int = 0) -> Tensor:
    """Apply a slot that is used once.

    Args:
        graph: where to compute it.
        weights: folded weights.
        slot: its name.
        x: rows × inputs.
        activation: as for `apply_layer`.

    Returns:
        rows × channels.
    """
    return apply_layer(graph, take_layer(graph, weights, slot), x, activation=activation)


def norm(graph: Graph, weights: Weights, name: str, x: Tensor) -> Tensor:
    """Normalize each row: (x − mean) / √(variance + 1e-5) · weight + bias.

    Args:
        graph: where to compute it.
        weights: has the norm's weight and bias.
        name: the norm's name.
        x: the rows.

    Returns:
        the normalized rows.
    """
    axis = len(x.shape) - 1
    centered = graph.each("SUB", x, graph.reduce("MEAN", x, axis, keep=True))
    variance = graph.reduce("MEAN", graph.each("MUL", centered, centered), axis, keep=True)
    inverse = graph.each("RSQRT", graph.each("ADD", variance, graph.constant(NORM_EPSILON)))
    scale, shift = (graph.constant(weights.floats[f"{name}.{part}"]) for part in ("weight", "bias"))
    return graph.each("ADD", graph.each("MUL", graph.each("MUL", centered, inverse), scale), shift)
