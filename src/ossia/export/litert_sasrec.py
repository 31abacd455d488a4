"""SASRec as a LiteRT graph, from rows to a user state. The twin of `device/sasrec.py`.

    h     = E[items] + P[positions]                           position 0 is the newest event
    h     = h + output(attention(query(n), key(n), value(n))) n = norm(h), for every block
    h     = h + contract(relu(expand(n)))                     n = norm(h)
    state = norm(h)[newest]

The newest event stands in the last row, so its position and place never change; where a history is shorter, the rows above
hold nothing, and nobody looks at them. In the last block only the newest event looks, and after it only the newest is left.

A gate that is 0 is a block of zero weights, which costs what it did. With valves a branch is multiplied with σ(…_valve(h)),
and relu(expand(n)) is silu(expand(n)) · up(n), silu(x) = x σ(x).
"""

from typing import Final

import numpy as np

from ossia.adaptation.apply import Weights
from ossia.export.litert_graph import RELU, Graph, Tensor
from ossia.export.litert_layers import Events, linear, norm

FAR: Final = np.float32(-1e30)
"""Added to a match that must not count. Not −∞: a row that may look nowhere would give no number, and poison the others."""


def sasrec(graph: Graph, weights: Weights, events: Events) -> Tensor:
    """Encode events.

    Args:
        graph: where to compute it.
        weights: a folded SASRec.
        events: its `length` rows.

    Returns:
        the user state, 1 × dim.
    """
    length, blocks = weights.shape["length"], weights.shape["blocks"]
    mask = _mask(graph, length, events)
    h = graph.each("ADD", events.rows, graph.constant(weights.floats["positions.weight"][::-1].copy()))
    for index in range(blocks):
        first = length - 1 if index == blocks - 1 else 0
        h = graph.each("ADD", graph.part(h, first, length), _attention(graph, weights, f"blocks.{index}", h, first, mask))
        h = graph.each("ADD", h, _feed_forward(graph, weights, f"blocks.{index}", h))
    return norm(graph, weights, "norm", h)


def _mask(graph: Graph, length: int, events: Events) -> Tensor:
    """Say what is added to the match of each event with each: nothing, or `FAR` with what came later or is not there."""
    later = graph.constant(np.triu(np.full((length, length), FAR), 1))
    if events.there is None:
        return later
    nothing, far = graph.constant(np.float32(0)), graph.constant(FAR)
    return graph.each("ADD", later, graph.each("SELECT_V2", events.there, nothing, far))


def _attention(graph: Graph, weights: Weights, block: str, stream: Tensor, first: int, mask: Tensor) -> Tensor:
    """Let each event from `first` on look at itself and at what came before it."""
    dim, heads, length = weights.shape["dim"], weights.shape["heads"], stream.shape[0]
    everything = norm(graph, weights, f"{block}.attention_norm", stream)
    looking = graph.part(everything, first, length)

    def split(part: str, x: Tensor) -> Tensor:
        channels = graph.reshape(linear(graph, weights, f"{block}.{part}", x), x.shape[0], heads, dim // heads)
        return graph.transpose(channels, 1, 0, 2)

    match = graph.matmul(split("query", looking), split("key", everything), turned=True)
    match = graph.each("MUL", match, graph.constant(np.float32(1 / np.sqrt(dim / heads))))
    match = graph.each("ADD", match, graph.part(mask, first, length))
    attended = graph.op("SOFTMAX", match, shape=match.shape, beta=1.0)
    mixed = graph.transpose(graph.matmul(attended, split("value", everything)), 1, 0, 2)
    output = linear(graph, weights, f"{block}.output", graph.reshape(mixed, looking.shape[0], dim))
    return _let_through(graph, weights, f"{block}.attention_valve", graph.part(stream, first, length), output)


def _feed_forward(graph: Graph, weights: Weights, block: str, h: Tensor) -> Tensor:
    """Transform each row."""
    n = norm(graph, weights, f"{block}.feed_forward_norm", h)
    if "valves" in weights.shape:
        expanded = linear(graph, weights, f"{block}.expand", n)
        silu = graph.each("MUL", expanded, graph.each("LOGISTIC", expanded))
        inner = graph.each("MUL", silu, linear(graph, weights, f"{block}.up", n))
    else:
        inner = linear(graph, weights, f"{block}.expand", n, activation=RELU)
    return _let_through(graph, weights, f"{block}.feed_forward_valve", h, linear(graph, weights, f"{block}.contract", inner))


def _let_through(graph: Graph, weights: Weights, valve: str, h: Tensor, branch: Tensor) -> Tensor:
    """Multiply a branch with how far its valve opens on the rows of h; it is the branch itself where there are no valves."""
    if "valves" not in weights.shape:
        return branch
    return graph.each("MUL", graph.each("LOGISTIC", linear(graph, weights, valve, h)), branch)
