"""GRU4Rec as a LiteRT graph, from rows to a user state. The twin of `device/gru4rec.py`, its recurrence unrolled.

    h     = E[items]
    a_t   = input(norm(h))_t      b_t = hidden(m_{t−1})       channels of r, z and n, in this order; m is 0 at first
    m_t   = n + z (m_{t−1} − n)                               r, z = σ(a + b),  n = tanh(a + r b), each with its own channels
    h     = h + output(m)                                     for every layer
    state = norm(h)[newest]

Where nothing stands, m stays 0. A gate that is 0 is a layer of zero weights, which costs what it did.
"""

import numpy as np

from ossia.adaptation.apply import Weights
from ossia.export.litert_graph import Graph, Tensor
from ossia.export.litert_layers import Events, apply_layer, linear, norm, take_layer


def gru4rec(graph: Graph, weights: Weights, events: Events) -> Tensor:
    """Encode events.

    Args:
        graph: where to compute it.
        weights: a folded GRU4Rec.
        events: its `length` rows.

    Returns:
        the user state, 1 × dim.
    """
    h, layers = events.rows, weights.shape["layers"]
    for index in range(layers):
        name, first = f"layers.{index}", h.shape[0] - 1 if index == layers - 1 else 0
        memories = _memories(graph, weights, name, h, events.there)[first:]
        stacked = graph.op("CONCATENATION", *memories, shape=(len(memories), weights.shape["hidden"]), axis=0)
        h = graph.each("ADD", graph.part(h, first, h.shape[0]), linear(graph, weights, f"{name}.output", stacked))
    return norm(graph, weights, "norm", h)


def _memories(graph: Graph, weights: Weights, name: str, h: Tensor, there: Tensor | None) -> list[Tensor]:
    """Read the stream event by event, and give what is remembered after each."""
    width, hidden = weights.shape["hidden"], take_layer(graph, weights, f"{name}.hidden")
    inputs = linear(graph, weights, f"{name}.input", norm(graph, weights, f"{name}.norm", h))
    memory, memories = graph.constant(np.zeros((1, width), np.float32)), []
    counts = None if there is None else _ones(graph, there)
    for event in range(h.shape[0]):
        reads, remembers = graph.part(inputs, event, event + 1), apply_layer(graph, hidden, memory)
        memory = _step(graph, reads, remembers, memory, width)
        if counts is not None:
            memory = graph.each("MUL", memory, graph.part(counts, event, event + 1))
        memories.append(memory)
    return memories


def _step(graph: Graph, reads: Tensor, remembers: Tensor, memory: Tensor, width: int) -> Tensor:
    """Take one step of a gated recurrent unit."""

    def channels(x: Tensor, start: int, stop: int) -> Tensor:
        return graph.part(x, start * width, stop * width, axis=1)

    both = graph.each("LOGISTIC", graph.each("ADD", channels(reads, 0, 2), channels(remembers, 0, 2)))
    reset, update = channels(both, 0, 1), channels(both, 1, 2)
    new = graph.each("TANH", graph.each("ADD", channels(reads, 2, 3), graph.each("MUL", reset, channels(remembers, 2, 3))))
    return graph.each("ADD", new, graph.each("MUL", update, graph.each("SUB", memory, new)))


def _ones(graph: Graph, there: Tensor) -> Tensor:
    """Turn bools into ones and zeros."""
    return graph.each("SELECT_V2", there, graph.constant(np.float32(1)), graph.constant(np.float32(0)))
