"""What the graphs of all backbones share: gates, folded layers, norms. The twin of `device/layers.py`.

The fold is in the graph. Next to the base's masters lie three small tensors of bytes, which are a payload's sections unpacked:

    codes   one width code per channel, slots in wire order
    gates   one per block, 0 or 1
    rows    one width code per row of the item table

With u = q + 128 and a step of 64, 16 or 1 for 2, 4 or 8 bits, a channel's slice is

    t = ⌊u / step⌋ · step + step / 2 − 128          at 8 bits without the half

exact in float32, and its weights are t · s_b: bit for bit what `fold` and `dequantize` give. Nothing of it depends on an
input, so a runtime that folds constants computes it once, when it opens the graph, and a block whose gate is 0 is gone.
"""

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from ossia.adaptation.base import Base
from ossia.export.graph import Graph

STEPS = np.array([1, 64, 16, 1], np.float32)
MIDDLES = np.array([0, 32, 8, 0], np.float32) - np.float32(128)
"""By code: how wide a slice's cell is in units of the master, and where u = 0 lands."""

NORM_EPSILON = 1e-5


def fold(graph: Graph, values: str, codes: str) -> str:
    """Slice masters by code: t = ⌊u / step⌋ · step + middle.

    Args:
        graph: where to compute it.
        values: name of the int8 masters, rows × inputs.
        codes: name of the codes as int64, rows × 1.

    Returns:
        the name of the slices in float32; what a row of code 0 holds means nothing.
    """
    step, middle = (graph.op("Gather", graph.constant(table), codes) for table in (STEPS, MIDDLES))
    unsigned = graph.op("Add", graph.cast(values, TensorProto.FLOAT), graph.number(128.0))
    return graph.op("Add", graph.op("Mul", graph.op("Floor", graph.op("Div", unsigned, step)), step), middle)


def linear(graph: Graph, base: Base, slot: str, x: str) -> str:
    """Apply a slot: x · Wᵀ + bias, both 0 for a dropped channel.

    Args:
        graph: where to compute it.
        base: says where the slot's codes are in the list.
        slot: its name.
        x: name of the rows × inputs.

    Returns:
        the name of the rows × channels.
    """
    return graph.op("Gemm", x, weight(graph, base, slot), bias(graph, base, slot), transB=1)


def weight(graph: Graph, base: Base, slot: str) -> str:
    """Fold a slot and dequantize it.

    Args:
        graph: where to compute it.
        base: says where the slot's codes are in the list.
        slot: its name.

    Returns:
        the name of the channels × inputs in float32.
    """
    codes = _codes(graph, base, slot)
    nothing = graph.constant(np.zeros((1, len(base.grids[slot].q)), np.float32))
    scales = graph.op("Concat", nothing, f"{slot}.scales", axis=0)
    scale = graph.op("GatherElements", scales, graph.reshape(codes, 1, -1), axis=0)
    return graph.op("Mul", fold(graph, f"{slot}.values", graph.reshape(codes, -1, 1)), graph.reshape(scale, -1, 1))


def bias(graph: Graph, base: Base, slot: str) -> str:
    """Take a slot's bias, 0 for a dropped channel.

    Args:
        graph: where to compute it.
        base: says where the slot's codes are in the list.
        slot: its name.

    Returns:
        the name of one number per channel.
    """
    there = graph.cast(graph.cast(_codes(graph, base, slot), TensorProto.BOOL), TensorProto.FLOAT)
    return graph.op("Mul", f"{slot}.bias", there)


def norm(graph: Graph, name: str, x: str) -> str:
    """Normalize each row.

    Args:
        graph: where to compute it.
        name: the norm's name.
        x: name of the rows.

    Returns:
        the name of the normalized rows.
    """
    return graph.op("LayerNormalization", x, f"{name}.weight", f"{name}.bias", epsilon=NORM_EPSILON)


def residual(graph: Graph, base: Base, gate_name: str, h: str, start: str, branch: Callable[[Graph], str]) -> str:
    """Add what a block says to the rows of h that are read later; where its gate is 0 it is not computed.

    Args:
        graph: where to compute it.
        base: says which number the gate has.
        gate_name: the block's gate.
        h: name of all rows.
        start: name of the first row that is read later.
        branch: builds the block; gives the name of what it says to those rows.

    Returns:
        the name of the rows from `start` on, after the block.
    """
    return graph.choose(
        gate(graph, base, gate_name),
        lambda inner: inner.op("Add", inner.rows_from(h, start), branch(inner)),
        lambda inner: inner.rows_from(h, start),
    )


def gate(graph: Graph, base: Base, name: str) -> str:
    """Tell whether a block runs.

    Args:
        graph: where to compute it.
        base: says which number the gate has.
        name: its name.

    Returns:
        the name of a bool.
    """
    number = graph.constant(np.array(base.manifest.gates.index(name), np.int64))
    return graph.cast(graph.op("Gather", "gates", number), TensorProto.BOOL)


def first_read(graph: Graph, base: Base, later: list[str]) -> str:
    """Tell which rows of a block's output are read: all if a later block that runs looks back, else the newest alone.

    Args:
        graph: where to compute it.
        base: says which numbers the gates have.
        later: the gates of the later blocks that look back.

    Returns:
        the name of the first row's number, counted from the end.
    """
    if not later:
        return graph.ints(-1)
    gates = graph.op("Gather", "gates", graph.ints(*(base.manifest.gates.index(name) for name in later)))
    looks_back = graph.op("ReduceMax", graph.cast(gates, TensorProto.INT64), axes=[0], keepdims=1)
    return graph.op("Sub", graph.op("Mul", looks_back, graph.ints(1 - base.manifest.shape["length"])), graph.ints(1))


def _codes(graph: Graph, base: Base, slot: str) -> str:
    """Cut a slot's codes out of the list, as indices."""
    span = base.spans[slot]
    return graph.cast(
        graph.op("Slice", "codes", graph.ints(span.start), graph.ints(span.stop), graph.ints(0)), TensorProto.INT64
    )
