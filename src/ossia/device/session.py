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

Sequences are counted by the key that signed them, and the count of a key stands in the way as long as a payload of that key
could be taken at all: trusted, not revoked, not run out. So a thief who signs the highest sequence there is shuts the device
for as long as his key is believed; and a replay finds its own key's count, or no key that is believed (decision 0016).

The last two that were accepted are held. What ranks is the newer one until it runs out, then the older one, then the base, and
for a user without history what is popular. A `guard` drops a payload that ranks the user's own clicks worse than the base does.
Whatever becomes of a payload, its sequence stays the highest.

A device that has lowered its own budget since it asked gives it to `open_session`: the same bytes are then folded to less, in
an order that everybody knows (`ossia.adaptation.lower`), and nothing is asked again for it.

To outlive a restart, an app keeps the history, the payloads' bytes and `counts`, and says `resume`: `ossia.device.resident`
does that. A session fetches nothing and holds no keys: `verify` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Float32, Int, Int32

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.lower import floor, lower
from ossia.adaptation.payload import ANY_DEVICE, SIGNATURE_BYTES, Header, Payload, Verify, decode_payload
from ossia.adaptation.profile import make_profile
from ossia.device.forward import usable_history
from ossia.device.guard import Guard
from ossia.device.ranking import Ranking, rerank
from ossia.device.runtimes import Runtime, StateRanker, choose_runtime
from ossia.errors import PayloadError, Refusal, UsageError
from ossia.types import Budget, Candidates, History, Profile

CLOCK_TOLERANCE: Final = 300
"""Seconds by which the sender's clock may be ahead of ours before its payload counts as one from the future."""

HELD: Final = 2
"""Payloads that a session holds: the one that came last, and the one before it."""

UNLIMITED: Final = Budget()


@dataclass(frozen=True)
class Receipt:
    """What became of the bytes that arrived.

    Attributes:
        accepted: whether they are a payload that is wanted; it is in force from now on unless the guard dropped it.
        reason: why not, in a sentence; empty if they are.
        refusal: why not, in a word; None if they are.
        dropped: whether the guard dropped it on arrival.
    """

    accepted: bool
    reason: str = ""
    refusal: Refusal | None = None
    dropped: bool = False


@dataclass(frozen=True, eq=False)
class Version:
    """The base as one adaptation makes it, as much of it as a budget allows; the adaptation stays as it was sent.

    Its ranker is made when first asked for, once, and then shared.
    """

    base: Base
    adaptation: Adaptation
    runtime: Runtime
    budget: Budget = UNLIMITED

    @cached_property
    def ranker(self) -> StateRanker:
        """Return the folded weights, ready to rank."""
        return self.runtime(self.base, lower(self.base, self.adaptation, self.budget))


@dataclass(frozen=True, eq=False)
class Accepted:
    """A payload that was accepted.

    Attributes:
        version: the base as it makes it.
        header: what it said of itself.
        data: its bytes, to be kept over a restart.
        evidence: what the guard knows of it: losses of the user's last clicks, in bits, oldest first.
    """

    version: Version
    header: Header
    data: bytes = field(repr=False)
    evidence: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Session:
    """One user on one device. Make one with `open_session`; every change gives a new value.

    Attributes:
        plain: the base as published.
        device_id: 16 bytes.
        history: known items only, oldest first, at most the model's length: what it can't read is not kept.
        payloads: what was accepted and not dropped, newest first, at most `HELD`.
        counts: the highest sequence ever accepted of each key, by its id; 0 is nobody's, for what is not signed.
        allow_unsigned: whether payloads without a signature are accepted.
        verify: checks signatures.
        guard: drops payloads that do harm; None: nobody does.
        budget: what payloads are held to here, whatever they were made for; downloads and latency have no part in it.
    """

    plain: Version
    device_id: bytes
    history: History
    payloads: tuple[Accepted, ...] = ()
    counts: Mapping[int, int] = field(default_factory=dict)
    allow_unsigned: bool = False
    verify: Verify | None = field(default=None, repr=False)
    guard: Guard | None = None
    budget: Budget = UNLIMITED

    @property
    def highest(self) -> int:
        """Return the highest sequence ever accepted, of any key; 0 before the first."""
        return max(self.counts.values(), default=0)

    @property
    def own(self) -> Version | None:
        """Return the base as the newest payload makes it; None without one."""
        return self.payloads[0].version if self.payloads else None

    @property
    def header(self) -> Header | None:
        """Return what the newest payload says of itself; None without one."""
        return self.payloads[0].header if self.payloads else None

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
        after = replace(self, history=_readable(self.base, np.append(self.history, np.int32(item))))
        if self.guard is None or not self.payloads:
            return after
        first = self.payloads[0]
        seen = self.guard.remember(
            first.evidence, first.version.ranker, self.plain.ranker, len(self.base.table), self.history, item
        )
        return after._guarded((replace(first, evidence=seen), *self.payloads[1:]))

    def profile(self, noise: Float32[np.ndarray, " dim"] | None = None) -> Profile:
        """Return what may leave the device: the base's own user state, clipped, at 8 bits.

        Args:
            noise: added to the clipped state, which is then clipped again; None: nothing is added.

        Returns:
            the profile; zeros with scale 0 for an empty history. The adaptation in force has no part in it.
        """
        if noise is None:
            return self._quiet_profile
        clip = np.float32(self.base.manifest.profile_clip)
        return make_profile(np.clip(self.plain.ranker.state(self.history), -clip, clip) + noise, float(clip))

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
            return self, Receipt(False, str(error), error.refusal)
        arrived = self._accepted(payload, data)
        counts = {**self.counts, payload.header.key_id: payload.header.sequence}
        after = replace(self, counts=counts)._guarded((arrived, *self.payloads))
        return after, Receipt(True, dropped=not any(each.data is data for each in after.payloads))

    def resume(self, kept: Sequence[bytes]) -> "Session":
        """Take up what was accepted before a restart. The clock has no say: it may be wrong, and come right later.

        Args:
            kept: the payloads' bytes, newest first.

        Returns:
            the session with those that still decode: one for another base, or of a key revoked since, is left out.
        """
        held = []
        for data in kept[:HELD]:
            try:
                payload = decode_payload(self.base, data, allow_unsigned=self.allow_unsigned, verify=self.verify)
            except PayloadError:
                continue
            held.append(self._accepted(payload, data))
        return self._guarded(tuple(held))

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
        """Tell what ranks at a time: the newest payload that has not run out, or the base.

        Args:
            now: seconds since 1970.

        Returns:
            the version of the base.
        """
        return next((each.version for each in self.payloads if now < each.header.expiry), self.plain)

    @cached_property
    def _quiet_profile(self) -> Profile:
        """Make the profile without noise, once: a policy may look at it every half minute, for days without a click."""
        return make_profile(self.plain.ranker.state(self.history), float(self.base.manifest.profile_clip))

    def _check_wanted(self, header: Header, now: int) -> None:
        """Raise PayloadError for a well-formed payload that is not for us, not for now, or not new."""
        if header.device_id not in (self.device_id, ANY_DEVICE):
            expected = f"expected a payload for {self.device_id.hex()}, got one for {header.device_id.hex()}"
            raise PayloadError(f"device: {expected}", "another_device")
        if header.issued > now + CLOCK_TOLERANCE:
            expected = f"expected at most {CLOCK_TOLERANCE} s after {now}, got {header.issued}"
            raise PayloadError(f"issued: {expected}", "from_the_future")
        if now >= header.expiry:
            raise PayloadError(f"expiry: expected a time after {now}, got {header.expiry}", "expired")
        above = [count for key, count in self.counts.items() if header.sequence <= count and self._believes(key, now)]
        if above:
            raise PayloadError(f"sequence: expected above {max(above)}, got {header.sequence}", "replayed")

    def _believes(self, key: int, now: int) -> bool:
        """Tell whether any payload of a key could still be taken: `verify` would stumble over its signature alone."""
        if not key or self.verify is None:
            return True
        short = Header(bytes(16), bytes(16), self.device_id, 0, now, now + 1, key, signed=True)
        try:
            self.verify(short, b"", bytes(SIGNATURE_BYTES))
        except PayloadError as error:
            return error.refusal == "forged"
        return True

    def _accepted(self, payload: Payload, data: bytes) -> Accepted:
        """Make ready what a payload holds, and judge it by the history so far."""
        version = replace(self.plain, adaptation=payload.adaptation, budget=self.budget)
        return self._judged(Accepted(version, payload.header, data))

    def _judged(self, accepted: Accepted) -> Accepted:
        """Judge a payload by the history so far."""
        if self.guard is None:
            return accepted
        own, base = accepted.version.ranker, self.plain.ranker
        return replace(accepted, evidence=self.guard.look_back(own, base, len(self.base.table), self.history))

    def _guarded(self, payloads: tuple[Accepted, ...]) -> "Session":
        """Hold these payloads, less those in front that the guard condemns; who comes to the front is judged anew."""
        while payloads and self.guard is not None and self.guard.condemns(payloads[0].evidence):
            payloads = tuple(map(self._judged, payloads[1:]))
        return replace(self, payloads=payloads[:HELD])


def open_session(
    base: Base,
    device_id: bytes = ANY_DEVICE,
    *,
    history: History | None = None,
    counts: Mapping[int, int] | None = None,
    runtime: str | Runtime = "default",
    allow_unsigned: bool = False,
    verify: Verify | None = None,
    guard: Guard | None = None,
    budget: Budget = UNLIMITED,
) -> Session:
    """Begin a session, or take one up again after a restart.

    Args:
        base: the base on the device.
        device_id: 16 bytes.
        history: what the app kept, oldest first; None: nothing yet.
        counts: the highest sequence of each key that was accepted before; keep them, or old payloads can be replayed.
        runtime: a name in `RUNTIMES`, or a runtime; `default` is the engine, or numpy where it was not compiled.
        allow_unsigned: accept payloads that nobody signed.
        verify: checks signatures; without it signed payloads are refused.
        guard: drops payloads that do harm; None: nobody does.
        budget: what payloads are held to here, weights and table; they are folded to less where they were made for more.

    Returns:
        the session.

    Raises:
        UsageError: no such runtime, or a device id that is not 16 bytes.
        BudgetError: the budget is below what any payload can be brought to.
    """
    chosen = choose_runtime(runtime) if isinstance(runtime, str) else runtime
    if len(device_id) != len(ANY_DEVICE):
        raise UsageError(f"device id: expected {len(ANY_DEVICE)} bytes, got {len(device_id)}")
    kept = _readable(base, history if history is not None else np.zeros(0, np.int32))
    lower(base, floor(base), budget)
    plain = Version(base, Adaptation(), chosen)
    return Session(plain, device_id, kept, (), counts or {}, allow_unsigned, verify, guard, budget)


def _readable(base: Base, history: History) -> Int32[np.ndarray, " kept"]:
    """Keep what the model can read of a history; an app keeps no more of a user's life than it needs."""
    return usable_history(history, len(base.table), base.manifest.shape["length"]).astype(np.int32)
