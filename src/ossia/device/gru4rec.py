"""GRU4Rec on a device: from a usable history to a user state, in numpy. The torch twin is `backbones/gru4rec.py`.

    h     = E[items]
    a_t   = input(norm(h))_t      b_t = hidden(m_{t−1})       channels of r, z and n, in this order; m is 0 at first
    m_t   = (1 − z) n + z m_{t−1}                             r, z = σ(a + b),  n = tanh(a + r b), each with its own channels
    h     = h + output(m)                                     for every layer
    state = norm(h)[newest]

A gate that is 0 skips its layer. What no later line reads is not computed: the last layer that runs hands on its newest
memory alone.

Precision is that of `layers.py`: h = h + output is a float32 addition; a step takes a_t, b_t and m_{t−1} in float32,
computes in float64 and rounds m_t to float32 once. So b_t is computed from a memory in float32.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from ossia.adaptation.apply import Weights
from ossia.device.layers import Encoder, Norm, own_rows, sigmoid, take_layer, take_norm
from ossia.device.linear import Arithmetic, Linear


def gru4rec(weights: Weights, arithmetic: Arithmetic) -> Encoder:
    """Make GRU4Rec's encoder ready: layers are dequantized or laid out once, here, not in every call.

    Args:
        weights: a folded GRU4Rec.
        arithmetic: how layers multiply.

    Returns:
        the encoder.
    """
    names = [f"layers.{index}" for index in range(weights.shape["layers"])]
    layers = [_layer(weights, name, arithmetic) for name in names if weights.gates[name]]
    final_norm = take_norm(weights, "norm")

    def encode(items: Int[np.ndarray, " events"]) -> Float32[np.ndarray, " dim"]:
        h = own_rows(weights, items)
        for index, layer in enumerate(layers, 1):
            stream, h = h, h if index < len(layers) else h[-1:]
            h = h + layer(h, stream)
        state: Float32[np.ndarray, " dim"] = final_norm(h[-1:])[0]
        return state

    return encode


@dataclass(frozen=True, eq=False)
class Layer:
    """A recurrent branch, for the newest events only if the caller wants no others."""

    norm: Norm
    input: Linear
    hidden: Linear
    output: Linear
    width: int

    def __call__(
        self, h: Float32[np.ndarray, "newest dim"], stream: Float32[np.ndarray, "events dim"]
    ) -> Float32[np.ndarray, "newest dim"]:
        """Read the stream event by event, and say what is added to h, its newest rows."""
        memories = np.zeros((1 + len(stream), self.width), np.float32)
        for event, inputs in enumerate(self.input(self.norm(stream))):
            memory = memories[event]
            memories[event + 1] = update_memory(inputs, self.hidden(memory[None])[0], memory)
        return self.output(memories[-len(h) :])


def update_memory(
    inputs: Float32[np.ndarray, " channels"], hidden: Float32[np.ndarray, " channels"], memory: Float32[np.ndarray, " width"]
) -> Float32[np.ndarray, " width"]:
    """Take one step of a gated recurrent unit, in float64 between float32.

    Args:
        inputs: W_i x + b_i, the channels of r, z and n.
        hidden: W_h m + b_h, likewise.
        memory: m.

    Returns:
        the memory after the event.
    """
    (ri, zi, ni), (rh, zh, nh) = (part.astype(np.float64).reshape(3, -1) for part in (inputs, hidden))
    z, n = sigmoid(zi + zh), np.tanh(ni + sigmoid(ri + rh) * nh)
    updated: Float32[np.ndarray, " width"] = ((1 - z) * n + z * memory).astype(np.float32)
    return updated


def _layer(weights: Weights, name: str, arithmetic: Arithmetic) -> Layer:
    """Make a layer ready."""
    reads, remembers, adds = (take_layer(weights, arithmetic, f"{name}.{part}") for part in ("input", "hidden", "output"))
    return Layer(take_norm(weights, f"{name}.norm"), reads, remembers, adds, weights.shape["hidden"])
