"""Faults planted on purpose: each takes one rule out of the running code, and the simulator is asked whether it notices.

A simulator that finds nothing proves nothing, until it is known what it would find. Each fault replaces one function or method
for the time of a run; nothing of the world around it knows.
"""
# ruff: noqa: ARG001 - a fault takes what the rule takes, and does without some of it

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, TypeAlias
from unittest.mock import patch

import msgspec

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.payload import Header
from ossia.adaptation.releases import Rollout, place
from ossia.device import following, resident, run
from ossia.device.exchange import Answer, Request
from ossia.device.guard import Guard
from ossia.device.home import Keeper
from ossia.device.kept import Kept
from ossia.device.policy import Backoff
from ossia.device.resident import Resident, open_resident
from ossia.device.run import Device, Ranked
from ossia.device.session import Session, Version
from ossia.device.settings import Settings
from ossia.device.shown import Shown
from ossia.simulation.cloud import Memory
from ossia.simulation.disk import VirtualDisk
from ossia.simulation.world import Report, World

Planted: TypeAlias = tuple[tuple[object, str, Callable[..., Any]], ...]
"""What is replaced: owner, name, and by what."""

_check_wanted, _next, _failed = Session._check_wanted, Memory._next, Resident._failed
_resume, _hear = Session.resume, following.hear
_ask, _rank, _click = Resident.ask, Resident.rank, Device.click


def _allow_replays(self: Session, header: Header, now: int) -> None:
    """Judge everything but the sequence."""
    _check_wanted(replace(self, counts={}), header, now)


def _allow_strangers(self: Session, header: Header, now: int) -> None:
    """Judge everything but whom it is for."""
    _check_wanted(self, replace(header, device_id=self.device_id), now)


def _never_expires(self: Session, now: int) -> Version:
    """Let the newest payload rank for ever."""
    return self.payloads[0].version if self.payloads else self.plain


def _no_older(self: Session, now: int) -> Version:
    """Know the newest payload alone."""
    first = self.payloads[:1]
    return first[0].version if first and now < first[0].header.expiry else self.plain


def _lockstep(self: Backoff, failures: int, chance: float, retry_after_s: int = 0) -> int:
    """Wait without chance, as long as everybody else."""
    return retry_after_s + min(self.cap_s, self.first_s * 2 ** min(failures, 32))


def _believe_the_clock(self: Backoff, now: int, not_before: int) -> bool:
    """Wait until then, even if then is next year."""
    return now >= not_before


def _trust_the_system(self: VirtualDisk, descriptor: int) -> None:
    """Write, and do not flush."""
    self._step()


def _forget_the_folder(self: VirtualDisk, folder: Path) -> None:
    """Do not flush names."""
    self._step()


def _take_first(self: Keeper, after: Resident) -> None:
    """Go on first, and write clicks when there is time."""
    clicks_only = after.kept.log == self.resident.kept.log and after.kept.highest == self.resident.kept.highest
    self.resident = after
    if not clicks_only:
        self._home.commit(after.kept)


def _ask_first(self: Device, item: str) -> Ranked:
    """Ask, and then rank."""
    list(self.wake())
    return _click(self, item)


def _tell_the_history(self: Resident, now: int, random: Random) -> tuple[Resident, Request] | None:
    """Send the history along."""
    asked = _ask(self, now, random)
    if asked is None or asked[1].kind != "ask":
        return asked
    told = replace(asked[1], body=asked[1].body + ",".join(self.kept.history).encode())
    return self._log(told, asked[0].kept.asking, now)


def _leave_unlogged(self: Resident, request: Request, asking: Any, now: int) -> tuple[Resident, Request]:
    """Keep no log."""
    return self._keep(self.session, asking=asking), request


def _clear_on_failure(self: Resident, answer: Answer, now: int, random: Random) -> Resident:
    """Forget what was in force when something is wrong."""
    after = _failed(self, answer, now, random)
    return after if after.session is None else after._keep(replace(after.session, payloads=()))


def _lose_the_count(self: Memory, device: bytes) -> int | None:
    """Give out sequences from memory, and lose the last ones now and then."""
    given = _next(self, device)
    if given is not None and given % 5 == 0:
        self.sequences[device] -= 2
    return given


def _believe_rows(base: Base, request: Request, adaptation: Adaptation, sent: bytes, kept: Kept) -> bytes:
    """Keep what came."""
    return sent


def _next_at_once(self: Rollout, secret: bytes, held: int) -> int:
    """Want the newest release, whosever turn it is."""
    return max(held, self.next if self.next not in self.halted else self.settled)


def _back_to_settled(self: Rollout, secret: bytes, held: int) -> int:
    """Want what everybody has, though it is older."""
    return self.next if place(secret, self.next) < self.percent / 100 and self.next not in self.halted else self.settled


def _lose_the_history(kept: Kept, base: Base, settings: Settings) -> Resident:
    """Take up another base, and begin anew."""
    return open_resident(msgspec.structs.replace(kept, history=()), base, settings)


def _tell_unasked(self: Resident, now: int, random: Random) -> tuple[Resident, Request] | None:
    """Tell how a release fares, without consent."""
    asked = _ask(replace(self, settings=replace(self.settings, tells=True)), now, random)
    return None if asked is None else (replace(asked[0], settings=self.settings), asked[1])


def _resume_unjudged(self: Session, kept: Sequence[bytes]) -> Session:
    """Take up what was accepted before, whoever signed it."""
    return replace(_resume(replace(self, verify=lambda *_: None), kept), verify=self.verify)


def _keep_the_list(resident: Resident, news: following.News, now: int, random: Random) -> Resident:
    """Believe the keys that were believed before."""
    return _hear(resident, replace(news, verify=None), now, random)


def _rank_by_clock(self: Resident, ids: Sequence[str] | None, k: int, now: int) -> Shown:
    """Have nothing to show without a base."""
    return _rank(self, ids, k, now) if self.session is not None else Shown((), (), "popularity")


PLANTED: dict[str, Planted] = {
    "the sequence is not checked": ((Session, "_check_wanted", _allow_replays),),
    "another device's payload is taken": ((Session, "_check_wanted", _allow_strangers),),
    "a payload never runs out": ((Session, "in_force", _never_expires),),
    "the older payload is forgotten": ((Session, "in_force", _no_older),),
    "a refused payload clears what was in force": ((Resident, "_failed", _clear_on_failure),),
    "the guard is off": ((Guard, "condemns", lambda _self, _evidence: False),),
    "waits have no jitter": ((Backoff, "wait", _lockstep),),
    "a wrong clock is believed": ((Backoff, "due", _believe_the_clock),),
    "the store is not flushed": ((VirtualDisk, "flush", _trust_the_system),),
    "the folder is not flushed": ((VirtualDisk, "flush_folder", _forget_the_folder),),
    "a click is acknowledged before it is kept": ((Keeper, "take", _take_first),),
    "a ranking waits for the network": ((Device, "click", _ask_first),),
    "the history leaves": ((Resident, "ask", _tell_the_history),),
    "a request leaves unlogged": ((Resident, "_log", _leave_unlogged),),
    "the cloud forgets sequences": ((Memory, "_next", _lose_the_count),),
    "rows are kept unjudged": ((resident, "take_rows", _believe_rows),),
    "a release is taken before its turn": ((Rollout, "wanted", _next_at_once),),
    "a release goes back": ((Rollout, "wanted", _back_to_settled),),
    "releases are not looked for": ((run, "look", lambda *_: None),),
    "a new base costs the history": ((following, "open_resident", _lose_the_history),),
    "a new list of keys is not taken": ((run, "hear", _keep_the_list),),
    "what a stolen key signed stays in force": ((Session, "resume", _resume_unjudged),),
    "a release is told of without consent": ((Resident, "ask", _tell_unasked),),
    "without a base nothing is shown": ((Resident, "rank", _rank_by_clock),),
}
"""What can be wrong, in words, and how it is made wrong."""


@contextmanager
def plant(name: str) -> Iterator[None]:
    """Take a rule out for the time of a block.

    Args:
        name: one of `PLANTED`.

    Yields:
        nothing.
    """
    with ExitStack() as stack:
        for owner, attribute, fault in PLANTED[name]:
            stack.enter_context(patch.object(owner, attribute, fault))
        yield


def find(name: str, bases: Sequence[Base], seeds: Sequence[int], *, devices: int, days: float) -> Report:
    """Run worlds with a fault until one breaks a law.

    Args:
        name: one of `PLANTED`.
        bases: two.
        seeds: tried in order.
        devices: of each world.
        days: of each world.

    Returns:
        the report of the first world that broke a law, or of the last.
    """
    assert seeds, "no seed to try"
    with plant(name):
        for seed in seeds:
            report = World(bases, seed, devices=devices, days=days, theft=True).run()
            if report.broken:
                break
    return report
