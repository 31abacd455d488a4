"""Where a graph meets the item table: which events it reads, and how a state becomes scores.

The rules are those of `device/forward.py` and `device/runtimes.py`: unknown items are skipped and the newest `length` events
are read; a candidate in the history has its row at 8 bits, any other as `rows` says, and −∞ if the device does not hold it;
without a single known event, items score by popularity.

Rows are gathered as int8 and folded after that, so that there is no copy of the table in float32; where all rows are at 8
bits there is nothing to fold.
"""

from functools import partial
from typing import Final

import numpy as np
from onnx import TensorProto

from ossia.adaptation.base import Base
from ossia.adaptation.tail import Tail
from ossia.export.graph import Graph
from ossia.export.layers import fold

WHOLE: Final = 3
"""The code of a row at 8 bits."""


def usable_events(graph: Graph, base: Base) -> tuple[str, str]:
    """Keep what the model reads of the input `history`; if that is nothing, item 0 stands in, and its scores are not used.

    Args:
        graph: where to compute it.
        base: says how many items and events there are.

    Returns:
        the name of the events, at least one; and of a bool, whether there is any.
    """
    known = graph.op("Compress", "history", _known(graph, base, "history"), axis=0)
    usable = graph.rows_from(known, graph.ints(-base.manifest.shape["length"]))
    there = graph.op("Greater", graph.op("Shape", usable), graph.ints(0))
    with_stand_in = graph.op("Concat", graph.ints(0), usable, axis=0)
    return graph.rows_from(with_stand_in, graph.cast(there, TensorProto.INT64)), there


def own_rows(graph: Graph, events: str) -> str:
    """Dequantize the rows of the history, at 8 bits.

    Args:
        graph: where to compute it.
        events: name of the events.

    Returns:
        the name of one row per event.
    """
    values = graph.cast(graph.op("Gather", "items.values", events), TensorProto.FLOAT)
    return graph.op("Mul", values, graph.reshape(_scales_at_8(graph, events), -1, 1))


def scores(graph: Graph, base: Base, state: str, events: str, there: str) -> str:
    """Score the input `candidates`.

    Args:
        graph: where to compute it.
        base: says how many items there are.
        state: name of the user state, 1 × dim.
        events: name of the events.
        there: name of a bool, whether they are real.

    Returns:
        the name of one score per candidate.
    """
    known = _known(graph, base, "candidates")
    items = graph.op("Where", known, "candidates", graph.ints(0))
    least = graph.op("ReduceMin", "rows", axes=[0], keepdims=1)
    matched = graph.choose(
        graph.op("Equal", graph.cast(least, TensorProto.INT64), graph.ints(WHOLE)),  # onnxruntime 1.20 compares no bytes
        partial(_match_whole, state=state, items=items),
        partial(_match_mixed, state=state, items=items, events=events, tail=base.table.tail),
    )
    popular = graph.op("Gather", "items.popularity", items)
    return graph.op("Where", known, graph.op("Where", there, matched, popular), graph.number(-np.inf))


def _match_whole(graph: Graph, *, state: str, items: str) -> str:
    """Multiply a state with rows at 8 bits: (Σ state · q) · s8."""
    values = graph.cast(graph.op("Gather", "items.values", items), TensorProto.FLOAT)
    return graph.op("Mul", _sums(graph, values, state), _scales_at_8(graph, items))


def _match_mixed(graph: Graph, *, state: str, items: str, events: str, tail: Tail | None) -> str:
    """Multiply a state with rows at the widths of `rows`, of the history at 8 bits: (Σ state · t) · s_b, or by the tail."""
    own = graph.op("Expand", graph.constant(np.array([WHOLE], np.uint8)), graph.op("Shape", events))
    codes = graph.op("Gather", graph.op("ScatterElements", "rows", events, own), items)
    column = graph.reshape(graph.cast(codes, TensorProto.INT64), -1, 1)
    slices = fold(graph, graph.op("Gather", "items.values", items), column)
    width = graph.op("Max", graph.op("Sub", column, graph.ints(1)), graph.ints(0))
    scale = graph.op("GatherND", "items.scales", graph.op("Concat", width, graph.reshape(items, -1, 1), axis=1))
    matched = graph.op("Mul", _sums(graph, slices, state), scale)
    coarse = graph.number(-np.inf) if tail is None else _coarse(graph, tail, state, items)
    return graph.op("Where", graph.cast(codes, TensorProto.BOOL), matched, coarse)


def _coarse(graph: Graph, tail: Tail, state: str, items: str) -> str:
    """Score rows by the tail: Σ_j (s R)_j · c_j[a_ij]."""
    parts, words, width = tail.codewords.shape
    turned = graph.reshape(graph.op("MatMul", state, "tail.rotation"), parts, width, 1)
    products = graph.reshape(graph.op("MatMul", "tail.codewords", turned), -1)
    starts = graph.constant(np.arange(0, parts * words, words, dtype=np.int64))
    codes = graph.cast(graph.op("Gather", "tail.codes", items), TensorProto.INT64)
    found = graph.op("Gather", products, graph.op("Add", codes, starts))
    return graph.op("ReduceSum", found, graph.ints(1), keepdims=0)


def _sums(graph: Graph, rows: str, state: str) -> str:
    """Sum the products of each row with the state."""
    return graph.reshape(graph.op("Gemm", rows, state, transB=1), -1)


def _scales_at_8(graph: Graph, items: str) -> str:
    """Take what a unit of a row is worth at 8 bits."""
    return graph.op("Gather", graph.reshape(graph.op("Gather", "items.scales", graph.ints(2)), -1), items)


def _known(graph: Graph, base: Base, items: str) -> str:
    """Tell which items have a row."""
    at_least_0 = graph.op("GreaterOrEqual", items, graph.ints(0))
    return graph.op("And", at_least_0, graph.op("Less", items, graph.ints(len(base.table))))
