"""GRU4Rec on a device: against a slow one written from its docstring, and what gates leave out."""

from collections.abc import Callable
from dataclasses import replace
from math import tanh

import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, Weights, apply
from ossia.device.forward import user_state
from ossia.device.gru4rec import gru4rec, sigmoid
from ossia.device.layers import take_norm
from ossia.device.linear import FLOAT, INTEGER, Arithmetic
from ossia.quantization.grid import Panel, quantize_rows

BOTH = pytest.mark.parametrize("arithmetic", [FLOAT, INTEGER], ids=["float", "integer"])


@pytest.fixture(scope="module")
def recurrent(base_of: Callable[..., Base]) -> Base:
    return base_of("gru4rec")


def adapted(base: Base, gates: list[int], seed: int = 0) -> Weights:
    codes = np.random.default_rng(seed).integers(0, 4, base.channels).astype(np.uint8)
    return apply(base, Adaptation(np.array(gates, np.uint8), codes))


def slow_layer(weights: Weights, name: str, row: np.ndarray) -> np.ndarray:
    panel, rounded = weights.slots[name], quantize_rows(row[None])
    sums = (rounded.values.astype(np.int64) @ panel.values.astype(np.int64).T).astype(np.float32)
    return (sums * (rounded.scale[:, None] * panel.scale) + weights.floats[f"{name}.bias"])[0]


def slow_state(weights: Weights, items: np.ndarray) -> np.ndarray:
    """Every memory of every layer, number by number, integers for layers."""

    def logistic(x: float) -> float:
        return 0.5 + 0.5 * tanh(0.5 * x)

    h, width = weights.history_rows.dequantize()[items], weights.shape["hidden"]
    for name in (f"layers.{index}" for index in range(weights.shape["layers"])):
        if not weights.gates[name]:
            continue
        memory, added = np.zeros(width, np.float32), []
        for row in take_norm(weights, f"{name}.norm")(h):
            a, b = slow_layer(weights, f"{name}.input", row), slow_layer(weights, f"{name}.hidden", memory)
            after = np.zeros(width, np.float32)
            for unit in range(width):
                (ar, az, an), (br, bz, bn) = ([float(x[gate * width + unit]) for gate in range(3)] for x in (a, b))
                z, n = logistic(az + bz), tanh(an + logistic(ar + br) * bn)
                after[unit] = (1 - z) * n + z * float(memory[unit])
            memory = after
            added.append(slow_layer(weights, f"{name}.output", memory))
        h = h + np.stack(added)
    return take_norm(weights, "norm")(h)[-1]


@pytest.mark.parametrize("gates", [[1, 1], [0, 1], [1, 0], [0, 0]], ids=str)
def test_an_engine_written_from_the_docstring_gets_the_same_bits(recurrent: Base, gates: list[int]) -> None:
    for seed in range(8):
        weights = adapted(recurrent, gates, seed)
        items = np.random.default_rng(seed).integers(0, len(recurrent.table), 1 + seed % 6)
        assert user_state(weights, items, INTEGER).tobytes() == slow_state(weights, items).tobytes()


@BOTH
def test_a_skipped_layer_is_never_made_and_passes_its_input_on(recurrent: Base, arithmetic: Arithmetic) -> None:
    made: list[int] = []

    def linear(panel: Panel, bias: np.ndarray) -> object:
        made.append(len(bias))
        return arithmetic.linear(panel, bias)

    weights = adapted(recurrent, [0, 1])
    gru4rec(weights, replace(arithmetic, linear=linear))
    assert made == [36, 36, 8]
    silent = adapted(recurrent, [0, 0])
    newest = take_norm(silent, "norm")(silent.history_rows.dequantize()[[7]])[0]
    assert (user_state(silent, np.array([3, 1, 7]), arithmetic) == newest).all()


@BOTH
def test_a_skipped_layer_gives_what_a_silent_output_gives(recurrent: Base, arithmetic: Arithmetic) -> None:
    items, weights = np.array([4, 9, 30, 9]), adapted(recurrent, [1, 0])
    name = "layers.1.output"
    empty = Panel(np.zeros_like(weights.slots[name].values), np.zeros_like(weights.slots[name].scale))
    floats = {**weights.floats, f"{name}.bias": np.zeros_like(weights.floats[f"{name}.bias"])}
    running = replace(weights, slots={**weights.slots, name: empty}, floats=floats, gates=dict.fromkeys(weights.gates, True))
    distance = np.abs(user_state(running, items, arithmetic) - user_state(weights, items, arithmetic)).max()
    assert distance <= (1e-6 if arithmetic is FLOAT else 0)  # BLAS sums one row in another order than four


def test_int8_activations_stay_near_the_float_state_over_fifty_events(base_of: Callable[..., Base]) -> None:
    base = base_of("gru4rec", items=300, dim=64, length=50, hidden=128)
    weights, distances = apply(base, Adaptation()), []
    for seed in range(4):
        items = np.random.default_rng(seed).integers(0, 300, 50)
        exact, rounded = user_state(weights, items), user_state(weights, items, INTEGER)
        distances.append(np.linalg.norm(exact - rounded) / np.linalg.norm(exact))
    assert 1e-5 < np.mean(distances) < 0.02


def test_the_logistic_function_is_right_and_never_overflows() -> None:
    x = np.array([-1e6, -800.0, -2.0, 0.0, 2.0, 1e6])
    with np.errstate(all="raise"):
        assert sigmoid(x)[[0, 1, 3, 5]].tolist() == [0.0, 0.0, 0.5, 1.0]
    assert sigmoid(x)[4] == pytest.approx(1 / (1 + np.exp(-2.0)), rel=1e-15)
