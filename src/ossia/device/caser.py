"""Caser on a device: from a usable history to a user state, in numpy. The torch twin is `backbones/caser.py`.

    X          = the rows of E of the newest `length` events, oldest first; zeros above where the history is shorter
    vertical   = vertical(Xᵀ), row by row: the answers of all filters for feature 0, then for feature 1 …
    height k   = max over t of relu(horizontal.k([X_t … X_{t+k−1}]))        k = 1 … length; windows of zeros count
    state      = norm(X_newest + combine([vertical, height 1, …, height length]))

A gate that is 0 puts zeros in the place of its branch's answers. `combine` has no gate.

Precision is that of `layers.py`; the sum before the norm is a float32 addition. With int8 activations each row that a layer
reads has a scale of its own: a feature's `length` values, the k · dim of a window, all answers together.
"""

import numpy as np
from jaxtyping import Float32, Int

from ossia.adaptation.apply import Weights
from ossia.device.layers import Encoder, own_rows, take_layer, take_norm
from ossia.device.linear import Arithmetic, Linear


def caser(weights: Weights, arithmetic: Arithmetic) -> Encoder:
    """Make Caser's encoder ready: layers are dequantized or laid out once, here, not in every call.

    Args:
        weights: a folded Caser.
        arithmetic: how layers multiply.

    Returns:
        the encoder.
    """
    length, dim = weights.shape["length"], weights.shape["dim"]
    layers = {name: take_layer(weights, arithmetic, name) for name, runs in weights.gates.items() if runs}
    combine, final_norm = take_layer(weights, arithmetic, "combine"), take_norm(weights, "norm")

    def encode(items: Int[np.ndarray, " events"]) -> Float32[np.ndarray, " dim"]:
        window = np.zeros((length, dim), np.float32)
        window[length - len(items) :] = own_rows(weights, items)
        said = [np.zeros(dim * weights.shape["vertical"], np.float32)]
        if "vertical" in layers:
            said = [layers["vertical"](np.ascontiguousarray(window.T)).ravel()]
        for height in range(1, length + 1):
            layer = layers.get(f"horizontal.{height}")
            said.append(_slide(window, height, layer) if layer else np.zeros(weights.shape["horizontal"], np.float32))
        state: Float32[np.ndarray, " dim"] = final_norm(window[-1:] + combine(np.concatenate(said)[None]))[0]
        return state

    return encode


def _slide(window: Float32[np.ndarray, "length dim"], height: int, layer: Linear) -> Float32[np.ndarray, " filters"]:
    """Give each filter's largest answer to `height` neighboring rows, and 0 at the least."""
    places = np.stack([window[start : start + height].ravel() for start in range(len(window) - height + 1)])
    largest: Float32[np.ndarray, " filters"] = np.maximum(layer(places).max(axis=0), np.float32(0))
    return largest
