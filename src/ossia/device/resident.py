"""The rules of a device that lives for years: everything that may happen to it, without any I/O.

A `Resident` is a value: what is kept (`Kept`) and the `Session` made of it. Time, randomness and bytes are arguments, and what
comes of them is a new value. Who holds it writes `kept` to the disk first and goes on with the new value then:

    resident = resident.observe("item 17")                                          a click
    resident.rank(None, 10, now)                                                    never asks anybody, never fails
    asked = resident.ask(now, random)                                               (resident, request) if it is time to ask
    resident, receipt = resident.answer(request, answer, now, random)               what came of it

**A request is in the log, on the disk, before it leaves**; it counts as failed until its answer is there, so that a device
which dies of its asks does not ask more often for it. Whatever a service says, or does not say, only waits grow; what ranks
changes by a payload that `Session.receive` accepts, and by nothing else.

    payload → older payload → base → popularity

The last step is for a device whose base is gone or damaged: it shows the popular items that it remembers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from random import Random

import msgspec
import numpy as np
from jaxtyping import Float32

from ossia.adaptation.base import Base
from ossia.adaptation.enrolment import device_of
from ossia.adaptation.lower import floor, lower
from ossia.adaptation.profile import decode_profile
from ossia.adaptation.request import decode_reply
from ossia.device.exchange import (
    Answer,
    Request,
    enroll_request,
    payload_request,
    read_fault,
    read_token,
    report_request,
)
from ossia.device.kept import Asking, Exchange, Kept, KeptPayload, bytes_since
from ossia.device.policy import DAY_S, Situation
from ossia.device.rows import rows_claimed, take_rows
from ossia.device.session import UNLIMITED, Receipt, Session, open_session
from ossia.device.settings import Settings
from ossia.device.shown import POPULAR, Shown, rank_popular
from ossia.errors import BudgetError, PayloadError
from ossia.types import ABSENT, Budget, Candidates, Profile


@dataclass(frozen=True, eq=False)
class Resident:
    """One user's device at one moment. Make one with `open_resident`; every change gives a new value.

    Attributes:
        kept: what the disk holds, or is about to hold.
        session: what ranks; None: the base is gone.
        settings: how the device behaves.
    """

    kept: Kept
    session: Session | None
    settings: Settings

    def observe(self, item: str) -> "Resident":
        """Take note of a click.

        Args:
            item: its id; one that the catalog does not know leaves everything as it is.

        Returns:
            the device after it.
        """
        row = ABSENT if self.session is None else self.session.base.table.row_of.get(item, ABSENT)
        if self.session is None or row == ABSENT:
            return self
        session = self.session.observe(row)
        asking = _with(self.kept.asking, clicks=self.kept.asking.clicks + 1)
        history = (*self.kept.history, item)[-session.base.manifest.shape["length"] :]
        following = self.kept.following.after_click(dropped=len(session.payloads) < len(self.session.payloads))
        return self._keep(session, history=history, asking=asking, following=following)

    def rank(self, ids: Sequence[str] | None, k: int, now: int) -> Shown:
        """Rank with what is here.

        Args:
            ids: candidates; None: everything that is not in the history.
            k: how many to show.
            now: seconds since 1970.

        Returns:
            the best, with their scores.
        """
        if self.session is None:
            return rank_popular(self.kept, ids, k)
        table = self.session.base.table
        if ids is None:
            unseen = np.ones(len(table), np.bool_)
            unseen[self.session.history] = False
            rows = np.flatnonzero(unseen)
        else:
            rows = np.array([table.row_of.get(each, ABSENT) for each in ids], np.int64)
        ranking = self.session.rank(Candidates(rows), k, now)
        places = ranking.positions.tolist()
        shown = [table.ids[rows[place]] if ids is None else ids[place] for place in places]
        return Shown(tuple(shown), tuple(ranking.scores.tolist()), self._ranks(now))

    def wants(self, now: int) -> bool:
        """Tell whether the policy would ask, if it were not for waits.

        Args:
            now: seconds since 1970.

        Returns:
            whether it would.
        """
        asking = self.kept.asking
        spent = partial(bytes_since, self.kept.log, now, DAY_S)
        return self.settings.policy(Situation(now, asking.served, asking.clicks, lambda: self._drift, spent))

    def ask(self, now: int, random: Random) -> tuple["Resident", Request] | None:
        """Say what to ask, if it is time to ask.

        Args:
            now: seconds since 1970.
            random: draws waits and noise.

        Returns:
            the device, to be kept before the request leaves, and the request; None: not now.
        """
        asking, backoff = self.kept.asking, self.settings.backoff
        if self.session is None or not backoff.due(now, asking.not_before):
            return None
        verdict = self.kept.following.verdict if self.settings.tells else None
        if verdict is None and not self.wants(now):
            return None
        failures = asking.failures + 1
        asking = _with(asking, failures=failures, not_before=now + backoff.wait(failures, random.random()))
        if not self.kept.token:
            return self._log(enroll_request(self.kept, now), asking, now)
        if verdict is not None:
            return self._log(report_request(self.kept, *verdict), asking, now)
        profile = self._profile(random)
        settings = self.settings
        request = payload_request(
            self.kept,
            self.session.base,
            profile,
            settings.budget,
            candidates=settings.candidates,
            rows=settings.rows,
            held=rows_claimed(self.session, self.kept) if settings.rows else b"",
        )
        return self._log(request, _with(asking, profile=request.profile), now)

    def answer(self, request: Request, answer: Answer, now: int, random: Random) -> tuple["Resident", Receipt]:
        """Judge what came back.

        Args:
            request: what was asked.
            answer: what came.
            now: seconds since 1970.
            random: draws the next wait.

        Returns:
            the device, and what became of the ask.
        """
        heard = self._heard(answer, now)
        if answer.status == 200 and request.kind == "enroll":
            return heard._enrolled(answer, now, random)
        if answer.status == 200 and request.kind == "ask" and heard.session is not None:
            return heard._served(heard.session, request, answer, now, random)
        if request.kind == "report" and 200 <= answer.status < 500 and answer.status not in (401, 408, 429):
            return heard._told(), Receipt(True, "told how the release fares")  # or to whom does not want to know
        after = heard._failed(answer, now, random)
        return after, Receipt(False, read_fault(answer))

    def _told(self) -> "Resident":
        """Note that a verdict was heard, and ask at once if that is due too."""
        asking = _with(self.kept.asking, failures=0, not_before=0)
        return self._keep(self.session, following=self.kept.following.after_telling(), asking=asking)

    def _enrolled(self, answer: Answer, now: int, random: Random) -> tuple["Resident", Receipt]:
        """Keep the token, and ask at once."""
        token = read_token(answer, device_of(self.kept.public))
        if not token:
            return self._failed(answer, now, random), Receipt(False, "enrolment: expected a token for this device, got none")
        asking = _with(self.kept.asking, failures=0, not_before=0)
        return self._keep(self.session, token=token, asking=asking), Receipt(True, "enrolled")

    def _served(
        self, session: Session, request: Request, answer: Answer, now: int, random: Random
    ) -> tuple["Resident", Receipt]:
        """Judge a payload, and hold the rows beside it to its digest."""
        try:
            reply = decode_reply(answer.body)
        except PayloadError as error:
            return self._failed(answer, now, random), Receipt(False, str(error), error.refusal)
        after, receipt = session.receive(reply.payload, now)
        if not receipt.accepted:
            return self._failed(answer, now, random), receipt
        whole: bytes | None = b""
        if not receipt.dropped and after.own is not None:
            whole = take_rows(session.base, request, after.own.adaptation, reply.rows, self.kept)
        rows = {each.data: each.rows for each in self.kept.payloads} | {reply.payload: whole or b""}
        payloads = tuple(KeptPayload(each.data, rows.get(each.data, b"")) for each in after.payloads)
        asking = _with(self.kept.asking, served=now, clicks=0, failures=0, not_before=0)
        following = self.kept.following
        if receipt.dropped:
            following = following.after_click(dropped=True)
        kept = self._keep(after, payloads=payloads, counts=dict(after.counts), asking=asking, following=following)
        return (kept, receipt) if whole is not None else kept._want_rows(self.kept.asking, now, random)

    def _want_rows(self, before: Asking, now: int, random: Random) -> tuple["Resident", Receipt]:
        """Have the payload without its rows, and ask for all of them as after a failure."""
        wait = self.settings.backoff.wait(max(before.failures, 1), random.random())
        asking = _with(before, served=None, not_before=now + wait)
        told = "a payload came and is in force, but its rows are not what it names; all of them are asked for again"
        return self._keep(self.session, asking=asking), Receipt(True, told)

    def _failed(self, answer: Answer, now: int, random: Random) -> "Resident":
        """Wait longer; without a token that holds, enroll again."""
        asking = self.kept.asking
        wait = self.settings.backoff.wait(max(asking.failures, 1), random.random(), answer.retry_after_s)
        token = "" if answer.status == 401 else self.kept.token
        return self._keep(self.session, token=token, asking=_with(asking, not_before=now + wait))

    def _heard(self, answer: Answer, now: int) -> "Resident":
        """Count a reply's bytes."""
        if not answer.body:
            return self
        return self._keep(self.session, log=self.kept.log + Exchange(now, "reply", len(answer.body)).pack())

    def _log(self, request: Request, asking: Asking, now: int) -> tuple["Resident", Request]:
        """Put a request into the log."""
        return self._keep(self.session, asking=asking, log=self.kept.log + request.disclosed(now).pack()), request

    def _keep(self, session: Session | None, **changed: object) -> "Resident":
        """Go on with other values; payloads that the guard has dropped are kept no longer."""
        kept = msgspec.structs.replace(self.kept, **changed)
        if session is not None and len(session.payloads) < len(kept.payloads):
            held = {each.data for each in session.payloads}
            kept = msgspec.structs.replace(kept, payloads=tuple(each for each in kept.payloads if each.data in held))
        return Resident(kept, session, self.settings)

    @cached_property
    def _drift(self) -> float:
        """Tell, once, how far the user's state has turned since the profile that was sent last."""
        if self.session is None or not self.kept.asking.profile:
            return 1.0
        now = self.session.profile().state
        then = decode_profile(self.kept.asking.profile, len(now)).state
        lengths = float(np.linalg.norm(now) * np.linalg.norm(then))
        return 1.0 - float(now @ then) / lengths if lengths else 1.0

    def _profile(self, random: Random) -> Profile:
        """Make what may leave."""
        assert self.session is not None
        if not self.settings.noise:
            return self.session.profile()
        spread = self.settings.noise * self.session.base.manifest.profile_clip
        dim = self.session.base.manifest.shape["dim"]
        noise: Float32[np.ndarray, " dim"] = np.array([random.gauss(0.0, spread) for _ in range(dim)], np.float32)
        return self.session.profile(noise)

    def _ranks(self, now: int) -> str:
        """Name what ranks."""
        session = self.session
        if session is None or not len(session.history):
            return "popularity"
        version = session.in_force(now)
        sequence = next((each.header.sequence for each in session.payloads if each.version is version), None)
        return "base" if sequence is None else f"payload {sequence}"


def open_resident(kept: Kept, base: Base | None, settings: Settings) -> Resident:
    """Take a device up where it was left, with the same base or another one, or with none.

    Args:
        kept: what the disk held, or `new_kept`.
        base: what it ranks with from now on; None: it is gone, and popularity must do.
        settings: how it behaves.

    Returns:
        the device; payloads that its base does not take, or whose key was revoked, are gone.
    """
    if base is None:
        return Resident(kept, None, settings)
    rows = [row for item in kept.history if (row := base.table.row_of.get(item)) is not None]
    session = open_session(
        base,
        device_of(kept.public),
        history=np.array(rows, np.int32),
        counts=kept.counts,
        runtime=settings.runtime,
        allow_unsigned=settings.allow_unsigned,
        verify=settings.verify,
        guard=settings.guard,
        budget=_own_budget(base, settings),
    ).resume([each.data for each in kept.payloads])
    popular = tuple(base.table.ids[row] for row in base.table.popularity[:POPULAR].tolist())
    return Resident(kept, session, settings)._keep(session, base=base.id, popular=popular)


def _own_budget(base: Base, settings: Settings) -> Budget:
    """Return what payloads are held to; a release may raise the floor above it, and then who is asked says so by name."""
    try:
        lower(base, floor(base), settings.budget)
    except BudgetError:
        return UNLIMITED
    return settings.budget


def _with(asking: Asking, **changed: object) -> Asking:
    """Change some of where a device stands."""
    return msgspec.structs.replace(asking, **changed)
