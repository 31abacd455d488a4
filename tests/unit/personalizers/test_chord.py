"""CHORD's three levels, checked against the formula written out, and its relaxed masks against the exact allocator."""

import numpy as np
import pytest
import torch

from ossia.adaptation import Base, Importance, allocate
from ossia.adaptation.allocate_codes import GAIN
from ossia.adaptation.prices import fixed_weight
from ossia.errors import UsageError
from ossia.personalizers.chord import Chord
from ossia.personalizers.relaxed import steps_to_codes, weights_at
from ossia.types import WIDTHS, Budget

LEVELS = {"filter_level": True, "element_level": True, "layer_level": True}


def make_chord(base: Base, alphabet: tuple[int, ...] = (2, 4, 8), *, seed: int = 0, **levels: bool) -> Chord:
    """Make a Chord whose heads are no longer at their start."""
    torch.manual_seed(seed)
    weights = {name: stacked[-1] for name, stacked in weights_at(base, alphabet).items()}
    gains = {bits: GAIN[WIDTHS.index(bits)] for bits in alphabet}
    chord = Chord(base.manifest.slots, weights, base.manifest.shape["dim"], gains=gains, hidden=16, **levels)
    for parameter in chord.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return chord


def draw_profiles(base: Base, users: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(users, base.manifest.shape["dim"], generator=torch.Generator().manual_seed(seed))


def test_importance_is_the_papers_formula_written_out(base: Base) -> None:
    chord = make_chord(base)
    profile = draw_profiles(base, 1)
    trunk = chord.trunk(profile)[0]
    softplus = torch.nn.functional.softplus
    f, g = softplus(chord.filter(trunk)), softplus(chord.layer(trunk))
    a, b = softplus(chord.element_out(trunk)), softplus(chord.element_in(trunk))
    expected, channel, inputs = [], 0, 0
    for layer, slot in enumerate(base.manifest.slots):
        weight = weights_at(base, (8,))[slot.name][0]
        for c in range(slot.channels):
            element = a[channel] * b[inputs : inputs + slot.inputs]
            expected.append(g[layer] * f[channel] * (element * weight[c]).abs().mean())
            channel += 1
        inputs += slot.inputs
    plain = torch.stack(expected)
    torch.testing.assert_close(chord.importance(profile)[0], plain / plain.mean(), rtol=1e-4, atol=1e-5)


def test_importance_is_positive_with_mean_one_and_each_users_own(base: Base) -> None:
    importance = make_chord(base).importance(draw_profiles(base, 7))
    assert (importance > 0).all()
    torch.testing.assert_close(importance.mean(dim=1), torch.ones(7), rtol=1e-4, atol=1e-4)
    assert (importance[0] != importance[1]).any()


def test_before_training_importance_is_the_magnitude_of_the_weights(base: Base) -> None:
    weights = {name: stacked[-1] for name, stacked in weights_at(base, (8,)).items()}
    chord = Chord(base.manifest.slots, weights, 8, gains={2: 0.85, 8: 1.0})
    magnitude = torch.cat([weight.abs().mean(dim=1) for weight in weights.values()])
    torch.testing.assert_close(chord.importance(draw_profiles(base, 2))[1], magnitude / magnitude.mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_can_be_removed_and_is_then_not_there(base: Base, level: str) -> None:
    without = make_chord(base, **{**LEVELS, level: False})
    heads = {"filter_level": {"filter"}, "element_level": {"element_in", "element_out"}, "layer_level": {"layer"}}[level]
    assert heads.isdisjoint(name.partition(".")[0] for name, _ in without.named_parameters())
    assert (without.importance(draw_profiles(base, 2)) != make_chord(base).importance(draw_profiles(base, 2))).any()


def test_all_levels_removed_is_refused(base: Base) -> None:
    with pytest.raises(UsageError, match="at least one of the filter, element and layer levels"):
        make_chord(base, **dict.fromkeys(LEVELS, False))


@pytest.mark.parametrize("average_bits", [2.0, 2.3, 3.0, 4.7, 8.0])
def test_hard_masks_are_the_allocators_codes_but_for_its_last_fill(reference_base: Base, average_bits: float) -> None:
    chord = make_chord(reference_base)
    profiles = draw_profiles(reference_base, 6)
    with torch.no_grad():
        masks = chord.relax(profiles, torch.full((6,), average_bits), temperature=0.1)
        codes = steps_to_codes(masks, (1, 2, 3)).numpy()
        importance = chord.importance(profiles).numpy()
    inputs = np.concatenate([np.full(slot.channels, slot.inputs) for slot in reference_base.manifest.slots])
    spent = (np.array(WIDTHS)[codes] * inputs).sum(axis=1) / inputs.sum()
    assert (spent <= average_bits).all()
    assert (spent > average_bits - 4 * 256 / inputs.sum()).all()
    limit = fixed_weight(reference_base, True) + 8 * reference_base.channels + average_bits * inputs.sum() / 8
    for user in range(6):
        exact = allocate(reference_base, Importance(channels=importance[user]), Budget(weight_bytes=max(limit, 1)))
        found = np.full(len(inputs), 3) if exact.codes is None else exact.codes
        differ = found != codes[user]
        assert differ.sum() <= 8, "the fill after the first step that does not fit, and ties at the cut"
        assert np.abs(((np.array(WIDTHS)[found] - np.array(WIDTHS)[codes[user]]) * inputs).sum()) <= 4 * 256


def test_a_wider_budget_never_narrows_a_channel(base: Base) -> None:
    chord, profiles = make_chord(base), draw_profiles(base, 3)
    narrow, wide = (chord.relax(profiles, torch.full((3,), bits), temperature=0.1) for bits in (2.5, 4.0))
    assert (wide >= narrow).all()
    assert (wide > narrow).any()
