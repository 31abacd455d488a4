"""SASRec as a graph, from events to a user state. The twin of `device/sasrec.py`, line by line and in float32 throughout.

    h     = E[items] + P[positions]                           position 0 is the newest event
    h     = h + output(attention(query(n), key(n), value(n))) n = norm(h), if its gate is on, for every block
    h     = h + contract(relu(expand(n)))                     n = norm(h), if its gate is on
    state = norm(h)[newest]

After the last attention that runs only the newest event is left; which one that is, the gates say.
"""

from functools import partial

import numpy as np

from ossia.adaptation.base import Base
from ossia.export.catalog import own_rows
from ossia.export.graph import Graph
from ossia.export.layers import first_read, linear, norm, residual


def sasrec(graph: Graph, base: Base, events: str) -> str:
    """Encode events.

    Args:
        graph: where to compute it.
        base: a published SASRec.
        events: name of the events' rows, oldest first, from 1 to `length` of them.

    Returns:
        the name of the user state, 1 × dim.
    """
    blocks = [f"blocks.{index}" for index in range(base.manifest.shape["blocks"])]
    numbers, positions = _numbers(graph, events)
    h = graph.op("Add", own_rows(graph, events), graph.op("Gather", "positions.weight", positions))
    for index, block in enumerate(blocks):
        start = first_read(graph, base, [f"{later}.attention" for later in blocks[index + 1 :]])
        attention = partial(_attention, base=base, block=block, stream=h, start=start, numbers=numbers)
        h = residual(graph, base, f"{block}.attention", h, start, attention)
        feed_forward = partial(_feed_forward, base=base, block=block, h=h)
        h = residual(graph, base, f"{block}.feed_forward", h, graph.ints(0), feed_forward)
    return norm(graph, "norm", h)


def _numbers(graph: Graph, events: str) -> tuple[str, str]:
    """Count the events from the oldest, 0 … n − 1, and from the newest, n − 1 … 0."""
    zero, one = graph.constant(np.array(0, np.int64)), graph.constant(np.array(1, np.int64))
    size = graph.op("Squeeze", graph.op("Shape", events))
    numbers = graph.op("Range", zero, size, one)
    return numbers, graph.op("Sub", graph.op("Sub", size, one), numbers)


def _attention(graph: Graph, *, base: Base, block: str, stream: str, start: str, numbers: str) -> str:
    """Let each event from `start` on look at itself and at what came before it."""
    dim, heads = base.manifest.shape["dim"], base.manifest.shape["heads"]
    everything = norm(graph, f"{block}.attention_norm", stream)
    looking = graph.rows_from(everything, start)

    def split(part: str, x: str, order: list[int]) -> str:
        channels = graph.reshape(linear(graph, base, f"{block}.{part}", x), -1, heads, dim // heads)
        return graph.op("Transpose", channels, perm=order)

    query, key = split("query", looking, [1, 0, 2]), split("key", everything, [1, 2, 0])
    match = graph.op("Div", graph.op("MatMul", query, key), graph.number(np.sqrt(dim / heads)))
    later = graph.op("Greater", numbers, graph.reshape(graph.rows_from(numbers, start), -1, 1))
    mask = graph.op("Where", later, graph.number(-np.inf), graph.number(0.0))
    attended = graph.op("Softmax", graph.op("Add", match, mask), axis=-1)
    mixed = graph.op("Transpose", graph.op("MatMul", attended, split("value", everything, [1, 0, 2])), perm=[1, 0, 2])
    return linear(graph, base, f"{block}.output", graph.reshape(mixed, -1, dim))


def _feed_forward(graph: Graph, *, base: Base, block: str, h: str) -> str:
    """Transform each row."""
    inner = linear(graph, base, f"{block}.expand", norm(graph, f"{block}.feed_forward_norm", h))
    return linear(graph, base, f"{block}.contract", graph.op("Relu", inner))
