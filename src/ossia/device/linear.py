"""A folded layer made ready to compute, in one of two arithmetics.

A runtime differs from another one in two places only: how a layer multiplies, and how a state meets the rows or vectors of
the candidates. An `Arithmetic` holds those functions; the rest of a forward exists once (`forward.py`).

`FLOAT`: the panel is dequantized once per adaptation, activations stay float32.

    y = x · (values · scale)ᵀ + bias                          score_i = (Σ state · values_i) · scale_i

Here a score's sum, and only that, is taken in float64 and rounded once: BLAS adds up a row in an order that depends on
where the row stands, and two equal rows, or one row listed twice, would differ in the last digit where they must tie.

`INTEGER`: activations are put on a grid of their own, row by row, the products are integers, and one float32 factor brings
them back. This is the reference for other engines, so the order of operations is part of it: every line is one float32
operation per element, rounded to nearest even, and none may be fused with the next.

    s_x = max|x| / 127         q_x = round-half-away(x / s_x)          per row of x; a row of zeros has s_x = 0
    acc = Σ q_x · values       exact, then rounded once to float32 (which changes nothing up to 1,032 inputs)
    f   = s_x · scale
    y   = acc · f
    y   = y + bias                                            score_i = acc_i · (s_state · scale_i)

Exact sums: numpy multiplies integer matrices without BLAS, some hundred times slower than floats. But a product of two int8
is at most 128 · 127, so that up to 1,032 inputs every partial sum is a whole number below 2²⁴, which float32 holds exactly,
whatever the order of summation; beyond that we sum in float64, exact to 2⁵³.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Num

from ossia.quantization.grid import Panel, quantize_rows

Linear: TypeAlias = Callable[[Float32[np.ndarray, "rows inputs"]], Float32[np.ndarray, "rows channels"]]
"""A layer: a row of inputs to a row of channels."""

EXACT_IN_FLOAT32: Final = 2**24 // (128 * 127)
"""Inputs up to which every sum of int8 products is exact in float32: 1,032."""


@dataclass(frozen=True)
class Arithmetic:
    """How a runtime multiplies.

    Attributes:
        linear: makes a layer of a panel and a bias, once per adaptation.
        match: the products of a state with rows of the table, one score a row.
        match_vectors: the same with vectors that came beside the candidates.
    """

    linear: Callable[[Panel, Float32[np.ndarray, " channels"]], Linear]
    match: Callable[[Float32[np.ndarray, " dim"], Panel], Float32[np.ndarray, " rows"]]
    match_vectors: Callable[[Float32[np.ndarray, " dim"], Float32[np.ndarray, "rows dim"]], Float32[np.ndarray, " rows"]]


def float_linear(panel: Panel, bias: Float32[np.ndarray, " channels"]) -> Linear:
    """Make a layer of float32 weights: x · Wᵀ + bias.

    Args:
        panel: the folded weights, dequantized here once.
        bias: one number per channel.

    Returns:
        the layer.

    Example:
        >>> panel = Panel(np.array([[2, 1]], np.int8), np.array([0.5], np.float32))
        >>> float_linear(panel, np.array([1.0], np.float32))(np.array([[3.0, 4.0]], np.float32))
        array([[6.]], dtype=float32)
    """
    weight = panel.dequantize().T

    def layer(x: Float32[np.ndarray, "rows inputs"]) -> Float32[np.ndarray, "rows channels"]:
        y: Float32[np.ndarray, "rows channels"] = x @ weight + bias
        return y

    return layer


def integer_linear(panel: Panel, bias: Float32[np.ndarray, " channels"]) -> Linear:
    """Make a layer of integer products: round the rows of x to int8, multiply exactly, scale, add the bias.

    Args:
        panel: the folded weights.
        bias: one number per channel.

    Returns:
        the layer; finite inputs only.

    Example:
        >>> panel = Panel(np.array([[2, 1]], np.int8), np.array([0.5], np.float32))
        >>> integer_linear(panel, np.array([1.0], np.float32))(np.array([[3.0, 4.0]], np.float32))  # 3 becomes 95 · 4/127
        array([[5.992126]], dtype=float32)
    """
    weight = _countable(panel).T

    def layer(x: Float32[np.ndarray, "rows inputs"]) -> Float32[np.ndarray, "rows channels"]:
        rounded = quantize_rows(x)
        sums = (rounded.values.astype(weight.dtype) @ weight).astype(np.float32)
        y: Float32[np.ndarray, "rows channels"] = sums * (rounded.scale[:, None] * panel.scale) + bias
        return y

    return layer


def float_match(state: Float32[np.ndarray, " dim"], rows: Panel) -> Float32[np.ndarray, " rows"]:
    """Score rows by a float32 state: (Σ state · values) · scale.

    Args:
        state: the user state.
        rows: the rows of the candidates.

    Returns:
        one score a row.
    """
    scores: Float32[np.ndarray, " rows"] = _sum_once(state, rows.values) * rows.scale
    return scores


def integer_match(state: Float32[np.ndarray, " dim"], rows: Panel) -> Float32[np.ndarray, " rows"]:
    """Score rows by a state rounded to int8: acc · (s_state · scale).

    Args:
        state: the user state, rounded here.
        rows: the rows of the candidates.

    Returns:
        one score a row.
    """
    rounded = quantize_rows(state[None])
    values = _countable(rows)
    sums = (values @ rounded.values[0].astype(values.dtype)).astype(np.float32)
    scores: Float32[np.ndarray, " rows"] = sums * (rounded.scale[0] * rows.scale)
    return scores


def _sum_once(state: Float32[np.ndarray, " dim"], rows: Num[np.ndarray, "rows dim"]) -> Float32[np.ndarray, " rows"]:
    """Return rows · state, each sum rounded once and so the same wherever its row stands."""
    products: Float32[np.ndarray, " rows"] = (rows.astype(np.float64) @ state.astype(np.float64)).astype(np.float32)
    return products


def _countable(panel: Panel) -> Float[np.ndarray, "channels inputs"]:
    """Return the integers of a panel in the narrowest float type whose sums of int8 products are exact."""
    exact = np.float32 if panel.values.shape[1] <= EXACT_IN_FLOAT32 else np.float64
    return panel.values.astype(exact)


FLOAT: Final = Arithmetic(float_linear, float_match, _sum_once)
INTEGER: Final = Arithmetic(integer_linear, integer_match, lambda state, vectors: integer_match(state, quantize_rows(vectors)))
