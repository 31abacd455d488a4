"""The usual request, for many users at once: widths of channels within a budget of weight bytes, and of nothing else.

Prices then depend on base and alphabet alone, so they are laid out once, and users are climbed side by side
(`climb_many.py`). `allocate` answers a request of this kind by this way too: one rule, one answer, alone or in a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.climb_many import Steps, climb_many
from ossia.adaptation.prices import WHOLE, channel_prices, fixed_weight
from ossia.errors import BudgetError
from ossia.types import WIDTHS, Budget

GAIN = (0.0, 0.85, 0.99, 1.0)
"""Share of energy kept at 0, 2, 4, 8 bits: cos² between a Gaussian vector of 64 and its slice of the nested grid, rounded."""


def only_weight(budget: Budget) -> bool:
    """Tell whether a budget limits weight bytes and nothing else.

    Args:
        budget: any.

    Returns:
        whether `CodeAllocator` can answer it.
    """
    return budget.weight_bytes is not None and budget.download_bytes is budget.table_bytes is budget.latency_us is None


@dataclass(frozen=True, eq=False)
class CodeAllocator:
    """What allocating channels of one base takes, before any user is known.

    Attributes:
        codes: the code of each rung of the alphabet.
        steps: what rungs gain and cost.
        whole: weight bytes of the base as it is.
        floor: weight bytes with every channel at its narrowest, codes included.
    """

    codes: UInt8[np.ndarray, " rungs"]
    steps: Steps
    whole: int
    floor: int

    @classmethod
    def of(cls, base: Base, alphabet: Sequence[int]) -> "CodeAllocator":
        """Lay out the prices.

        Args:
            base: the base.
            alphabet: widths that a channel may have.

        Returns:
            the allocator.
        """
        codes = np.flatnonzero(np.isin(WIDTHS, alphabet)).astype(np.uint8)
        rest = channel_prices(base, None, WHOLE, None).rest
        steps = Steps.of(np.array(GAIN)[codes], rest[:, codes])
        whole, lowest = int(rest[:, -1].sum()), int(rest[:, codes[0]].sum())
        return cls(codes, steps, whole + fixed_weight(base, False), lowest + fixed_weight(base, True))

    def allocate(self, importance: Float[np.ndarray, "users channels"], budgets: Sequence[Budget]) -> list[Adaptation]:
        """Choose widths for many users.

        Args:
            importance: of each user's channels, finite and at least 0; only ratios within a user count.
            budgets: one per user, of weight bytes only.

        Returns:
            one adaptation per user; where the whole base fits, it is the base's own.

        Raises:
            BudgetError: a budget is below the floor; names it.
        """
        limits = np.floor([float(budget.weight_bytes or 0) for budget in budgets])
        chosen = [Adaptation()] * len(budgets)
        small = np.flatnonzero(limits < self.whole)
        for limit in limits[small].tolist():
            if limit < self.floor:
                raise BudgetError("weight_bytes", float(self.floor), limit)
        rungs = climb_many(self.steps, importance[small], limits[small] - self.floor)
        codes = self.codes.take(rungs)
        for user, code, whole in zip(small.tolist(), codes, codes.min(axis=1) == 3, strict=True):
            chosen[user] = Adaptation() if whole else Adaptation(codes=code)
        return chosen
