"""GRU4Rec as a graph, from events to a user state. The twin of `device/gru4rec.py`, in float32 throughout.

    h     = E[items]
    m     = GRU(norm(h))              m is 0 at first; ONNX's operator with `linear_before_reset`: n = tanh(a_n + r · b_n)
    h     = h + output(m)             for every layer whose gate is on
    state = norm(h)[newest]

ONNX orders the channels z, r, n where a base has r, z, n. After the last layer that runs only the newest event is left.
"""

from functools import partial

import numpy as np

from ossia.adaptation.base import Base
from ossia.export.catalog import own_rows
from ossia.export.graph import Graph
from ossia.export.layers import bias, first_read, linear, norm, residual, weight


def gru4rec(graph: Graph, base: Base, events: str) -> str:
    """Encode events.

    Args:
        graph: where to compute it.
        base: a published GRU4Rec.
        events: name of the events' rows, oldest first, at least one.

    Returns:
        the name of the user state, 1 × dim.
    """
    layers = [f"layers.{index}" for index in range(base.manifest.shape["layers"])]
    h = own_rows(graph, events)
    for index, layer in enumerate(layers):
        start = first_read(graph, base, layers[index + 1 :])
        h = residual(graph, base, layer, h, start, partial(_layer, base=base, layer=layer, stream=h, start=start))
    return norm(graph, "norm", h)


def _layer(graph: Graph, *, base: Base, layer: str, stream: str, start: str) -> str:
    """Read the stream event by event, and say what is added to its rows from `start` on."""
    hidden = base.manifest.shape["hidden"]
    inputs, memory = f"{layer}.input", f"{layer}.hidden"
    order = graph.constant(np.arange(3 * hidden).reshape(3, hidden)[[1, 0, 2]].ravel())
    first = graph.ints(0)

    def ordered(tensor: str) -> str:
        return graph.op("Gather", tensor, order)

    weights = [graph.op("Unsqueeze", ordered(weight(graph, base, slot)), first) for slot in (inputs, memory)]
    biases = graph.op("Concat", *(ordered(bias(graph, base, slot)) for slot in (inputs, memory)), axis=0)
    steps = graph.op("Unsqueeze", norm(graph, f"{layer}.norm", stream), graph.ints(1))
    unit = {"hidden_size": hidden, "linear_before_reset": 1}
    memories = graph.reshape(graph.op("GRU", steps, *weights, graph.op("Unsqueeze", biases, first), **unit), -1, hidden)
    return linear(graph, base, f"{layer}.output", graph.rows_from(memories, start))
