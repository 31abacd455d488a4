"""Caser on a device: against a slow one written from its docstring, and what gates leave out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, Weights, apply
from ossia.device.caser import caser
from ossia.device.forward import user_state
from ossia.device.layers import take_norm
from ossia.device.linear import FLOAT, INTEGER, Arithmetic
from ossia.quantization.grid import Panel, quantize_rows

BOTH = pytest.mark.parametrize("arithmetic", [FLOAT, INTEGER], ids=["float", "integer"])


@pytest.fixture(scope="module")
def image(base_of: Callable[..., Base]) -> Base:
    return base_of("caser")


def adapted(base: Base, seed: int, gates: list[int] | None = None) -> Weights:
    random = np.random.default_rng(seed)
    drawn = random.integers(0, 2, len(base.manifest.gates)) if gates is None else np.array(gates)
    return apply(base, Adaptation(drawn.astype(np.uint8), random.integers(0, 4, base.channels).astype(np.uint8)))


def slow_layer(weights: Weights, name: str, row: np.ndarray) -> np.ndarray:
    panel, rounded = weights.slots[name], quantize_rows(row[None])
    sums = (rounded.values.astype(np.int64) @ panel.values.astype(np.int64).T).astype(np.float32)
    return (sums * (rounded.scale[:, None] * panel.scale) + weights.floats[f"{name}.bias"])[0]


def slow_state(weights: Weights, items: np.ndarray) -> np.ndarray:
    """One place after the other, rows first filled up with zeros."""
    length, dim = weights.shape["length"], weights.shape["dim"]
    rows = [np.zeros(dim, np.float32)] * (length - len(items)) + list(weights.history_rows.dequantize()[items])
    said = []
    for feature in range(dim):
        column = np.array([row[feature] for row in rows])
        said += list(slow_layer(weights, "vertical", column) * weights.gates["vertical"])
    for height in range(1, length + 1):
        name, largest = f"horizontal.{height}", np.zeros(weights.shape["horizontal"], np.float32)
        for start in range(length - height + 1):
            largest = np.maximum(largest, slow_layer(weights, name, np.concatenate(rows[start : start + height])))
        said += list(largest * weights.gates[name])
    combined = slow_layer(weights, "combine", np.array(said, np.float32))
    return take_norm(weights, "norm")((rows[-1] + combined)[None])[0]


def test_an_engine_written_from_the_docstring_gets_the_same_bits(image: Base) -> None:
    for seed in range(12):
        weights, items = adapted(image, seed), np.random.default_rng(seed).integers(0, len(image.table), 1 + seed % 4)
        assert user_state(weights, items, INTEGER).tobytes() == slow_state(weights, items).tobytes()


@BOTH
def test_a_skipped_branch_is_never_made_and_gives_zeros(image: Base, arithmetic: Arithmetic) -> None:
    made: list[int] = []

    def linear(panel: Panel, bias: np.ndarray) -> object:
        made.append(panel.values.shape[1])
        return arithmetic.linear(panel, bias)

    weights, items = adapted(image, 0, [0, 1, 0, 0, 1]), np.array([4, 9, 30])
    caser(weights, replace(arithmetic, linear=linear))
    assert made == [8, 32, 3 * 8 + 4 * 5]  # heights 1 and 4, combine
    off = [name for name, runs in weights.gates.items() if not runs]
    empty = {name: Panel(np.zeros_like(panel.values), np.zeros_like(panel.scale)) for name, panel in weights.slots.items()}
    slots = {name: empty[name] if name in off else panel for name, panel in weights.slots.items()}
    floats = {name: array * (name.removesuffix(".bias") not in off) for name, array in weights.floats.items()}
    silent = replace(weights, slots=slots, floats=floats, gates=dict.fromkeys(weights.gates, True))
    assert (user_state(silent, items, arithmetic) == user_state(weights, items, arithmetic)).all()


@BOTH
def test_what_lies_further_back_than_it_reads_is_not_seen(image: Base, arithmetic: Arithmetic) -> None:
    weights = apply(image, Adaptation())
    long, cut = (user_state(weights, np.array(history), arithmetic) for history in ([8, 9, 1, 2, 3, 4], [1, 2, 3, 4]))
    assert (long == cut).all()
    assert (cut != user_state(weights, np.array([9, 2, 3, 4]), arithmetic)).any()


def test_int8_activations_stay_near_the_float_state(base_of: Callable[..., Base]) -> None:
    base = base_of("caser", items=300, dim=64, length=5, vertical=4, horizontal=16)
    weights, distances = apply(base, Adaptation()), []
    for seed in range(8):
        items = np.random.default_rng(seed).integers(0, 300, 5)
        exact, rounded = user_state(weights, items), user_state(weights, items, INTEGER)
        distances.append(np.linalg.norm(exact - rounded) / np.linalg.norm(exact))
    assert 1e-5 < np.mean(distances) < 0.02
