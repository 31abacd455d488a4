"""Caser as a LiteRT graph, from rows to a user state. The twin of `device/caser.py`.

    X          = the rows of E, the newest last; zeros where nothing stands
    vertical   = vertical(Xᵀ), row by row
    height k   = max over t of relu(horizontal.k([X_t … X_{t+k−1}]))        k = 1 … length
    state      = norm(X_newest + combine([vertical, height 1, …, height length]))

A gate that is 0 is a branch of zero weights, which says zeros and costs what it did.
"""

import numpy as np

from ossia.adaptation.apply import Weights
from ossia.export.litert_graph import RELU, Graph, Tensor
from ossia.export.litert_layers import Events, linear, norm


def caser(graph: Graph, weights: Weights, events: Events) -> Tensor:
    """Encode events.

    Args:
        graph: where to compute it.
        weights: a folded Caser.
        events: its `length` rows.

    Returns:
        the user state, 1 × dim.
    """
    length, window = weights.shape["length"], events.rows
    if events.there is not None:
        window = graph.each("SELECT_V2", graph.reshape(events.there, -1, 1), window, graph.constant(np.float32(0)))
    vertical = linear(graph, weights, "vertical", graph.transpose(window, 1, 0))
    said = [graph.reshape(vertical, 1, -1), *(_slide(graph, weights, window, height) for height in range(1, length + 1))]
    shape = (1, sum(each.shape[1] for each in said))
    combined = linear(graph, weights, "combine", graph.op("CONCATENATION", *said, shape=shape, axis=1))
    return norm(graph, weights, "norm", graph.each("ADD", graph.part(window, length - 1, length), combined))


def _slide(graph: Graph, weights: Weights, window: Tensor, height: int) -> Tensor:
    """Give each filter's largest answer to `height` neighboring rows, and 0 at the least."""
    starts = np.arange(window.shape[0] - height + 1, dtype=np.int32)
    places = graph.gather(window, graph.constant(starts[:, None] + np.arange(height, dtype=np.int32)))
    answers = linear(graph, weights, f"horizontal.{height}", graph.reshape(places, len(starts), -1), activation=RELU)
    return graph.reduce("REDUCE_MAX", answers, 0, keep=True)
