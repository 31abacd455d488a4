"""Levels: budgets at which something better runs, and who decides there."""

import torch
from torch import nn

from ossia.personalizers.levels import Level, Leveled
from ossia.training.structures import find_levels

COSTS = [0.5, 0.3, 0.2]
WORTH = (3.0, 1.5, 1.0)


class SaysItsBudget(nn.Module):
    """A controller whose log-odds are the share that it was told."""

    def forward(self, profiles: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        return share.expand(-1, len(COSTS)) + 0 * profiles[:, :1]


def worth(kept: tuple[int, ...]) -> float:
    return sum((value for value, runs in zip(WORTH, kept, strict=True) if runs), 0.0)


def test_a_level_is_where_something_better_runs() -> None:
    levels = find_levels(COSTS, worth, lambda share: 2.0 if share > 0.25 else -1.0)
    assert levels == (
        Level(0.0, (0, 0, 0)),
        Level(0.2, (0, 0, 1)),
        Level(0.3, None),  # the controller's 2 against 1.5
        Level(0.5, (1, 0, 0)),  # as dear as the other two, and better
        Level(0.7, (1, 0, 1)),
        Level(0.8, (1, 1, 0)),
        Level(1.0, (1, 1, 1)),
    )


def test_a_budget_that_buys_nothing_better_is_no_level() -> None:
    assert find_levels(COSTS, lambda kept: float(kept[2]), lambda share: -1.0) == (Level(0.0, (0, 0, 0)), Level(0.2, (0, 0, 1)))
    assert find_levels(COSTS, worth, lambda share: 9.0) == (Level(0.0, None),)


def test_budgets_are_rounded_down_to_what_was_judged() -> None:
    levels = (Level(0.0, (0, 0, 0)), Level(0.3, None), Level(0.7, (1, 0, 1)))
    held = Leveled(SaysItsBudget(), levels, 3)
    share = torch.tensor([[0.0], [0.29], [0.3], [0.69], [0.7], [1.0]])
    log_odds = held(torch.randn(6, 4), share)
    torch.testing.assert_close(log_odds[2:4], torch.full((2, 3), 0.3))  # told of .3 alone, with .69 too
    assert (log_odds[[0, 1]] < 0).all()
    assert (log_odds[4:] > 0).tolist() == [[True, False, True]] * 2


def test_measured_prices_that_round_below_a_level_still_reach_it() -> None:
    held = Leveled(SaysItsBudget(), (Level(0.0, (0, 0, 0)), Level(1.0, (1, 1, 1))), 3)
    assert (held(torch.zeros(1, 4), torch.tensor([[1 - 1e-7]])) > 0).all()
