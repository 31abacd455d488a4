"""The running mean keeps the share that it says, and reaches back further as it grows older."""

import pytest
import torch
from torch import nn

from ossia.training.averaging import blend, keep_at


def test_a_step_keeps_the_share_that_it_says() -> None:
    average, model = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(average.weight, 5.0)
    nn.init.constant_(model.weight, 1.0)
    blend(average, model, 0.9)
    assert average.weight.item() == pytest.approx(0.9 * 5 + 0.1 * 1)
    assert model.weight.item() == 1.0


def test_nothing_kept_is_the_latest_weights_to_the_last_bit() -> None:
    average, model = nn.Linear(3, 3), nn.Linear(3, 3)
    blend(average, model, keep_at(0.0, 5))
    assert torch.equal(average.weight, model.weight)


@pytest.mark.parametrize("steps", [10, 100, 1_000])
def test_first_weights_are_soon_forgotten(steps: int) -> None:
    share = torch.tensor([keep_at(0.998, step) for step in range(steps)], dtype=torch.float64).prod()
    assert share < 1e-4


def test_an_old_mean_reaches_back_as_far_as_was_asked() -> None:
    assert keep_at(0.998, 10**6) == 0.998
    assert keep_at(0.998, 90) < 0.92
