import numpy as np
import pytest

from ossia.adaptation import Adaptation, Dense, LowRank, apply
from ossia.quantization.grid import Panel, fold, quantize


def bytes_of(base):
    return [grid.q.tobytes() + grid.scales.tobytes() for grid in (*base.grids.values(), base.table.grid)], {
        name: array.tobytes() for name, array in base.floats.items()
    }


def test_the_identity_is_the_base_itself(base):
    weights = apply(base, Adaptation())
    for name, grid in base.grids.items():
        assert np.array_equal(weights.slots[name].values, grid.q)
        assert np.array_equal(weights.slots[name].scale, grid.scales[2])
    assert weights.held.all() and np.array_equal(weights.rows.values, base.table.grid.q)
    assert all(weights.gates.values())


def test_apply_leaves_the_bases_bytes_alone(base):
    before = bytes_of(base)
    rng = np.random.default_rng(0)
    slot = base.manifest.slots[1]
    delta = Dense(slot.name, rng.standard_normal((slot.channels, slot.inputs)).astype(np.float16))
    codes, rows = rng.integers(0, 4, base.channels).astype(np.uint8), rng.integers(0, 4, len(base.table)).astype(np.uint8)
    apply(base, Adaptation(np.zeros(4, np.uint8), codes, (delta,), rows))
    assert bytes_of(base) == before


def test_a_channel_at_width_zero_is_gone_with_its_bias_and_no_other_is(base):
    codes = np.full(base.channels, 3, np.uint8)
    codes[5] = 0  # channel 5 of the first slot
    weights, name = apply(base, Adaptation(codes=codes)), base.manifest.slots[0].name
    assert not weights.slots[name].values[5].any()
    assert np.flatnonzero(weights.floats[f"{name}.bias"] != base.floats[f"{name}.bias"]).tolist() == [5]
    assert base.floats[f"{name}.bias"][5] != 0


def test_add_comes_before_quantize(base):
    slot = base.manifest.slots[2]
    rng = np.random.default_rng(1)
    delta = LowRank(slot.name, rng.normal(size=(slot.channels, 2)).astype("f2"), rng.normal(size=(2, slot.inputs)).astype("f2"))
    codes = np.full(base.channels, 1, np.uint8)
    folded = apply(base, Adaptation(codes=codes, deltas=(delta,))).slots[slot.name]
    grid = base.grids[slot.name]
    changed = quantize(Panel(grid.q, grid.scales[2]).dequantize() + delta.expand())
    expected = fold(changed, codes[: slot.channels])
    assert np.array_equal(folded.values, expected.values) and np.array_equal(folded.scale, expected.scale)


def test_a_low_rank_delta_is_the_product_of_its_factors():
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(6, 3)).astype("f2"), rng.normal(size=(3, 5)).astype("f2")
    assert LowRank("a", left, right).expand() == pytest.approx(left.astype(float) @ right.astype(float), abs=1e-5)


def test_codes_made_for_a_shorter_table_say_nothing_of_the_new_rows(base):
    weights = apply(base, Adaptation(rows=np.array([3, 0, 1], np.uint8)))
    assert np.flatnonzero(weights.held).tolist() == [0, 2]
    assert not weights.rows.values[3:].any()
