import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ossia.quantization.fake import all_widths, at_width, at_widths
from ossia.quantization.grid import (
    Panel,
    fold,
    join_planes,
    plane_bytes,
    quantize,
    quantize_rows,
    round_half_away,
    slice_bits,
    split_planes,
)
from ossia.types import WIDTHS

FLOATS = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, -0.0, 1e-45, -1e-40, 0.5, 1.5, -2.5])
MATRICES = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=FLOATS)
MASTERS = hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-127, 127))


def test_halves_round_away_from_zero_and_nothing_just_below_a_half_does():
    just_below = np.nextafter(np.float32(0.5), np.float32(0))
    x = np.array([0.5, -0.5, 1.5, 2.5, -2.5, just_below, 8388609.0], np.float32)
    assert round_half_away(x).tolist() == [1, -1, 2, 3, -3, 0, 8388609]


def test_four_bits_have_sixteen_odd_levels_and_two_bits_four():
    every = np.arange(-127, 128, dtype=np.int8)[None]
    assert np.unique(slice_bits(every, 4)).tolist() == [8 * odd for odd in range(-15, 16, 2)]
    assert np.unique(slice_bits(every, 2)).tolist() == [32 * odd for odd in (-3, -1, 1, 3)]


@given(MASTERS)
def test_a_slice_never_leaves_its_cell(q):
    for bits, half in ((4, 8), (2, 32)):
        assert np.abs(slice_bits(q, bits).astype(int) - q).max() <= half


@given(MATRICES, st.randoms(use_true_random=False))
def test_fold_is_the_slice_channel_by_channel_for_any_mix(weight, random):
    grid = quantize(weight)
    codes = np.array([random.randrange(4) for _ in weight], np.uint8)
    panel = fold(grid, codes)
    for channel, code in enumerate(codes):
        if code == 0:
            assert not panel.values[channel].any() and panel.scale[channel] == 0
        else:
            assert np.array_equal(panel.values[channel], slice_bits(grid.q, WIDTHS[code])[channel])
            assert panel.scale[channel] == grid.scales[code - 1, channel]


@given(MATRICES)
def test_torch_fakes_exactly_what_numpy_holds_at_every_width(weight):
    faked = all_widths(torch.from_numpy(weight)).numpy()
    grid = quantize(weight)
    for code in range(4):
        held = fold(grid, np.full(len(weight), code, np.uint8)).dequantize()
        assert np.array_equal(faked[code].view(np.uint32) << 1, held.view(np.uint32) << 1)  # bit for bit, but for the sign of 0


@given(MATRICES, st.randoms(use_true_random=False))
def test_a_mix_of_widths_is_each_channel_at_its_own(weight, random):
    bits = torch.tensor([random.choice(WIDTHS[1:]) for _ in weight])
    for scales in ("free", "exponent"):
        mixed = at_widths(torch.from_numpy(weight), bits, scales)
        for channel, width in enumerate(bits.tolist()):
            assert torch.equal(mixed[channel], at_width(torch.from_numpy(weight[channel : channel + 1]), width, scales)[0])


@given(MATRICES)
def test_shared_exponents_are_powers_of_two_that_just_hold_the_channel(weight):
    weight = weight[np.abs(weight).max(axis=1) > 1e-30]
    for bits, unit in ((8, 1), (2, 32)):  # what a whole step is, in units of the master
        faked = at_width(torch.from_numpy(weight), bits, "exponent").numpy().astype(np.float64)
        step = 2.0 ** np.ceil(np.log2(np.abs(weight).max(axis=1).astype(np.float64) / 127) - 1e-9)[:, None]
        assert np.array_equal(faked / (step * unit), np.round(faked / (step * unit)))
        assert np.abs(faked - weight).max(initial=0.0) <= (step * (0.51 if bits == 8 else 32.51)).max(initial=0.0)


def test_the_gradient_passes_straight_through_the_rounding_and_not_through_nothing():
    weight = torch.randn(3, 5, requires_grad=True)
    for bits in (2, 4, 8):
        (gradient,) = torch.autograd.grad((at_width(weight, bits) * torch.arange(5.0)).sum(), weight)
        assert torch.equal(gradient, torch.arange(5.0).expand(3, 5))
    assert not at_width(weight, 0).requires_grad


@pytest.mark.parametrize(("bits", "decibel"), [(8, -40), (4, -19.9), (2, -8.5)])
def test_slices_of_gaussian_weights_lose_no_more_than_the_stated_noise(bits, decibel):
    weight = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
    faked = fold(quantize(weight), np.full(2000, WIDTHS.index(bits), np.uint8)).dequantize()
    noise = 10 * np.log10(((faked - weight) ** 2).sum() / (weight**2).sum())
    assert noise < decibel


def test_the_scale_of_a_slice_is_the_least_squares_one():
    weight = np.random.default_rng(1).standard_normal((50, 64)).astype(np.float32)
    grid = quantize(weight)
    master = Panel(grid.q, grid.scales[2]).dequantize()
    for code, bits in ((1, 2), (2, 4)):
        t = slice_bits(grid.q, bits).astype(np.float32)
        best = ((master - grid.scales[code - 1][:, None] * t) ** 2).sum()
        for other in (0.99, 1.01):
            assert best < ((master - other * grid.scales[code - 1][:, None] * t) ** 2).sum()


@given(MASTERS)
def test_planes_put_together_give_the_master_and_weigh_what_is_said(q):
    planes = split_planes(q)
    assert np.array_equal(join_planes(planes, q.shape[1]), q)
    for bits in (2, 4, 8):
        held = sum(planes[f"plane{width}"].shape[1] for width in (2, 4, 8) if width <= bits)
        assert held == plane_bytes(q.shape[1], bits)


def test_the_top_planes_alone_give_the_slice():
    q = np.random.default_rng(2).integers(-127, 128, (5, 12)).astype(np.int8)
    planes = split_planes(q)
    for bits, kept in ((2, {"plane2"}), (4, {"plane2", "plane4"})):
        cut = {name: plane if name in kept else np.zeros_like(plane) for name, plane in planes.items()}
        assert np.array_equal(slice_bits(join_planes(cut, 12), bits), slice_bits(q, bits))


def test_a_row_of_zeros_and_a_row_of_denormals_have_a_grid_too():
    panel = quantize_rows(np.array([[0, 0, 0], [1e-45, 0, -1e-45]], np.float32))
    assert not panel.values[0].any() and panel.scale[0] == 0
    assert np.isfinite(panel.dequantize()).all()
