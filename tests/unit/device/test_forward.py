"""The numpy forward: against a slow one written from its docstring, and the laws of a history."""

from collections.abc import Callable
from dataclasses import replace
from math import exp, fsum, prod, sqrt, tanh

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.adaptation import Adaptation, Base, Weights, apply
from ossia.device.forward import usable_history, user_state
from ossia.device.linear import FLOAT, INTEGER, Arithmetic
from ossia.device.sasrec import sasrec
from ossia.quantization.grid import Panel, quantize_rows
from ossia.types import ABSENT

REFERENCE = {
    "sasrec": {"items": 300, "dim": 64, "length": 50, "hidden": 256},
    "sasrec with valves": {"items": 300, "dim": 64, "length": 50, "hidden": 64},
}
BOTH = pytest.mark.parametrize("arithmetic", [FLOAT, INTEGER], ids=["float", "integer"])


@pytest.fixture(scope="module", params=REFERENCE)
def small(request: pytest.FixtureRequest, base_of: Callable[..., Base]) -> Base:
    """A tiny SASRec of either kind of blocks."""
    return base_of(request.param)


@pytest.fixture(scope="module", params=REFERENCE)
def large(request: pytest.FixtureRequest, base_of: Callable[..., Base]) -> Base:
    """One of the size that is used."""
    return base_of(request.param, **REFERENCE[request.param])


def adapted(base: Base, seed: int, gates: list[int] | None = None) -> Weights:
    """Fold random codes and rows into a base, with these gates or random ones."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, 2, len(base.manifest.gates)) if gates is None else np.array(gates)
    codes, rows = random.integers(0, 4, base.channels), random.integers(0, 4, len(base.table))
    return apply(base, Adaptation(drawn.astype(np.uint8), codes.astype(np.uint8), rows=rows.astype(np.uint8)))


# A second engine, written from the docstring of sasrec.py: every position of every block, Python sums, nothing saved.


def slow_norm(row: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    values = [float(x) for x in row]
    mean = fsum(values) / len(values)
    variance = fsum((x - mean) ** 2 for x in values) / len(values)
    normal = [(x - mean) / sqrt(variance + 1e-5) * float(w) + float(b) for x, w, b in zip(values, weight, bias, strict=True)]
    return np.array(normal, np.float32)


def slow_attention(query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int) -> np.ndarray:
    part = query.shape[1] // heads
    mixed = np.zeros_like(query)
    for event in range(len(query)):
        for channel in range(query.shape[1]):
            own = range(channel // part * part, channel // part * part + part)
            dots = [fsum(float(query[event, c]) * float(key[past, c]) for c in own) / sqrt(part) for past in range(event + 1)]
            shares = [exp(dot - max(dots)) for dot in dots]
            mixed[event, channel] = fsum(s * float(value[past, channel]) for past, s in enumerate(shares)) / fsum(shares)
    return mixed


def slow_linear(x: np.ndarray, panel: Panel, bias: np.ndarray) -> np.ndarray:
    rounded = quantize_rows(x)
    sums = (rounded.values.astype(np.int64) @ panel.values.astype(np.int64).T).astype(np.float32)
    return sums * (rounded.scale[:, None] * panel.scale) + bias


def slow_product(opened: np.ndarray, *factors: np.ndarray) -> np.ndarray:
    """σ(opened) times the factors, one float32 number each."""
    product = np.zeros_like(opened)
    for place, x in np.ndenumerate(opened):
        product[place] = (0.5 + 0.5 * tanh(float(x) / 2)) * prod(float(factor[place]) for factor in factors)
    return product


def slow_state(weights: Weights, items: np.ndarray) -> np.ndarray:
    def norm(name: str, h: np.ndarray) -> np.ndarray:
        return np.stack([slow_norm(row, weights.floats[f"{name}.weight"], weights.floats[f"{name}.bias"]) for row in h])

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        return slow_linear(x, weights.slots[name], weights.floats[f"{name}.bias"])

    valves = "valves" in weights.shape
    h = weights.history_rows.dequantize()[items] + weights.floats["positions.weight"][: len(items)][::-1]
    for index in range(weights.shape["blocks"]):
        block = f"blocks.{index}"
        if weights.gates[f"{block}.attention"]:
            n = norm(f"{block}.attention_norm", h)
            query, key, value = (layer(f"{block}.{part}", n) for part in ("query", "key", "value"))
            output = layer(f"{block}.output", slow_attention(query, key, value, weights.shape["heads"]))
            h = h + (slow_product(layer(f"{block}.attention_valve", h), output) if valves else output)
        if weights.gates[f"{block}.feed_forward"]:
            n = norm(f"{block}.feed_forward_norm", h)
            inner = layer(f"{block}.expand", n)
            inner = slow_product(inner, layer(f"{block}.up", n), inner) if valves else np.maximum(inner, 0)
            contract = layer(f"{block}.contract", inner)
            h = h + (slow_product(layer(f"{block}.feed_forward_valve", h), contract) if valves else contract)
    return norm("norm", h)[-1]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), events=st.integers(1, 6))
def test_an_engine_written_from_the_docstring_gets_the_same_bits(small: Base, seed: int, events: int) -> None:
    weights = adapted(small, seed)
    items = np.random.default_rng(seed).integers(0, len(small.table), events)
    assert user_state(weights, items, INTEGER).tobytes() == slow_state(weights, items).tobytes()


def full_state(weights: Weights, items: np.ndarray) -> np.ndarray:
    """Compute SASRec's state in float64, all positions of all blocks."""

    def norm(name: str, h: np.ndarray) -> np.ndarray:
        centered = h - h.mean(axis=1, keepdims=True)
        scaled = centered / np.sqrt(centered.var(axis=1, keepdims=True) + 1e-5)
        return scaled * weights.floats[f"{name}.weight"] + weights.floats[f"{name}.bias"]

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        return x @ weights.slots[name].dequantize().T.astype(np.float64) + weights.floats[f"{name}.bias"]

    heads, valves = weights.shape["heads"], "valves" in weights.shape
    h = weights.history_rows.dequantize()[items].astype(np.float64)
    h = h + weights.floats["positions.weight"][: len(items)][::-1]
    for block in (f"blocks.{index}" for index in range(weights.shape["blocks"])):
        n = norm(f"{block}.attention_norm", h)
        query, key, value = (np.split(layer(f"{block}.{part}", n), heads, axis=1) for part in ("query", "key", "value"))
        mixed = []
        for q, k, v in zip(query, key, value, strict=True):
            share = np.exp(q @ k.T / sqrt(q.shape[1])) * np.tri(len(items))
            mixed.append(share / share.sum(axis=1, keepdims=True) @ v)
        opening = 1 / (1 + np.exp(-layer(f"{block}.attention_valve", h))) if valves else 1.0
        h = h + weights.gates[f"{block}.attention"] * opening * layer(f"{block}.output", np.hstack(mixed))
        n = norm(f"{block}.feed_forward_norm", h)
        inner = layer(f"{block}.expand", n)
        inner = inner / (1 + np.exp(-inner)) * layer(f"{block}.up", n) if valves else np.maximum(inner, 0)
        opening = 1 / (1 + np.exp(-layer(f"{block}.feed_forward_valve", h))) if valves else 1.0
        h = h + weights.gates[f"{block}.feed_forward"] * opening * layer(f"{block}.contract", inner)
    return norm("norm", h)[-1]


@pytest.mark.parametrize("gates", [f"{number:04b}" for number in range(16)])
def test_leaving_out_what_nobody_reads_changes_nothing_whatever_the_gates(large: Base, gates: str) -> None:
    weights = adapted(large, int(gates, 2), [int(gate) for gate in gates])
    for events in (1, 2, 17, 50):
        items = np.random.default_rng(events).integers(0, len(large.table), events)
        expected = full_state(weights, items)
        assert np.abs(user_state(weights, items) - expected).max() <= 2e-6 * np.abs(expected).max()


def test_int8_activations_stay_near_the_float_state(large: Base) -> None:
    weights = apply(large, Adaptation())
    distances = []
    for seed in range(8):
        items = np.random.default_rng(seed).integers(0, len(large.table), 50)
        exact, rounded = user_state(weights, items), user_state(weights, items, INTEGER)
        distances.append(np.linalg.norm(exact - rounded) / np.linalg.norm(exact))
    assert 1e-4 < np.mean(distances) < 0.02


@BOTH
def test_a_history_is_read_from_its_newest_end(base: Base, arithmetic: Arithmetic) -> None:
    weights, length = adapted(base, 1, [1, 0, 0, 1]), base.manifest.shape["length"]
    history = np.random.default_rng(0).integers(0, len(base.table), 5 * length + 1)
    whole, newest = user_state(weights, history, arithmetic), user_state(weights, history[-length:], arithmetic)
    assert (whole == newest).all()
    shorter = user_state(weights, history[-length + 1 :], arithmetic)
    assert (whole != shorter).any()


@BOTH
def test_unknown_items_leave_no_trace_and_take_no_place(base: Base, arithmetic: Arithmetic) -> None:
    weights, items, length = adapted(base, 1), len(base.table), base.manifest.shape["length"]
    known = np.random.default_rng(5).integers(0, items, length)
    strewn = np.insert(known, [0, 2, 2, length], [ABSENT, items, 2**31 - 1, -(2**31)])
    assert (user_state(weights, strewn, arithmetic) == user_state(weights, known, arithmetic)).all()


@BOTH
@pytest.mark.parametrize("history", [[], [ABSENT], [ABSENT, 10**9, -7]], ids=str)
def test_a_history_of_nothing_known_is_a_state_of_zeros(base: Base, arithmetic: Arithmetic, history: list[int]) -> None:
    state = user_state(apply(base, Adaptation()), np.array(history, np.int64), arithmetic)
    assert state.tolist() == [0.0] * base.manifest.shape["dim"]


@BOTH
def test_one_event_is_a_history(base: Base, arithmetic: Arithmetic) -> None:
    weights = adapted(base, 2, [1, 1, 1, 1])
    states = [user_state(weights, np.array([item]), arithmetic) for item in range(10)]
    assert np.isfinite(states).all()
    assert len({state.tobytes() for state in states}) == 10


@BOTH
def test_with_all_blocks_skipped_only_the_newest_item_speaks(base: Base, arithmetic: Arithmetic) -> None:
    weights = adapted(base, 3, [0, 0, 0, 0])
    for history in ([7], [1, 2, 7], [7, 7, 7, 7]):
        newest = weights.history_rows.dequantize()[7] + weights.floats["positions.weight"][0]
        expected = slow_norm(newest, weights.floats["norm.weight"], weights.floats["norm.bias"])
        assert (user_state(weights, np.array(history), arithmetic) == expected).all()


@BOTH
def test_repeats_count_and_order_counts(base: Base, arithmetic: Arithmetic) -> None:
    weights = apply(base, Adaptation())
    states = [user_state(weights, np.array(history), arithmetic) for history in ([1, 2, 3], [2, 1, 3], [1, 1, 2, 3], [1, 3])]
    assert len({state.tobytes() for state in states}) == 4


@BOTH
def test_a_skipped_block_costs_no_layer_and_gives_what_zero_weights_give(base: Base, arithmetic: Arithmetic) -> None:
    items = np.array([4, 9, 30, 9])
    weights = adapted(base, 4, [1, 0, 0, 1])
    made: list[int] = []

    def linear(panel: Panel, bias: np.ndarray) -> object:
        made.append(len(bias))
        return arithmetic.linear(panel, bias)

    sasrec(weights, replace(arithmetic, linear=linear))
    assert made == [8 + 8 + 8, 8, 16, 8]  # query, key and value as one; output; expand; contract
    off = {
        name for name in weights.slots if name in ("blocks.0.expand", "blocks.0.contract") or name.startswith("blocks.1.out")
    }
    empty = {name: Panel(np.zeros_like(panel.values), np.zeros_like(panel.scale)) for name, panel in weights.slots.items()}
    slots = {name: empty[name] if name in off else panel for name, panel in weights.slots.items()}
    floats = {name: array * (name.removesuffix(".bias") not in off) for name, array in weights.floats.items()}
    silent = replace(weights, slots=slots, floats=floats, gates=dict.fromkeys(weights.gates, True))
    assert (user_state(silent, items, arithmetic) == user_state(weights, items, arithmetic)).all()


def test_a_skipped_branch_takes_its_valve_with_it(base_of: Callable[..., Base]) -> None:
    made: list[tuple[int, int]] = []

    def linear(panel: Panel, bias: np.ndarray) -> object:
        made.append(panel.values.shape)
        return FLOAT.linear(panel, bias)

    sasrec(adapted(base_of("sasrec with valves"), 4, [1, 0, 0, 1]), replace(FLOAT, linear=linear))
    assert sorted(made) == sorted([(24, 8), (8, 8), (8, 8), (32, 8), (8, 8), (8, 16)])  # expand and up are one layer


@given(history=st.lists(st.integers(-(2**40), 2**40) | st.integers(-2, 12), max_size=30), length=st.integers(1, 9))
def test_a_usable_history_is_the_newest_of_the_known(history: list[int], length: int) -> None:
    known = [item for item in history if 0 <= item < 10]
    assert usable_history(np.array(history, np.int64), 10, length).tolist() == known[-length:]
