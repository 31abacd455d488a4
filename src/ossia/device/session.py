"""The rules of one user's session on one device, without any I/O.

A `Session` is a value. What happens to it (an item was seen, bytes arrived, the clock moved on) is an argument, and what comes
of it is a new value, so that an app, a test and a simulator of a hundred thousand devices run the same rules.

    session = open_session(base, device_id)
    session = session.observe(item)                          the history stays here
    up      = encode_profile(session.profile())              the vector leaves
    session, receipt = session.receive(data, now)            an adaptation arrives, or is refused
    ranking = session.rank(candidates, k, now)

**Whatever is wrong with a payload, the device goes on with what it had.** `decode_payload` judges the bytes: format, base,
table, digest, signature. The session judges whether a well-formed payload is wanted here and now:

    device      its device id is ours, or zeros (any device)
    clock       issued ≤ now + CLOCK_TOLERANCE, and now < expiry
    sequence    above the highest that was ever accepted: a replay, or an older payload that comes late, is refused

One that runs out while in force gives way to the base itself; its sequence stays the highest. To outlive a restart, an app
keeps the history, the bytes last accepted and `highest`; then it opens a session at `highest − 1` and receives the bytes again.
A session fetches nothing and holds no keys: `verify` does.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Int, Int32

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.payload import ANY_DEVICE, Header, Payload, Verify, decode_payload
from ossia.adaptation.profile import make_profile
from ossia.device.forward import usable_history
from ossia.device.ranking import Ranking, rerank
from ossia.device.runtimes import StateRanker, choose_runtime
from ossia.errors import PayloadError, UsageError
from ossia.types import Candidates, History, Profile

CLOCK_TOLERANCE: Final = 300
"""Seconds by which the sender's clock may be ahead of ours before its payload counts as one from the future."""


@dataclass(frozen=True)
class Receipt:
    """What became of the bytes that arrived.

    Attributes:
        accepted: whether they are in force from now on.
        reason: why not; empty if they are.
    """

    accepted: bool
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Version:
    """The base as one adaptation makes it. Its ranker is made when first asked for, once, and then shared."""

    base: Base
    adaptation: Adaptation
    runtime: str

    @cached_property
    def ranker(self) -> StateRanker:
        """Return the folded weights, ready to rank."""
        return choose_runtime(self.runtime)(self.base, self.adaptation)


@dataclass(frozen=True, eq=False)
class Session:
    """One user on one device. Make one with `open_session`; every change gives a new value.

    Attributes:
        plain: the base as published.
        device_id: 16 bytes.
        history: known items only, oldest first, at most the model's length: what it can't read is not kept.
        own: the base with the accepted adaptation; None before the first.
        header: what that adaptation's payload said of itself.
        highest: the highest sequence ever accepted; 0 before the first.
        allow_unsigned: whether payloads without a signature are accepted.
        verify: checks signatures.
    """

    plain: Version
    device_id: bytes
    history: History
    own: Version | None = None
    header: Header | None = None
    highest: int = 0
    allow_unsigned: bool = False
    verify: Verify | None = field(default=None, repr=False)

    @property
    def base(self) -> Base:
        """Return the base on the device."""
        return self.plain.base

    def observe(self, item: int) -> "Session":
        """Append an item that the user met; the oldest one leaves when the history is full.

        Args:
            item: its row; one that the table does not know leaves the session as it is.

        Returns:
            the session after it.
        """
        if not 0 <= item < len(self.base.table):
            return self
        return replace(self, history=_readable(self.base, np.append(self.history, np.int32(item))))

    def profile(self) -> Profile:
        """Return what may leave the device: the base's own user state, clipped, at 8 bits.

        Returns:
            the profile; zeros with scale 0 for an empty history. The adaptation in force has no part in it.
        """
        return make_profile(self.plain.ranker.state(self.history), self.base.manifest.profile_clip)

    def receive(self, data: bytes, now: int) -> tuple["Session", Receipt]:
        """Judge bytes that arrived, and put them in force if they are a payload that is wanted.

        Args:
            data: anything.
            now: seconds since 1970.

        Returns:
            the session with the new adaptation, or this very session and the reason why not.
        """
        try:
            payload = decode_payload(self.base, data, allow_unsigned=self.allow_unsigned, verify=self.verify)
            self._check_wanted(payload.header, now)
        except PayloadError as error:
            return self, Receipt(False, str(error))
        return self._accept(payload), Receipt(True)

    def rank(
        self,
        candidates: Candidates,
        k: int | None,
        now: int,
        *,
        block: Int[np.ndarray, " blocked"] | None = None,
        allow: Int[np.ndarray, " allowed"] | None = None,
    ) -> Ranking:
        """Rank candidates for this user with what is in force.

        Args:
            candidates: item rows, with or without vectors.
            k: how many to show; None: all of them.
            now: seconds since 1970.
            block: rows never to show, today's and of this app; None: none.
            allow: the only rows to show; None: all. What is in both lists is blocked.

        Returns:
            the ranking.

        Raises:
            UsageError: k below 0, or vectors of another shape: the app's mistakes.
        """
        return rerank(self.in_force(now).ranker, self.history, candidates, k, block=block, allow=allow)

    def in_force(self, now: int) -> Version:
        """Tell what ranks at a time: the accepted adaptation until its expiry, the base before and after.

        Args:
            now: seconds since 1970.

        Returns:
            the version of the base.
        """
        if self.own is None or self.header is None or now >= self.header.expiry:
            return self.plain
        return self.own

    def _check_wanted(self, header: Header, now: int) -> None:
        """Raise PayloadError for a well-formed payload that is not for us, not for now, or not new."""
        if header.device_id not in (self.device_id, ANY_DEVICE):
            raise PayloadError(f"device: expected a payload for {self.device_id.hex()}, got one for {header.device_id.hex()}")
        if header.issued > now + CLOCK_TOLERANCE:
            raise PayloadError(f"issued: expected at most {CLOCK_TOLERANCE} s after {now}, got {header.issued}")
        if now >= header.expiry:
            raise PayloadError(f"expiry: expected a time after {now}, got {header.expiry}")
        if header.sequence <= self.highest:
            raise PayloadError(f"sequence: expected above {self.highest}, got {header.sequence}")

    def _accept(self, payload: Payload) -> "Session":
        """Put a payload in force."""
        own = replace(self.plain, adaptation=payload.adaptation)
        return replace(self, own=own, header=payload.header, highest=payload.header.sequence)


def open_session(
    base: Base,
    device_id: bytes = ANY_DEVICE,
    *,
    history: History | None = None,
    highest: int = 0,
    runtime: str = "default",
    allow_unsigned: bool = False,
    verify: Verify | None = None,
) -> Session:
    """Begin a session, or take one up again after a restart.

    Args:
        base: the base on the device.
        device_id: 16 bytes.
        history: what the app kept, oldest first; None: nothing yet.
        highest: the highest sequence that was accepted before; keep it, or old payloads can be replayed.
        runtime: a name in `RUNTIMES`; `default` is the engine, or numpy where it was not compiled.
        allow_unsigned: accept payloads that nobody signed.
        verify: checks signatures; without it signed payloads are refused.

    Returns:
        the session.

    Raises:
        UsageError: no such runtime, or a device id that is not 16 bytes.
    """
    choose_runtime(runtime)
    if len(device_id) != len(ANY_DEVICE):
        raise UsageError(f"device id: expected {len(ANY_DEVICE)} bytes, got {len(device_id)}")
    kept = _readable(base, history if history is not None else np.zeros(0, np.int32))
    plain = Version(base, Adaptation(), runtime)
    return Session(plain, device_id, kept, highest=highest, allow_unsigned=allow_unsigned, verify=verify)


def _readable(base: Base, history: History) -> Int32[np.ndarray, " kept"]:
    """Keep what the model can read of a history; an app keeps no more of a user's life than it needs."""
    return usable_history(history, len(base.table), base.manifest.shape["length"]).astype(np.int32)
