"""The torch twin of a folded base computes with exactly the device's numbers; `conformance` holds the forwards together."""

import numpy as np
import pytest
import torch

from ossia.adaptation import Adaptation, Base, apply
from ossia.backbones.published import from_weights
from ossia.errors import UsageError

HISTORY = torch.tensor([[-1, 3, 7, 12]])


def test_every_number_of_the_twin_is_the_folded_one(base: Base) -> None:
    codes = np.random.default_rng(0).integers(0, 4, base.channels).astype(np.uint8)
    weights = apply(base, Adaptation(codes=codes))
    twin = from_weights(weights).state_dict()
    for name, panel in weights.slots.items():
        assert np.array_equal(twin[f"{name}.weight"].numpy(), panel.dequantize())
    for name, array in weights.floats.items():
        assert np.array_equal(twin[name].numpy(), array)
    assert np.array_equal(twin["items.weight"].numpy(), base.table.whole.dequantize())


@pytest.mark.parametrize("closed", range(4))
def test_a_closed_gate_skips_its_branch(base: Base, closed: int) -> None:
    gates = np.ones(4, np.uint8)
    gates[closed] = 0
    twin = from_weights(apply(base, Adaptation(gates=gates)))
    name = base.manifest.gates[closed]
    whole = from_weights(apply(base, Adaptation()))
    skipped = whole(HISTORY, gate=lambda gate, branch: branch * (gate != name))
    assert torch.equal(twin(HISTORY), skipped)
    assert not torch.equal(twin(HISTORY), whole(HISTORY))


def test_training_a_twin_or_writing_to_it_is_not_how_a_base_changes(base: Base) -> None:
    twin = from_weights(apply(base, Adaptation()))
    assert not twin.training
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    before = {name: array.copy() for name, array in base.floats.items()}
    for parameter in twin.parameters():
        parameter.zero_()
    assert all(np.array_equal(base.floats[name], array) for name, array in before.items())


def test_another_backbone_is_refused(base: Base) -> None:
    weights = apply(base, Adaptation())
    object.__setattr__(weights, "backbone", "narm")
    with pytest.raises(UsageError, match="expected one of sasrec, caser, gru4rec, got 'narm'"):
        from_weights(weights)
