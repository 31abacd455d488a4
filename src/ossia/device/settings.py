"""How a device behaves: what its app chose, once, and its rules (`resident.py`) only read."""

from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ossia.adaptation.payload import Verify
from ossia.device.guard import Guard
from ossia.device.policy import DAY_S, Backoff, Policy, periodic
from ossia.device.runtimes import Runtime
from ossia.types import Budget

DAILY: Final = partial(periodic, every_s=DAY_S)


@dataclass(frozen=True, eq=False)
class Settings:
    """How a device behaves.

    Attributes:
        policy: when it asks.
        backoff: how long it waits after failures.
        guard: drops payloads that do harm; None: nobody does.
        budget: what it can afford.
        candidates: how many candidates it asks for.
        rows: whether it asks for rows.
        look_s: seconds between two looks for a release.
        tells: whether the user consents to tell how a release fares.
        noise: standard deviation of what is added to each value of a profile, in units of the base's clip.
        runtime: what computes.
        verify: checks signatures.
        allow_unsigned: accept payloads that nobody signed.
    """

    policy: Policy = DAILY
    backoff: Backoff = field(default_factory=Backoff)
    guard: Guard | None = field(default_factory=Guard)
    budget: Budget = field(default_factory=Budget)
    candidates: int = 0
    rows: bool = False
    look_s: int = DAY_S // 4
    tells: bool = False
    noise: float = 0.0
    runtime: str | Runtime = "default"
    verify: Verify | None = field(default=None, repr=False)
    allow_unsigned: bool = False
