"""Layers: the float one is close to the product, the integer one is exactly what its docstring says."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.device.linear import EXACT_IN_FLOAT32, float_linear, float_match, integer_linear, integer_match
from ossia.quantization.grid import Panel

Match = Callable[[np.ndarray, Panel], np.ndarray]


def random_panel(random: np.random.Generator, channels: int, inputs: int) -> Panel:
    values = random.integers(-127, 128, (channels, inputs)).astype(np.int8)
    return Panel(values, random.uniform(0.001, 0.1, channels).astype(np.float32))


def one_output(x: np.ndarray, values: np.ndarray, scale: np.float32, bias: np.float32) -> np.float32:
    """Follow the module's docstring line by line, in Python's own integers."""
    x_scale = np.abs(x).max() / np.float32(127)
    accumulator = 0
    for number, value in zip(x, values, strict=True):
        quotient = float(number / x_scale) if x_scale > 0 else 0.0
        whole = int(abs(quotient))
        rounded = whole + (abs(quotient) - whole >= 0.5)
        accumulator += (rounded if quotient > 0 else -rounded) * int(value)
    return np.float32(np.float32(np.float32(accumulator) * np.float32(x_scale * scale)) + bias)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 4), inputs=st.integers(1, 40), channels=st.integers(1, 5))
def test_an_integer_layer_is_its_docstring_to_the_last_bit(seed: int, rows: int, inputs: int, channels: int) -> None:
    random = np.random.default_rng(seed)
    panel, bias = random_panel(random, channels, inputs), random.normal(size=channels).astype(np.float32)
    x = (random.normal(size=(rows, inputs)) * random.integers(0, 2, (rows, 1))).astype(np.float32)  # some rows are zeros
    expected = [[one_output(row, panel.values[c], panel.scale[c], bias[c]) for c in range(channels)] for row in x]
    assert integer_linear(panel, bias)(x).tobytes() == np.array(expected, np.float32).tobytes()


@pytest.mark.parametrize("inputs", [1, 64, 1032, 1033, 1100, 5000, 20_000])
@pytest.mark.parametrize("worst", [-128, 127])
def test_sums_are_exact_however_many_inputs_there_are(inputs: int, worst: int) -> None:
    random = np.random.default_rng(inputs)
    values = (np.sign(worst) * random.integers(100, abs(worst) + 1, (200, inputs))).astype(np.int8)  # all pull one way
    x = random.integers(100, 128, (1, inputs)).astype(np.float32)
    x[0, 0] = 127  # so that the scale is 1 and x is its own rounding
    y = integer_linear(Panel(values, np.ones(200, np.float32)), np.zeros(200, np.float32))(x)
    exact = values.astype(np.int64) @ x[0].astype(np.int64)
    assert (y[0] == exact.astype(np.float32)).all()


def test_no_sum_of_int8_products_leaves_the_whole_numbers_of_float32() -> None:
    assert EXACT_IN_FLOAT32 * 128 * 127 < 2**24 <= (EXACT_IN_FLOAT32 + 1) * 128 * 127


def test_a_row_of_an_integer_layer_does_not_depend_on_its_neighbors() -> None:
    random = np.random.default_rng(3)
    layer = integer_linear(random_panel(random, 7, 33), np.zeros(7, np.float32))
    x = random.normal(size=(5, 33)).astype(np.float32)
    assert all((layer(x)[row] == layer(x[row : row + 1])[0]).all() for row in range(5))


def test_a_row_of_zeros_gives_the_bias() -> None:
    random = np.random.default_rng(4)
    panel, bias = random_panel(random, 6, 9), random.normal(size=6).astype(np.float32)
    for make in (float_linear, integer_linear):
        assert (make(panel, bias)(np.zeros((2, 9), np.float32)) == bias).all()


def test_rounding_activations_moves_an_output_by_half_a_step_per_input_at_most() -> None:
    random = np.random.default_rng(5)
    panel, bias = random_panel(random, 8, 64), np.zeros(8, np.float32)
    x = random.normal(size=(20, 64)).astype(np.float32)
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    bound = step / 2 * np.abs(panel.dequantize()).sum(axis=1)
    moved = np.abs(integer_linear(panel, bias)(x) - float_linear(panel, bias)(x))
    assert (moved <= bound * 1.001).all()
    assert moved.max() > 0


def test_a_dropped_channel_gives_zero_in_both_arithmetics() -> None:
    panel = Panel(np.array([[0, 0], [5, -3]], np.int8), np.array([0, 0.5], np.float32))
    for make in (float_linear, integer_linear):
        y = make(panel, np.zeros(2, np.float32))(np.array([[1.0, 2.0]], np.float32))
        assert y[0, 0] == 0
        assert y[0, 1] != 0


@given(seed=st.integers(0, 2**32 - 1), dim=st.integers(1, 40))
def test_matching_rows_is_a_layer_without_bias(seed: int, dim: int) -> None:
    random = np.random.default_rng(seed)
    rows, state = random_panel(random, 6, dim), random.normal(size=dim).astype(np.float32)
    layer = integer_linear(rows, np.zeros(6, np.float32))(state[None])[0]
    assert (integer_match(state, rows) == layer).all()
    terms = rows.dequantize().astype(np.float64) * state
    error = np.abs(float_match(state, rows) - terms.sum(axis=1))
    assert (error <= 1e-6 * np.abs(terms).sum(axis=1)).all()


@pytest.mark.parametrize("match", [float_match, integer_match])
@pytest.mark.parametrize("rows", [2, 5, 37])
def test_a_row_scores_alike_wherever_it_stands(match: Match, rows: int) -> None:
    random = np.random.default_rng(0)
    panel, state = random_panel(random, rows, 50), random.normal(size=50).astype(np.float32)
    for order in (random.permutation(rows) for _ in range(20)):
        assert (match(state, Panel(panel.values[order], panel.scale[order])) == match(state, panel)[order]).all()
