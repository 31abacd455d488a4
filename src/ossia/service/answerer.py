"""What answers profiles in the service, whatever it chooses: budgets become plans once, and users are answered by plans."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
from jaxtyping import UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.allocate import Device
from ossia.adaptation.base import Base
from ossia.errors import UsageError
from ossia.types import Budget, Profile

FRESH = Device()
"""A device that holds the base and the table."""

Plan = TypeVar("Plan")
RowCodes: TypeAlias = UInt8[np.ndarray, " rows"]


class Answerer(ABC, Generic[Plan]):
    """A personalizer of widths and rows, or one that generates weights. A plan is its own business.

    Attributes:
        base: the base that it speaks of.
    """

    PLANS: ClassVar[int]
    """Budgets whose plans are kept."""

    base: Base

    @abstractmethod
    def allocate_many(
        self, profiles: Sequence[Profile], plans: Sequence[Plan], held: Sequence[RowCodes | None] | None = None
    ) -> list[Adaptation]:
        """Answer many users by plans made before.

        Args:
            profiles: one per user.
            plans: one per user, from `plan`.
            held: one per user: the width code of each row that the device has, and may keep; None: it has none.

        Returns:
            one adaptation per user.

        Raises:
            UsageError: a profile of another length.
        """

    @abstractmethod
    def personalize_nobody(self, budget: Budget, *, device: Device = FRESH, signed: bool = False) -> Adaptation:
        """Answer the average user: the control that personal answers must beat.

        Args:
            budget: what the device can afford.
            device: what is on it already, and how fast it is.
            signed: leave room for a signature.

        Returns:
            one adaptation for everybody with this budget.

        Raises:
            BudgetError: nothing fits.
        """

    @abstractmethod
    def _make_plan(self, budget: Budget, device: Device, signed: bool) -> Plan:
        """Work out what a budget means on a device."""

    def personalize(self, profile: Profile, budget: Budget, *, device: Device = FRESH, signed: bool = False) -> Adaptation:
        """Answer one user.

        Args:
            profile: as decoded from the device.
            budget: what the device can afford.
            device: what is on it already, and how fast it is.
            signed: leave room for a signature in `download_bytes`.

        Returns:
            the adaptation; a term that is left alone is None, as the base has it.

        Raises:
            BudgetError: nothing fits; names the limit and its floor.
            UsageError: the profile has another length, or `latency_us` comes without a cost table.
        """
        return self.personalize_many([profile], [budget], devices=[device], signed=signed)[0]

    def personalize_many(
        self,
        profiles: Sequence[Profile],
        budgets: Sequence[Budget],
        *,
        devices: Sequence[Device] | None = None,
        signed: bool = False,
    ) -> list[Adaptation]:
        """Answer many users at once: the same answers as one by one, byte for byte.

        Args:
            profiles: one per user.
            budgets: one per user.
            devices: one per user; None: every device holds the base and the table.
            signed: leave room for signatures.

        Returns:
            one adaptation per user.

        Raises:
            BudgetError: a user's budget can't be met.
            UsageError: lists of different lengths, or what `personalize` refuses.
        """
        on = [FRESH] * len(profiles) if devices is None else devices
        if not len(profiles) == len(budgets) == len(on):
            raise UsageError(f"personalize: expected as many budgets and devices as the {len(profiles)} profiles")
        plans = [self.plan(budget, device=device, signed=signed) for budget, device in zip(budgets, on, strict=True)]
        return self.allocate_many(profiles, plans)

    def plan(self, budget: Budget, *, device: Device = FRESH, signed: bool = False) -> Plan:
        """Look up or make the plan for a budget.

        Args:
            budget: what the device can afford.
            device: what is on it already, and how fast it is.
            signed: leave room for a signature.

        Returns:
            the plan, for any number of users.

        Raises:
            BudgetError: nothing fits.
            UsageError: `latency_us` without a cost table.
        """
        return self._fresh_plan(budget, signed) if device is FRESH else self._make_plan(budget, device, signed)

    @cached_property
    def _fresh_plan(self) -> Callable[[Budget, bool], Plan]:
        """From budget and signed to the plan for a fresh device; the last few are kept, because devices come in a few kinds."""
        return lru_cache(maxsize=self.PLANS)(lambda budget, signed: self._make_plan(budget, FRESH, signed))
