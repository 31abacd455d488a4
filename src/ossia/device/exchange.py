"""What a device says to a service, and what it hears: requests and answers as values. `ossia.device.client` carries them.

    enroll      the public key, the time, a signature                           no token
    ask         base id, table id, budget, how many candidates, the profile,    token
                and which rows of the last payload are here
    report      a release's number, whether it does harm: by consent alone      token
    erase       nothing                                                         token
    look        which files of a release are not here, to mirrors               no token

That is all that ever leaves. There is no item in it, and no history.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from ossia.adaptation.base import Base
from ossia.adaptation.enrolment import enrolment_message
from ossia.adaptation.profile import encode_profile
from ossia.adaptation.request import Ask, encode_ask
from ossia.device.kept import Exchange, Kept
from ossia.types import Budget, Profile

FIELDS: Final = {
    "enroll": ("public key", "time", "signature"),
    "ask": ("base id", "table id", "budget", "candidates wanted", "profile", "rows of the last payload", "token"),
    "report": ("release", "whether it does harm", "token"),
    "erase": ("token",),
    "look": ("files of a release that are not here",),
    "reply": (),
}
"""What each kind of request discloses, beside the address that it comes from."""


@dataclass(frozen=True)
class Request:
    """A request, ready to be sent.

    Attributes:
        kind: one of `ossia.device.kept.KINDS`.
        method: HTTP's.
        path: below the service's address.
        body: its bytes.
        token: shown as `Authorization: Bearer`; empty: none.
        profile: the profile's bytes within the body; empty without one.
        norm: the length of the profile's vector.
    """

    kind: str
    method: str
    path: str
    body: bytes = b""
    token: str = ""
    profile: bytes = b""
    norm: float = 0.0

    def disclosed(self, now: int) -> Exchange:
        """Say what leaves with it, for the log.

        Args:
            now: seconds since 1970.

        Returns:
            the record.
        """
        digest = hashlib.sha256(self.profile).digest()[:16] if self.profile else bytes(16)
        return Exchange(now, self.kind, len(self.body), digest, self.norm)


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP's; 0: nothing came.
        body: its bytes.
        retry_after_s: when the service would like to be asked again.
    """

    status: int
    body: bytes = b""
    retry_after_s: int = 0


NO_ANSWER: Final = Answer(0)


class _Enrolled(msgspec.Struct, frozen=True):
    """What a service says to a device that it took in."""

    device: str
    token: str


class _Fault(msgspec.Struct, frozen=True):
    """What a service says to a request that it refuses."""

    name: str = ""
    error: str = ""


def enroll_request(kept: Kept, now: int) -> Request:
    """Show the device's key.

    Args:
        kept: what the device keeps.
        now: seconds since 1970, below 2³².

    Returns:
        the request.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    at = min(max(now, 0), 2**32 - 1)
    signature = Ed25519PrivateKey.from_private_bytes(kept.secret).sign(enrolment_message(kept.public, at))
    document = {"public": kept.public.hex(), "at": at, "signature": signature.hex()}
    return Request("enroll", "POST", "/v1/devices", msgspec.json.encode(document))


def payload_request(
    kept: Kept, base: Base, profile: Profile, budget: Budget, *, candidates: int, rows: bool, held: bytes = b""
) -> Request:
    """Ask for a payload.

    Args:
        kept: what the device keeps; its token is shown.
        base: what it ranks with.
        profile: the user's state.
        budget: what the device can afford.
        candidates: how many of the base's best rows it wants.
        rows: whether it wants the rows' bytes.
        held: lists of the rows that are here.

    Returns:
        the request.

    Raises:
        PayloadError: a limit does not fit its field.
    """
    ask = Ask(base.id[:16], base.table.id[:16], budget, profile, rows, candidates, held)
    norm = float(np.linalg.norm(profile.state))
    return Request("ask", "POST", "/v1/payload", encode_ask(ask), kept.token, encode_profile(profile), norm)


def report_request(kept: Kept, release: int, worse: bool) -> Request:
    """Tell how a release fares here.

    Args:
        kept: what the device keeps; its token is shown.
        release: its number.
        worse: whether it does harm, or can't be loaded.

    Returns:
        the request.
    """
    document = {"release": release, "worse": worse}
    return Request("report", "POST", "/v1/guard", msgspec.json.encode(document), kept.token)


def erase_request(kept: Kept) -> Request:
    """Ask to be forgotten.

    Args:
        kept: what the device keeps.

    Returns:
        the request.
    """
    return Request("erase", "DELETE", "/v1/devices", token=kept.token)


def read_token(answer: Answer, device: bytes) -> str:
    """Read the answer to an enrolment.

    Args:
        answer: with status 200.
        device: our id.

    Returns:
        the token; empty if there is none for us in it.
    """
    try:
        told = msgspec.json.decode(answer.body, type=_Enrolled)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return told.token if told.device == device.hex() and told.token.isalnum() and len(told.token) <= 512 else ""


def read_fault(answer: Answer) -> str:
    """Say in a sentence why a request was not served.

    Args:
        answer: with another status than 200.

    Returns:
        such as `503 overloaded: queue: expected room, got none in time`.
    """
    if not answer.status:
        return "no answer"
    try:
        fault = msgspec.json.decode(answer.body, type=_Fault)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return str(answer.status)
    return f"{answer.status} {fault.name[:40]}: {fault.error[:200]}"
