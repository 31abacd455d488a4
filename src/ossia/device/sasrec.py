"""SASRec on a device: from a usable history to a user state, in numpy. The torch twin is `backbones/sasrec.py`.

Positions count from the newest item, which has number 0:

    h     = E[items] + P[positions]
    h     = h + output(attention(query(n), key(n), value(n))) n = norm(h), for every block
    h     = h + contract(relu(expand(n)))                     n = norm(h)
    state = norm(h)[newest]

With valves each branch is let through by σ of a layer that reads the stream itself, and two layers are multiplied:

    h     = h + σ(attention_valve(h)) · output(…)
    h     = h + σ(feed_forward_valve(h)) · contract(silu(expand(n)) · up(n))          silu(x) = x σ(x)

A gate that is 0 skips its line, and the valve in it. What no later line reads is not computed: in the last attention that runs
only the newest event looks, and after it only the newest is left. That is the same arithmetic on fewer rows, exactly, and saves
a third.

Precision is that of `layers.py`; h = E + P and h = h + branch are float32 additions, and

    attention = softmax(q kᵀ / √(dim / heads)) v over the events up to the query's own     head j: channels j·dim/heads …

σ(v) · b and silu(e) · u are each one float32 number, rounded from float64 once.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int

from ossia.adaptation.apply import Weights
from ossia.device.layers import Encoder, Norm, own_rows, sigmoid, take_layer, take_norm
from ossia.device.linear import Arithmetic, Linear


def sasrec(weights: Weights, arithmetic: Arithmetic) -> Encoder:
    """Make SASRec's encoder ready: layers are dequantized or laid out once, here, not in every call.

    Args:
        weights: a folded SASRec.
        arithmetic: how layers multiply.

    Returns:
        the encoder.
    """
    positions = weights.floats["positions.weight"]
    blocks = [_block(weights, f"blocks.{index}", arithmetic) for index in range(weights.shape["blocks"])]
    last_attention = max((index for index, (attention, _) in enumerate(blocks) if attention), default=-1)
    final_norm = take_norm(weights, "norm")

    def encode(items: Int[np.ndarray, " events"]) -> Float32[np.ndarray, " dim"]:
        h = own_rows(weights, items) + positions[len(items) - 1 :: -1]
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
class Attention:
    """A causal self-attention branch, for the newest events only if the caller wants no others."""

    norm: Norm
    query_key_value: Linear
    output: Linear
    heads: int
    valve: Linear | None

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
        return _let_through(self.valve, h, self.output(mixed.astype(np.float32)))

    def _split(self, x: Float32[np.ndarray, "events channels"]) -> Float64[np.ndarray, "3 heads events part"]:
        """Part queries, keys and values, and give each head its channels."""
        return x.astype(np.float64).reshape(len(x), 3, self.heads, -1).transpose(1, 2, 0, 3)


@dataclass(frozen=True, eq=False)
class FeedForward:
    """A position-wise branch: contract(relu(expand(norm(h)))); `expand` is expand and up at once where there is a valve."""

    norm: Norm
    expand: Linear
    contract: Linear
    valve: Linear | None

    def __call__(self, h: Float32[np.ndarray, "events dim"]) -> Float32[np.ndarray, "events dim"]:
        """Transform each row of h."""
        inner = self.expand(self.norm(h))
        inner = np.maximum(inner, 0, out=inner) if self.valve is None else _multiply_halves(inner)
        return _let_through(self.valve, h, self.contract(inner))


def _multiply_halves(inner: Float32[np.ndarray, "events both"]) -> Float32[np.ndarray, "events hidden"]:
    """Compute silu(expand) · up from both side by side."""
    expanded, up = np.split(inner.astype(np.float64), 2, axis=1)
    product: Float32[np.ndarray, "events hidden"] = (expanded * sigmoid(expanded) * up).astype(np.float32)
    return product


def _let_through(
    valve: Linear | None, h: Float32[np.ndarray, "events dim"], branch: Float32[np.ndarray, "events dim"]
) -> Float32[np.ndarray, "events dim"]:
    """Let a branch through its valve, which reads the stream before the branch; wholly where there is none."""
    if valve is None:
        return branch
    through: Float32[np.ndarray, "events dim"] = (sigmoid(valve(h).astype(np.float64)) * branch).astype(np.float32)
    return through


def _block(weights: Weights, name: str, arithmetic: Arithmetic) -> tuple[Attention | None, FeedForward | None]:
    """Make a block's two branches ready; None for one that its gate skips."""

    def layer(*parts: str) -> Linear:
        return take_layer(weights, arithmetic, *(f"{name}.{part}" for part in parts))

    valves = "valves" in weights.shape
    attention = feed_forward = None
    if weights.gates[f"{name}.attention"]:
        norm, heads = take_norm(weights, f"{name}.attention_norm"), weights.shape["heads"]
        valve = layer("attention_valve") if valves else None
        attention = Attention(norm, layer("query", "key", "value"), layer("output"), heads, valve)
    if weights.gates[f"{name}.feed_forward"]:
        norm, expand = take_norm(weights, f"{name}.feed_forward_norm"), layer("expand", "up") if valves else layer("expand")
        feed_forward = FeedForward(norm, expand, layer("contract"), layer("feed_forward_valve") if valves else None)
    return attention, feed_forward
