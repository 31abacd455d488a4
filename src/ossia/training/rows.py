"""Large catalogs: only the rows of the item table that a batch touched are moved, and only they cost anything.

Dense Adam reads and writes the whole table and both its moments at every step: at a million items × 64 that is half a second
for a batch that touched three thousand rows. Here each row keeps a clock of its own and lives through dense Adam on exactly
the steps that touched it:

    n_r ← n_r + 1      m_r ← β₁ m_r + (1 − β₁) g_r      v_r ← β₂ v_r + (1 − β₂) g_r²
    w_r ← w_r − lr · m_r / (1 − β₁^n_r) / (√(v_r / (1 − β₂^n_r)) + ε)

(Kingma and Ba, ICLR 2015, https://arxiv.org/abs/1412.6980, row by row.) With the bias correction by the row's own clock, the
first step of a rare row is as long as anybody's; by the common clock, as in torch's SparseAdam, it would be three times longer.

The running mean of the weights (`averaging.py`) waits in the same way. A row that stands still for steps a … b − 1 has

    w̄_r ← K w̄_r + (1 − K) w_r,     K = Π_{a ≤ t < b} k_t

so it is enough to catch up just before a row moves, and once for all rows at the end of an epoch: equal to blending at every
step, up to rounding.

What this does not do: dense Adam. There a row goes on moving after it was touched, by its momentum; here it stands still.
"""

from collections.abc import Callable
from math import log
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Adam

CLOCK = "step"  # the name that Adam looks for when a state is restored; here one for each row
LEAST = 1e-300
"""Stands for 0 under a logarithm: e^(log of it) is 0 in every product that follows."""


class RowAdam(Adam):
    """Adam; a parameter whose gradient is sparse moves only in its touched rows, each by a clock of its own.

    Attributes:
        before_rows: called with the rows that are about to move.
    """

    before_rows: Callable[[Int[Tensor, " rows"]], None] | None = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step.

        Args:
            closure: as in torch.

        Returns:
            as in torch.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._step_rows(parameter, parameter.grad.coalesce(), group["lr"], group["betas"], group["eps"])
                    parameter.grad = None  # Adam's own step passes it over
        return super().step(closure)

    def _step_rows(self, table: nn.Parameter, gradient: Tensor, lr: float, betas: tuple[float, float], epsilon: float) -> None:
        """Move the rows that have a gradient."""
        rows, values, state = gradient.indices()[0], gradient.values(), self.state[table]
        if not state:
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
            state[CLOCK] = torch.zeros(len(table), dtype=table.dtype, device=table.device)  # exact to 16 million
        if self.before_rows:
            self.before_rows(rows)
        clock = state[CLOCK][rows] + 1
        mean = state["exp_avg"][rows].lerp_(values, 1 - betas[0])
        square = state["exp_avg_sq"][rows].mul_(betas[1]).addcmul_(values, values, value=1 - betas[1])
        state[CLOCK][rows], state["exp_avg"][rows], state["exp_avg_sq"][rows] = clock, mean, square
        first, second = (1 - beta ** clock.double() for beta in betas)
        length = (square / second[:, None].to(square)).sqrt_().add_(epsilon)
        table[rows] -= lr * mean / first[:, None].to(mean) / length


class RowMean:
    """The running mean of a table whose rows move now and then.

    Args:
        average: the mean, moved in place.
        latest: the table as it is trained.
    """

    def __init__(self, average: Float[Tensor, "items dim"], latest: Float[Tensor, "items dim"]) -> None:
        self.average, self.latest = average, latest
        self.kept = 0.0  # log of the product of all k so far
        self.seen = torch.zeros(len(latest), dtype=torch.float64, device=latest.device)  # the same, when a row caught up

    def wait(self, keep: float) -> None:
        """Let a step pass.

        Args:
            keep: k of the step that was just taken.
        """
        self.kept += log(max(keep, LEAST))

    @torch.no_grad()
    def catch_up(self, rows: Int[Tensor, " rows"]) -> None:
        """Blend the steps that passed into some rows, before they move.

        Args:
            rows: which, each once.
        """
        left = (1 - torch.exp(self.kept - self.seen[rows])).to(self.latest)[:, None]
        self.average[rows] = torch.lerp(self.average[rows], self.latest[rows], left)
        self.seen[rows] = self.kept

    @torch.no_grad()
    def catch_up_all(self) -> None:
        """Blend the steps that passed into every row; afterwards nothing of the past is needed."""
        left = (1 - torch.exp(self.kept - self.seen)).to(self.latest)[:, None]
        self.average.lerp_(self.latest, left.expand_as(self.latest))
        self.kept = 0.0
        self.seen.zero_()
