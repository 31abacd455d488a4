"""The laws of a fleet, and the ledger that each simulated device is held to.

A ledger knows what a device was told and what it acknowledged, and nothing of how the device works. What should be true is
worked out from it, event by event, and compared.

    answered      every rank call gives as many items as were asked for, and nothing is sent meanwhile
    in force      the newest payload that has not run out, else the older one, else the base, else what is popular
    sequence      what is accepted is above whatever was; it never goes back, over power cuts neither
    genuine       what is accepted was signed by the cloud, for this device, for its base, and in time by its clock
    revoked       once a list of keys without it is in force, nothing is accepted or held that a stolen key signed
    unmoved       what is refused leaves the ranking as it was, byte for byte
    kept          what was acknowledged is there after a power cut
    disclosed     a request is in the log on the disk before it leaves, and holds the profile and no item
    rows          what is kept beside a payload is what it vouches for; where it is nothing, all rows are asked for again
    staged        a device wants no release before its turn, none that was halted, and none below the one that it has
    forward       the release in force never goes back, over power cuts neither, and is one that can be loaded
    updated       in the end whoever could have the newest release has it, and whoever could hear of a new list of keys
    guarded       a harmful payload goes when its user walks along the ring, which it turns around; a harmless one stays
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ossia.adaptation.payload import HEADER
from ossia.adaptation.releases import Rollout, place
from ossia.device.exchange import Request
from ossia.device.guard import Guard
from ossia.device.kept import Kept, decode_kept
from ossia.device.resident import Resident
from ossia.device.run import Ranked
from ossia.device.session import CLOCK_TOLERANCE, HELD
from ossia.errors import ArtifactError
from ossia.simulation.peril import Doubt
from ossia.simulation.stand_in import CANARY, SIGNER

TOP = 5


class LawBroken(Exception):  # noqa: N818 - it is no error of the program that broke it
    """A law of the fleet does not hold.

    Attributes:
        law: its name.
    """

    def __init__(self, law: str, message: str) -> None:
        """Say which law, and how.

        Args:
            law: its name.
            message: what was expected, what was found.
        """
        super().__init__(f"{law}: {message}")
        self.law = law


@dataclass(frozen=True)
class Held:
    """A payload that a device accepted."""

    data: bytes
    harmful: bool

    @property
    def sequence(self) -> int:
        """Its sequence."""
        return int(HEADER.unpack_from(self.data)[8])

    @property
    def expiry(self) -> int:
        """When it runs out."""
        return int(HEADER.unpack_from(self.data)[10])


@dataclass
class Ledger:
    """What one device acknowledged.

    Attributes:
        device: its id.
        history: clicks that it said it kept, the last six.
        counts: the highest sequence that it accepted of each key.
        key: the one that it believes.
        held: payloads that it should hold, newest first.
        release: the highest that was in force.
    """

    device: bytes
    history: tuple[str, ...] = ()
    counts: dict[int, int] = field(default_factory=dict)
    key: int = SIGNER.key_id
    held: list[Held] = field(default_factory=list)
    release: int = 0

    def check_ranked(self, ranked: Ranked, resident: Resident, now: int) -> None:
        """Hold a ranking to what should have ranked, and note the click.

        Args:
            ranked: what came of a click.
            resident: the device after it.
            now: by the device's clock.

        Raises:
            LawBroken: it is not what it should be.
        """
        if len(set(ranked.shown.ids)) != TOP:
            raise LawBroken("answered", f"expected {TOP} items, got {ranked.shown.ids}")
        if ranked.known and not ranked.fault:
            self.history = (*self.history, ranked.item)[-6:]
        if resident.kept.history != self.history:
            raise LawBroken("kept", f"expected the history {self.history}, got {resident.kept.history}")
        self.check_held(resident)
        expected = self._in_force(resident, now)
        if ranked.shown.by != expected:
            raise LawBroken("in force", f"expected {expected}, got {ranked.shown.by}")

    def check_accepted(self, data: bytes, known: dict[bytes, bool], base_id: bytes, now: int) -> None:
        """Hold an accepted payload to what the cloud signed, and note it.

        Args:
            data: its bytes.
            known: what the cloud signed for this device, and whether it does harm.
            base_id: of the device's base.
            now: by the device's clock.

        Raises:
            LawBroken: it should have been refused.
        """
        if data not in known:
            raise LawBroken("genuine", "expected only what the cloud signed for this device, accepted another")
        _, _, _, _, _, base, _, device, sequence, issued, expiry, key = HEADER.unpack_from(data)
        if key != self.key:
            raise LawBroken("revoked", f"expected key {self.key}, accepted what key {key} signed")
        if sequence <= self.counts.get(key, 0):
            raise LawBroken("sequence", f"expected above {self.counts[key]}, accepted {sequence}")
        in_time = issued <= now + CLOCK_TOLERANCE and now < expiry
        if (device, base) != (self.device, base_id[:16]) or not in_time:
            raise LawBroken("genuine", "expected one for this device and base, in time; accepted another")
        self.counts[key] = sequence
        self.held.insert(0, Held(data, known[data]))

    def check_held(self, resident: Resident) -> None:
        """Hold what a device holds to what it should hold.

        Args:
            resident: the device.

        Raises:
            LawBroken: a payload is gone, or one should be.
        """
        if resident.kept.counts != self.counts:
            raise LawBroken("sequence", f"expected {self.counts}, got {resident.kept.counts}")
        there = [each.data for each in resident.kept.payloads]
        self.held = [each for each in self.held if each.data in there or not each.harmful][:HELD]
        if there != [each.data for each in self.held]:
            raise LawBroken("kept", f"expected {len(self.held)} payloads, got {len(there)}, or others")
        if self.held and self.held[0].harmful and self._walks():
            raise LawBroken("guarded", f"expected a harmful payload to go after {self.history}")

    def check_reborn(self, kept: Kept, doubts: Sequence[Doubt], known: dict[bytes, bool]) -> None:
        """Hold what is found after a power cut to what was acknowledged; what was under way may be there or not.

        Args:
            kept: what was found.
            doubts: what was under way, or was refused by the disk since its last good write.
            known: what the cloud signed for this device, and whether it does harm.

        Raises:
            LawBroken: something acknowledged is gone, or something is there that nobody told.
        """
        histories = {self.history} | {(*self.history, each.click)[-6:] for each in doubts if each.click}
        if kept.history not in histories:
            raise LawBroken("kept", f"expected one of {histories}, found {kept.history}")
        arrived = [each.payload for each in doubts if each.payload]
        taken = next((each for each in arrived if kept.counts != self.counts and kept.counts == self._counts_with(each)), None)
        if kept.counts != self.counts and taken is None:
            raise LawBroken("sequence", f"expected {self.counts}, or with one of {len(arrived)} payloads, found {kept.counts}")
        if taken is not None:
            self.held.insert(0, Held(taken, known.get(taken, False)))
        self.history, self.counts = kept.history, dict(kept.counts)

    def check_rows(self, resident: Resident) -> None:
        """Hold the rows beside the newest payload to what it names, where the device wants them.

        Args:
            resident: the device; a payload was just taken.

        Raises:
            LawBroken: they are others, or are missing and not asked for.
        """
        session, kept = resident.session, resident.kept
        codes = None if session is None or session.own is None else session.own.adaptation.rows
        if session is None or codes is None or not resident.settings.rows:
            return
        found = kept.payloads[0].rows
        if found != session.base.table.row_bytes(codes) and (found or not kept.asking.failures):
            raise LawBroken("rows", f"expected the rows that the payload names, or an ask for all, got {len(found)} bytes")

    def check_release(self, resident: Resident) -> None:
        """Hold the release in force to those that were.

        Args:
            resident: the device.

        Raises:
            LawBroken: it went back.
        """
        if resident.kept.following.release < self.release:
            raise LawBroken("forward", f"expected release {self.release} or later, got {resident.kept.following.release}")
        self.release = resident.kept.following.release

    def believe(self, key: int) -> None:
        """Leave behind what is signed by another key.

        Args:
            key: the one on the list in force.
        """
        self.key = key
        self.held = [each for each in self.held if HEADER.unpack_from(each.data)[11] == key]

    def move(self, base_id: bytes) -> None:
        """Leave behind what is for another base.

        Args:
            base_id: of the device's base.
        """
        self.held = [each for each in self.held if HEADER.unpack_from(each.data)[5] == base_id[:16]]

    def _counts_with(self, payload: bytes) -> dict[int, int]:
        """Work out the counts after a payload; they never go back."""
        _, _, _, _, _, _, _, _, sequence, _, _, key = HEADER.unpack_from(payload)
        return self.counts | {key: max(sequence, self.counts.get(key, 0))}

    def _walks(self) -> bool:
        """Tell whether nearly all of the last clicks were the next ones on the ring."""
        places = [int(each[len(CANARY) : -1]) for each in self.history]
        return sum(after == before + 1 for before, after in pairwise(places)) >= Guard().least

    def _in_force(self, resident: Resident, now: int) -> str:
        """Work out what should rank."""
        if resident.session is None or not self.history:
            return "popularity"
        return next((f"payload {each.sequence}" for each in self.held if now < each.expiry), "base")


def check_staged(rollout: Rollout, secret: bytes, held: int, wanted: int) -> None:
    """Hold the release that a device wants to its turn.

    Args:
        rollout: who may have what.
        secret: the device's own.
        held: the release that it has.
        wanted: the one that it wants.

    Raises:
        LawBroken: it is not its turn, or it was halted, or is an older one.
    """
    mine = place(secret, rollout.next) * 100 < rollout.percent or held in rollout.halted
    allowed = {held, rollout.settled} | ({rollout.next} if mine and rollout.next not in rollout.halted else set())
    if wanted < held or wanted not in allowed:
        raise LawBroken("staged", f"expected one of {sorted(allowed)}, at least {held}; wanted {wanted}")


def check_disclosed(request: Request, resident: Resident, on_disk: bytes, canary: str, now: int) -> None:
    """Hold a request to what may leave, and to the log.

    Args:
        request: about to leave.
        resident: the device.
        on_disk: what would be found after a power cut.
        canary: how every item's id begins.
        now: by the device's clock.

    Raises:
        LawBroken: it holds more than it should, or the log does not hold it.
    """
    try:
        log = decode_kept(on_disk, "session").log
    except ArtifactError as error:
        raise LawBroken("disclosed", f"expected a session on the disk, got: {error}") from error
    if not log.endswith(request.disclosed(now).pack()):
        raise LawBroken("disclosed", "expected the request in the log on the disk before it leaves")
    session, told = resident.session, request.path.encode() + request.token.encode() + request.body
    rows = b"" if session is None else np.asarray(session.history, "<i4").tobytes()
    if canary.encode() in told or (len(rows) > 8 and rows in told):
        raise LawBroken("disclosed", "expected no item to leave, found one")
