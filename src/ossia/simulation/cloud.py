"""The cloud in a simulated world: the service's own rules, without its sockets, threads and files.

Tokens, enrolment, the judgement of asks, sequences before signatures, payloads and refusals are `ossia.service`'s. The store is
a dictionary that survives the cloud's death, as the real one does; the queue is a count of asks in this second.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future

import msgspec

from ossia.adaptation.base import Base
from ossia.adaptation.payload import HEADER
from ossia.adaptation.request import Reply, decode_ask, encode_reply
from ossia.device.exchange import Answer, Request
from ossia.errors import BudgetError, OssiaError, PayloadError
from ossia.service.faults import RequestError, overloaded
from ossia.service.issue import Issuer, Order
from ossia.service.keychain import Signer
from ossia.service.store import Store
from ossia.service.surface import Enrolled, Enrolment, Report, Reported
from ossia.service.tokens import Tokens, check_enrolment
from ossia.simulation.laws import LawBroken
from ossia.simulation.shelf import Shelf
from ossia.simulation.stand_in import NEXT_SIGNER, SIGNER, KeyList, StandIn

LIFE_S = (3 * 86_400, 3 * 86_400, 8 * 3_600)
"""How long payloads live: every third runs out before the one it follows, as at the end of a key."""


class Memory(Store):
    """Sequences in a dictionary, with the answers of the real store."""

    def __init__(self) -> None:
        self.sequences: dict[bytes, int] = {}

    def take_in(self, device: bytes) -> int:
        """Enroll a device.

        Args:
            device: 16 bytes.

        Returns:
            its highest sequence.
        """
        return self.sequences.setdefault(device, 0)

    def advance(self, devices: Sequence[bytes]) -> "Future[list[int | None]]":
        """Take the next sequence of each device.

        Args:
            devices: 16 bytes each.

        Returns:
            one sequence each, None for a device that is not enrolled.
        """
        done: Future[list[int | None]] = Future()
        done.set_result([self._next(device) for device in devices])
        return done

    def _next(self, device: bytes) -> int | None:
        """Count one device up."""
        if device not in self.sequences:
            return None
        self.sequences[device] += 1
        return self.sequences[device]


class Cloud:
    """A service that devices ask.

    Args:
        bases: what was ever published.
        capacity: asks that it bears in a second.
    """

    def __init__(self, bases: Sequence[Base], *, capacity: int) -> None:
        self.store, self.tokens, self.capacity = Memory(), Tokens(b"s" * 32), capacity
        self.personalizers = [StandIn(base) for base in bases]
        self._sign_with(SIGNER)
        self.shelf, self.up = Shelf({1: bases[0], 2: None, 3: bases[1], 4: bases[1]}), True
        self.keys = KeyList(SIGNER.key_id)
        self.issued: dict[bytes, dict[bytes, bool]] = {}
        self.minutes: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()
        self._second, self._load = -1, 0
        self._signed: set[tuple[bytes, int]] = set()

    def rotate(self) -> None:
        """Sign with another key from now on, and give out a list with it alone."""
        self._sign_with(NEXT_SIGNER)
        self.keys = KeyList(NEXT_SIGNER.key_id)

    def spoil(self, harmful: bool) -> None:
        """Release personalizers that do harm, or mended ones.

        Args:
            harmful: whether they do.
        """
        for each in self.personalizers:
            each.harmful = harmful

    def serve(self, request: Request, now: float) -> Answer:
        """Answer a request.

        Args:
            request: as it came.
            now: the cloud's clock, which is right.

        Returns:
            the answer, as the service words it.
        """
        self.minutes[int(now) // 60] += 1
        try:
            self._admit(int(now))
            serve = {"enroll": self._enroll, "report": self._report}.get(request.kind, self._issue)
            return Answer(200, serve(request, int(now)))
        except OssiaError as error:
            status, name = _describe(error)
            self.refused[name] += 1
            body = msgspec.json.encode({"name": name, "error": str(error)})
            return Answer(status, body, getattr(error, "retry_after_s", 0))

    def _sign_with(self, signer: Signer) -> None:
        """Make issuers with a key."""
        self._issuers = [[Issuer(each, signer, self.store, life_s=life_s) for life_s in LIFE_S] for each in self.personalizers]

    def _admit(self, second: int) -> None:
        """Refuse fast what is beyond the queue."""
        self._load = self._load + 1 if second == self._second else 1
        self._second = second
        if self._load > self.capacity:
            raise overloaded(1)

    def _enroll(self, request: Request, now: int) -> bytes:
        """Take a device in."""
        ask = msgspec.json.decode(request.body, type=Enrolment)
        device = check_enrolment(bytes.fromhex(ask.public), ask.at, bytes.fromhex(ask.signature), now)
        sequence = self.store.take_in(device)
        return msgspec.json.encode(Enrolled(device=device.hex(), token=self.tokens.make(device, now), sequence=sequence))

    def _report(self, request: Request, now: int) -> bytes:
        """Hear how a release fares."""
        told = msgspec.json.decode(request.body, type=Report)
        return msgspec.json.encode(Reported(self.shelf.report(self.tokens.read(request.token, now), told.release, told.worse)))

    def _issue(self, request: Request, now: int) -> bytes:
        """Make a payload, and remember it, to know the true ones from others."""
        device = self.tokens.read(request.token, now)
        ask = decode_ask(request.body, self.personalizers[0].base.manifest.shape["dim"])
        held = next((issuers for issuers in self._issuers if issuers[0].base.id[:16] == ask.base_id), self._issuers[0])
        issuer = held[len(self._signed) % len(LIFE_S)]
        [answer] = issuer.issue([Order(device, ask, now)])
        if isinstance(answer, Exception):
            raise answer
        self._remember(device, answer)
        return encode_reply(answer)

    def _remember(self, device: bytes, reply: Reply) -> None:
        """Keep a payload's bytes, and whether it does harm; a sequence that was given out before is a fault of ours."""
        sequence = int(HEADER.unpack_from(reply.payload)[8])
        if (device, sequence) in self._signed:
            raise LawBroken("no sequence is signed twice", f"{sequence} for {device.hex()}")
        self._signed.add((device, sequence))
        self.issued.setdefault(device, {})[reply.payload] = self.personalizers[0].harmful


def _describe(error: OssiaError) -> tuple[int, str]:
    """Give an error its status and name, as the service's app does."""
    if isinstance(error, RequestError):
        return error.status, error.name
    if isinstance(error, PayloadError):
        return 409 if error.refusal in ("another_base", "another_table") else 400, error.refusal
    return (422, "budget") if isinstance(error, BudgetError) else (400, "malformed")
