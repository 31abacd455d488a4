"""Caser as a graph, from events to a user state. The twin of `device/caser.py`, in float32 throughout.

    X          = the rows of E, oldest first; zeros above where the history is shorter than `length`
    vertical   = vertical(Xᵀ), row by row
    height k   = max over t of relu(horizontal.k([X_t … X_{t+k−1}]))        k = 1 … length
    state      = norm(X_newest + combine([vertical, height 1, …, height length]))

A gate that is 0 puts zeros in the place of its branch, which is then not computed.
"""

from functools import partial

import numpy as np

from ossia.adaptation.base import Base
from ossia.export.catalog import own_rows
from ossia.export.graph import Graph
from ossia.export.layers import gate, linear, norm


def caser(graph: Graph, base: Base, events: str) -> str:
    """Encode events.

    Args:
        graph: where to compute it.
        base: a published Caser.
        events: name of the events' rows, oldest first, at least one.

    Returns:
        the name of the user state, 1 × dim.
    """
    shape = base.manifest.shape
    rows = own_rows(graph, events)
    missing = graph.op("Sub", graph.ints(shape["length"]), graph.op("Shape", events))
    window = graph.op("Pad", rows, graph.op("Concat", missing, graph.ints(0, 0, 0), axis=0))
    branches = {"vertical": (partial(_vertical, base=base, window=window), shape["dim"] * shape["vertical"])}
    for height in range(1, shape["length"] + 1):
        slide = partial(_slide, base=base, window=window, height=height)
        branches[f"horizontal.{height}"] = (slide, shape["horizontal"])
    said = [
        graph.choose(gate(graph, base, name), says, partial(_silence, width=width)) for name, (says, width) in branches.items()
    ]
    combined = linear(graph, base, "combine", graph.op("Concat", *said, axis=1))
    return norm(graph, "norm", graph.op("Add", graph.rows_from(rows, graph.ints(-1)), combined))


def _silence(graph: Graph, *, width: int) -> str:
    """Give zeros in the place of a branch."""
    return graph.op("Identity", graph.constant(np.zeros((1, width), np.float32)))


def _vertical(graph: Graph, *, base: Base, window: str) -> str:
    """Give the answers of all filters for feature 0, then for feature 1, and so on."""
    answers = linear(graph, base, "vertical", graph.op("Transpose", window, perm=[1, 0]))
    return graph.reshape(answers, 1, -1)


def _slide(graph: Graph, *, base: Base, window: str, height: int) -> str:
    """Give each filter's largest answer to `height` neighboring rows, and 0 at the least."""
    starts = np.arange(base.manifest.shape["length"] - height + 1)
    places = graph.op("Gather", window, graph.constant(starts[:, None] + np.arange(height)))
    answers = linear(graph, base, f"horizontal.{height}", graph.reshape(places, len(starts), -1))
    return graph.op("Relu", graph.op("ReduceMax", answers, axes=[0], keepdims=1))
