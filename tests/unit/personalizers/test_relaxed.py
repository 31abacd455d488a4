"""Thresholds that meet a budget, and the mixed forward: both are twins of what the device and the allocator do exactly."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.adaptation import Adaptation, Base, apply
from ossia.backbones.published import from_weights
from ossia.personalizers.relaxed import (
    relaxed_slot,
    step_bits,
    steps_to_codes,
    straight_through,
    weights_at,
    within_budget,
)
from ossia.types import WIDTHS, Slot

SLOTS = (Slot("a", 5, 8), Slot("b", 3, 16))
ALPHABETS = [(2, 4, 8), (0, 2, 4, 8), (2, 8), (0, 8)]


def values(users: int, steps: int, seed: int) -> torch.Tensor:
    """Draw values that fall along the steps of each channel."""
    draws = torch.rand(users, steps, 8, generator=torch.Generator().manual_seed(seed)) * 0.98 + 0.01
    return draws.cumprod(dim=1)


@given(alphabet=st.sampled_from(ALPHABETS), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_no_user_spends_more_than_the_budget_and_the_next_step_would_not_fit(
    alphabet: tuple[int, ...], share: float, seed: int
) -> None:
    bits = step_bits(SLOTS, alphabet)
    value = values(3, len(bits), seed)
    spend = torch.full((3,), share * float(bits.sum()))
    taken, threshold = within_budget(value, bits, spend)
    spent = (taken * bits).sum(dim=(1, 2))
    assert (spent <= spend).all()
    for user in range(3):
        left = ~taken[user]
        if left.any():
            best = value[user].masked_fill(taken[user], -1).argmax()
            assert spent[user] + bits.flatten()[best] > spend[user]
            assert threshold[user] >= value[user][left].max() or not taken[user].any()
        if taken[user].any():
            assert threshold[user] <= value[user][taken[user]].min() or not left.any()


@given(alphabet=st.sampled_from(ALPHABETS), seed=st.integers(0, 1000))
def test_steps_are_nested_when_later_ones_are_worth_less(alphabet: tuple[int, ...], seed: int) -> None:
    bits = step_bits(SLOTS, alphabet)
    taken, _ = within_budget(values(4, len(bits), seed), bits, torch.full((4,), 0.4 * float(bits.sum())))
    for lower, upper in pairwise(range(len(bits))):
        assert (taken[:, lower] >= taken[:, upper]).all()


def test_masks_are_exactly_zero_or_one_and_carry_the_gradient_of_a_sigmoid() -> None:
    bits = step_bits(SLOTS, (2, 4, 8))
    value = values(2, 2, seed=0).requires_grad_()
    masks = straight_through(value, bits, torch.full((2,), 0.5 * float(bits.sum())), temperature=0.5)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    masks.sum().backward()
    _, threshold = within_budget(value.detach(), bits, torch.full((2,), 0.5 * float(bits.sum())))
    soft = torch.sigmoid((value.detach().log() - threshold.log()[:, None, None]) / 0.5)
    torch.testing.assert_close(value.grad, soft * (1 - soft) / 0.5 / value.detach())


def test_as_temperature_falls_the_soft_masks_become_the_hard_ones() -> None:
    bits, value = step_bits(SLOTS, (2, 4, 8)), values(50, 2, seed=3)
    hard, threshold = within_budget(value, bits, torch.full((50,), 0.5 * float(bits.sum())))
    gaps = []
    for temperature in (1.0, 0.1, 1e-4):
        soft = torch.sigmoid((value.log() - threshold.log()[:, None, None]) / temperature)
        gaps.append(float((soft - hard.float()).abs().mean()))
    assert gaps[0] > 2 * gaps[1] > 20 * gaps[2]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_budget_for_nothing_or_for_everything_leaves_finite_gradients(share: float) -> None:
    bits = step_bits(SLOTS, (2, 4, 8))
    value = values(2, 2, seed=0).requires_grad_()
    masks = straight_through(value, bits, torch.full((2,), share * float(bits.sum())), temperature=0.1)
    assert (masks == share).all()
    masks.sum().backward()
    assert torch.isfinite(value.grad).all()


def random_codes(base: Base, users: int, alphabet: tuple[int, ...], seed: int) -> np.ndarray:
    named = [WIDTHS.index(bits) for bits in alphabet]
    return np.random.default_rng(seed).choice(np.array(named, np.uint8), (users, base.channels))


def steps_of(codes: np.ndarray, alphabet: tuple[int, ...]) -> torch.Tensor:
    named = [WIDTHS.index(bits) for bits in alphabet]
    return torch.from_numpy(np.stack([codes >= code for code in named[1:]], axis=1).astype(np.float32))


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_a_batch_of_mixed_widths_equals_each_users_folded_base(base: Base, alphabet: tuple[int, ...]) -> None:
    codes = random_codes(base, 5, alphabet, seed=1)
    histories = torch.from_numpy(np.random.default_rng(2).integers(0, 40, (5, 6)))
    slot = relaxed_slot(weights_at(base, alphabet), steps_of(codes, alphabet))
    with torch.no_grad():
        mixed = from_weights(apply(base, Adaptation()))(histories, slot=slot)
        for user in range(5):
            alone = from_weights(apply(base, Adaptation(codes=codes[user])))(histories[user : user + 1])
            torch.testing.assert_close(mixed[user : user + 1], alone, rtol=0, atol=1e-5 * float(alone.abs().max()))


@settings(max_examples=20)
@given(alphabet=st.sampled_from(ALPHABETS), seed=st.integers(0, 1000))
def test_steps_name_the_codes_that_they_were_made_from(base: Base, alphabet: tuple[int, ...], seed: int) -> None:
    codes = random_codes(base, 3, alphabet, seed)
    named = [WIDTHS.index(bits) for bits in alphabet]
    assert np.array_equal(steps_to_codes(steps_of(codes, alphabet), named).numpy(), codes)


def test_weights_at_a_width_are_those_that_the_device_folds(base: Base) -> None:
    weights = weights_at(base, (0, 2, 4, 8))
    for place, code in enumerate((1, 2, 3)):
        folded = apply(base, Adaptation(codes=np.full(base.channels, code, np.uint8))).slots
        for name in weights:
            assert np.array_equal(weights[name][place].numpy(), folded[name].dequantize())
