"""How a device follows releases: when it looks for one, and what it does with what came. Plain functions, without any I/O.

    look        every so often; a look that brings nothing waits with full jitter, as an ask does
    hear        another base, another list of keys, or both, are in force in one step, between two clicks

The history goes along by its ids, whatever rows the new base gives them. Payloads for the old base are left behind, and one
that still arrives is refused as `another_base`; so the next ask is due at once. Payloads of a revoked key go here, too.

Which release it is, and whether it can be believed, is `ossia.device.update`'s business; it is on the disk, whole, before it is
news. Forward, never back: what is not above the release in force is no news.
"""

from dataclasses import dataclass, field, replace
from random import Random

import msgspec

from ossia.adaptation.base import Base
from ossia.adaptation.payload import Verify
from ossia.device.exchange import Request
from ossia.device.kept import Exchange, Following, Kept
from ossia.device.resident import Resident, open_resident


@dataclass(frozen=True, eq=False)
class News:
    """What came of a look.

    Attributes:
        heard: whether a mirror gave what can be believed.
        release: the release in force on the disk; 0 before the first.
        base: its base, loaded; None where the device has it, or there is none.
        verify: checks signatures by the new list of keys; None: the list is as it was.
        received: bytes that came.
        unfit: a release that was signed for this device and can't be loaded; 0: none.
        faults: what was refused, in sentences.
    """

    heard: bool
    release: int = 0
    base: Base | None = None
    verify: Verify | None = field(default=None, repr=False)
    received: int = 0
    unfit: int = 0
    faults: tuple[str, ...] = ()


def adopt(kept: Kept, release: int) -> Kept:
    """Go on with the release that is in force on the disk, be it that the power went before the device could.

    Args:
        kept: what the device keeps.
        release: in force.

    Returns:
        what to keep; after another release the next ask is due at once.
    """
    before = kept.following
    if release == before.release:
        return kept
    following = Following(release, before.looked, before.failures, before.not_before, unfit=before.unfit, told=before.told)
    return msgspec.structs.replace(kept, following=following, asking=msgspec.structs.replace(kept.asking, served=None))


def look(resident: Resident, now: int, random: Random) -> tuple[Resident, Request] | None:
    """Say that it is time to look for a release.

    Args:
        resident: the device.
        now: seconds since 1970.
        random: draws the wait in case that nothing comes of it.

    Returns:
        the device, to be kept before anything leaves, and what will leave; None: not now.
    """
    following, settings = resident.kept.following, resident.settings
    recent = following.looked is not None and 0 <= now - following.looked < settings.look_s
    if (recent and resident.session is not None) or not settings.backoff.due(now, following.not_before):
        return None
    failures = following.failures + 1
    wait = settings.backoff.wait(failures, random.random())
    request = Request("look", "GET", "")
    following = msgspec.structs.replace(following, failures=failures, not_before=now + wait)
    return _keep(resident, following, request.disclosed(now)), request


def hear(resident: Resident, news: News, now: int, random: Random) -> Resident:
    """Take what came of a look.

    Args:
        resident: the device.
        news: what came.
        now: seconds since 1970.
        random: draws the next wait.

    Returns:
        the device with what is new in force.
    """
    record = Exchange(now, "reply", news.received) if news.received else None
    after = _keep(resident, _after(resident, news, now, random), record)
    base = news.base if news.release >= after.kept.following.release else None
    if base is None and news.verify is None:
        return after
    if base is not None:
        after = replace(after, kept=adopt(after.kept, news.release))
    settings = after.settings if news.verify is None else replace(after.settings, verify=news.verify)
    held = after.session.base if after.session is not None else None
    return _ask_soon(open_resident(after.kept, base or held, settings), before=after.kept)


def _after(resident: Resident, news: News, now: int, random: Random) -> Following:
    """Say when to look again."""
    following = msgspec.structs.replace(resident.kept.following, unfit=max(resident.kept.following.unfit, news.unfit))
    if news.heard:
        return msgspec.structs.replace(following, looked=now, failures=0, not_before=0)
    wait = resident.settings.backoff.wait(max(following.failures, 1), random.random())
    return msgspec.structs.replace(following, not_before=now + wait)


def _ask_soon(resident: Resident, before: Kept) -> Resident:
    """Let the next ask be due if payloads were left behind."""
    if len(resident.kept.payloads) == len(before.payloads):
        return resident
    asking = msgspec.structs.replace(resident.kept.asking, served=None)
    return replace(resident, kept=msgspec.structs.replace(resident.kept, asking=asking))


def _keep(resident: Resident, following: Following, record: Exchange | None) -> Resident:
    """Go on with another standing, and a line more in the log."""
    log = resident.kept.log + (b"" if record is None else record.pack())
    return replace(resident, kept=msgspec.structs.replace(resident.kept, following=following, log=log))
