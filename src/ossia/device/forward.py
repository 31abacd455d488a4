"""From one history to one user state, in numpy: what a device can read, and which forward reads it.

There is no batch and no padding: one history, its known items, at most as many as the model reads. Each backbone's own copy
of its forward is a module beside this one (`sasrec.py`, `gru4rec.py`, `caser.py`); they share `layers.py`, where the
precision that other engines are held to is written down, and `linear.py`, the two arithmetics.

This module does no scoring (`runtimes.py`), and knows no ids, payloads or clocks.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float32, Int

from ossia.adaptation.apply import Weights
from ossia.device.caser import caser
from ossia.device.gru4rec import gru4rec
from ossia.device.layers import Encoder
from ossia.device.linear import FLOAT, Arithmetic
from ossia.device.sasrec import sasrec
from ossia.types import History

__all__ = ["FORWARDS", "Encoder", "usable_history", "user_state"]


def user_state(weights: Weights, history: History, arithmetic: Arithmetic = FLOAT) -> Float32[np.ndarray, " dim"]:
    """Encode one history with folded weights; for many calls with the same weights, keep a ranker instead.

    Args:
        weights: what `apply` made of a base and an adaptation.
        history: item rows, oldest first; what the table does not know is skipped, then the newest `length` are read.
        arithmetic: how layers multiply.

    Returns:
        the user state; zeros if nothing in the history is known.
    """
    usable = usable_history(history, len(weights.history_rows.scale), weights.shape["length"])
    if not len(usable):
        return np.zeros(weights.shape["dim"], np.float32)
    return FORWARDS[weights.backbone](weights, arithmetic)(usable)


def usable_history(history: History, items: int, length: int) -> Int[np.ndarray, " usable"]:
    """Keep what a model can read of a history: the newest `length` events among those whose items it knows.

    Args:
        history: item rows, oldest first.
        items: rows of the table; numbers outside 0 … items − 1, such as `ABSENT`, are skipped.
        length: the longest history that the model reads, in events.

    Returns:
        the events that count, oldest first.

    Example:
        >>> usable_history(np.array([4, 0, -1, 2, 99, 2]), items=5, length=3)
        array([0, 2, 2])
    """
    known: Int[np.ndarray, " usable"] = history[(history >= 0) & (history < items)][-length:]
    return known


FORWARDS: Final[dict[str, Callable[[Weights, Arithmetic], Encoder]]] = {
    "sasrec": sasrec,
    "caser": caser,
    "gru4rec": gru4rec,
}
"""Every backbone that a device can run, by the name in its base's manifest."""
