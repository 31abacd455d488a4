"""From one history to one user state, in numpy: the device's own copy of each backbone's forward.

There is no batch and no padding: one history, its known items, at most as many as the model reads. SASRec (the torch twin is
`backbones/sasrec.py`; positions count from the newest item, which has number 0):

    h     = E[items] + P[positions]                           E at 8 bits: a device always holds its own history's rows
    h     = h + output(attention(query(n), key(n), value(n))) n = norm(h), for every block
    h     = h + contract(relu(expand(n)))                     n = norm(h)
    state = norm(h)[newest]

A gate that is 0 skips its line. What no later line reads is not computed: in the last attention that runs only the newest
event looks, and after it only the newest is left. That is the same arithmetic on fewer rows, exactly, and saves a third.

Precision, normative for other engines. `h` and every layer's input and output are float32, and a layer is one of the two
arithmetics of `linear.py`. A norm and an attention take float32 and give float32, but compute in float64 between and
round once at the end: their sums, roots and exponentials may then be taken in any order, by any library, and still
give the same float32 (but for one value in some hundred millions). Elsewhere each line is one float32 operation per element:

    E[i] = values · scale;   h = E + P;   h = h + branch;   relu(x) = max(x, 0)
    norm(h)   = (h − mean) / √(variance + 1e-5) · weight + bias                         variance over dim, not dim − 1
    attention = softmax(q kᵀ / √(dim / heads)) v over the events up to the query's own     head j: channels j·dim/heads …

This module does no scoring (`runtimes.py`), and knows no ids, payloads or clocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int

from ossia.adaptation.apply import Weights
from ossia.device.linear import FLOAT, Arithmetic, Linear
from ossia.quantization.grid import Panel
from ossia.types import History

Encoder: TypeAlias = Callable[[Int[np.ndarray, " events"]], Float32[np.ndarray, " dim"]]
"""A usable history (see `usable_history`) of at least one item to a user state."""

NORM_EPSILON: Final = 1e-5


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


def sasrec(weights: Weights, arithmetic: Arithmetic) -> Encoder:
    """Make SASRec's encoder ready: layers are dequantised or laid out once, here, not in every call.

    Args:
        weights: a folded SASRec.
        arithmetic: how layers multiply.

    Returns:
        the encoder.
    """
    rows, positions = weights.history_rows, weights.floats["positions.weight"]
    blocks = [_block(weights, f"blocks.{index}", arithmetic) for index in range(weights.shape["blocks"])]
    last_attention = max((index for index, (attention, _) in enumerate(blocks) if attention), default=-1)
    final_norm = _norm(weights, "norm")

    def encode(items: Int[np.ndarray, " events"]) -> Float32[np.ndarray, " dim"]:
        h = rows.values[items] * rows.scale[items, None] + positions[len(items) - 1 :: -1]
        for index, (attention, feed_forward) in enumerate(blocks):
            stream, h = h, h if index < last_attention else h[-1:]
            if attention:
                h = h + attention(h, stream)
            if feed_forward:
                h = h + feed_forward(h)
        state: Float32[np.ndarray, " dim"] = final_norm(h)[0]
        return state

    return encode


@dataclass(frozen=True, eq=False)
class Norm:
    """A layer norm: float32 in and out, float64 between."""

    weight: Float32[np.ndarray, " dim"]
    bias: Float32[np.ndarray, " dim"]

    def __call__(self, h: Float32[np.ndarray, "events dim"]) -> Float32[np.ndarray, "events dim"]:
        """Normalize each row of h."""
        centered = h.astype(np.float64)
        centered -= centered.mean(axis=1, keepdims=True)
        variance = np.einsum("ed,ed->e", centered, centered) / h.shape[1]
        centered /= np.sqrt(variance + NORM_EPSILON)[:, None]
        normal: Float32[np.ndarray, "events dim"] = (centered * self.weight + self.bias).astype(np.float32)
        return normal


@dataclass(frozen=True, eq=False)
class Attention:
    """A causal self-attention branch, for the newest events only if the caller wants no others."""

    norm: Norm
    query_key_value: Linear
    output: Linear
    heads: int

    def __call__(
        self, h: Float32[np.ndarray, "newest dim"], stream: Float32[np.ndarray, "events dim"]
    ) -> Float32[np.ndarray, "newest dim"]:
        """Let each event of h, the newest of `stream`, look at itself and at what came before it."""
        query, key, value = self._split(self.query_key_value(self.norm(stream)))
        weights = query[:, -len(h) :] @ key.transpose(0, 2, 1)
        weights /= np.sqrt(query.shape[2])
        if len(h) > 1:  # the newest event alone may look at all
            weights += np.triu(np.full((len(h), len(stream)), -np.inf), len(stream) - len(h) + 1)
        weights -= weights.max(axis=2, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=2, keepdims=True)
        mixed = (weights @ value).transpose(1, 0, 2).reshape(h.shape)
        return self.output(mixed.astype(np.float32))

    def _split(self, x: Float32[np.ndarray, "events channels"]) -> Float64[np.ndarray, "3 heads events part"]:
        """Part queries, keys and values, and give each head its channels."""
        return x.astype(np.float64).reshape(len(x), 3, self.heads, -1).transpose(1, 2, 0, 3)


@dataclass(frozen=True, eq=False)
class FeedForward:
    """A position-wise branch: contract(relu(expand(norm(h))))."""

    norm: Norm
    expand: Linear
    contract: Linear

    def __call__(self, h: Float32[np.ndarray, "events dim"]) -> Float32[np.ndarray, "events dim"]:
        """Transform each row of h."""
        inner = self.expand(self.norm(h))
        return self.contract(np.maximum(inner, 0, out=inner))


def _block(weights: Weights, name: str, arithmetic: Arithmetic) -> tuple[Attention | None, FeedForward | None]:
    """Make a block's two branches ready; None for one that its gate skips."""

    def layer(*parts: str) -> Linear:  # several that read the same input are one taller layer
        panels = [weights.slots[f"{name}.{part}"] for part in parts]
        stacked = Panel(np.concatenate([panel.values for panel in panels]), np.concatenate([panel.scale for panel in panels]))
        return arithmetic.linear(stacked, np.concatenate([weights.floats[f"{name}.{part}.bias"] for part in parts]))

    attention = feed_forward = None
    if weights.gates[f"{name}.attention"]:
        attention = Attention(
            _norm(weights, f"{name}.attention_norm"), layer("query", "key", "value"), layer("output"), weights.shape["heads"]
        )
    if weights.gates[f"{name}.feed_forward"]:
        feed_forward = FeedForward(_norm(weights, f"{name}.feed_forward_norm"), layer("expand"), layer("contract"))
    return attention, feed_forward


def _norm(weights: Weights, name: str) -> Norm:
    """Take the norm called `name` out of the weights."""
    return Norm(weights.floats[f"{name}.weight"], weights.floats[f"{name}.bias"])


FORWARDS: Final[dict[str, Callable[[Weights, Arithmetic], Encoder]]] = {"sasrec": sasrec}
"""Every backbone that a device can run, by the name in its base's manifest."""
