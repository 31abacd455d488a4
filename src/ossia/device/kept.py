"""What a device must not forget, as one value in one file: history, base, payloads, sequence, key, every request that left.

    magic OSSD │ version │ SHA-256 of what follows │ MessagePack of `Kept`

Everything that belongs together is in one file, written whole: so there is no moment in which a payload is kept and its
sequence is not. Damaged bytes are an `ArtifactError`, never half a state. Rows that arrived with a payload lie beside it; the
payload's own digest vouches for them.

The history is kept by the catalog's ids, not by row numbers: rows are a base's, and a new base may number them anew.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from ossia.adaptation.payload import HEADER
from ossia.errors import ArtifactError

MAGIC: Final = b"OSSD"
VERSION: Final = 2
HEAD: Final = struct.Struct("<4sB32s")
EXCHANGE: Final = struct.Struct("<QBI16sf")
KINDS: Final = ("enroll", "ask", "erase", "reply", "look", "report")
"""What a record of the log can be; all but `reply` left the device."""
BORNE: Final = 8
"""Clicks after which a release counts as borne."""


class Exchange(msgspec.Struct, frozen=True):
    """One request that left, or the reply to one.

    Attributes:
        at: when, by the device's clock, seconds since 1970.
        kind: one of `KINDS`.
        body_bytes: of its body.
        profile: the first 16 bytes of the SHA-256 of the profile in it; zeros where there was none.
        norm: the length of that profile's vector.
    """

    at: int
    kind: str
    body_bytes: int
    profile: bytes = bytes(16)
    norm: float = 0.0

    def pack(self) -> bytes:
        """Return its 33 bytes in the log."""
        return EXCHANGE.pack(self.at, KINDS.index(self.kind), self.body_bytes, self.profile, self.norm)


class KeptPayload(msgspec.Struct, frozen=True, array_like=True):
    """A payload that was accepted, as it came, and the bytes of rows that came with it (none if they were not asked for)."""

    data: bytes
    rows: bytes = b""


class Asking(msgspec.Struct, frozen=True, array_like=True):
    """Where a device stands with its asks.

    Attributes:
        served: when the last payload came; None: never.
        clicks: since then.
        failures: asks in a row that brought nothing; one that is under way counts.
        not_before: when to ask again, at the earliest.
        profile: the one last sent, as bytes; empty before the first.
    """

    served: int | None = None
    clicks: int = 0
    failures: int = 0
    not_before: int = 0
    profile: bytes = b""


class Following(msgspec.Struct, frozen=True, array_like=True):
    """Where a device stands with releases.

    Attributes:
        release: whose base it ranks with; 0: one that came with the app.
        looked: when it last heard what there is; None: never.
        failures: looks in a row that brought nothing; one that is under way counts.
        not_before: when to look again, at the earliest.
        clicks: since the release is in force.
        worse: whether the guard dropped a payload since.
        unfit: the newest release that was signed and can't be loaded here; 0: none.
        told: the last verdicts that the service has heard.
    """

    release: int = 0
    looked: int | None = None
    failures: int = 0
    not_before: int = 0
    clicks: int = 0
    worse: bool = False
    unfit: int = 0
    told: tuple[tuple[int, bool], ...] = ()

    @property
    def verdict(self) -> tuple[int, bool] | None:
        """What there is to tell: a release, and whether it does harm; None: nothing that was not told."""
        found = [(self.unfit, True)] if self.unfit > self.release else []
        if self.release and (self.worse or self.clicks >= BORNE):
            found.append((self.release, self.worse))
        return next((each for each in found if each not in self.told), None)

    def after_click(self, dropped: bool) -> "Following":
        """Count a click, or a payload that came.

        Args:
            dropped: whether the guard dropped a payload over it.

        Returns:
            where the device stands after it.
        """
        if not self.release:
            return self
        return msgspec.structs.replace(self, clicks=min(self.clicks + 1, BORNE), worse=self.worse or dropped)

    def after_telling(self) -> "Following":
        """Note that the verdict was heard.

        Returns:
            where the device stands after it; verdicts of long ago are forgotten.
        """
        heard = () if self.verdict is None else (self.verdict,)
        return msgspec.structs.replace(self, told=(*self.told, *heard)[-4:])


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a device keeps.

    Attributes:
        secret: the seed of its Ed25519 key, 32 bytes.
        public: the public half, 32 bytes.
        base: the id of the base that it last ranked with; empty before the first.
        history: ids of the catalog, oldest first.
        payloads: newest first.
        counts: the highest sequence ever accepted of each key, by its id.
        token: from enrolment; empty without.
        asking: where it stands with its asks.
        following: where it stands with releases.
        popular: the base's most popular ids: what to show if the base is gone.
        log: `Exchange` records, oldest first, of all that ever left.
    """

    secret: bytes
    public: bytes
    base: bytes = b""
    history: tuple[str, ...] = ()
    payloads: tuple[KeptPayload, ...] = ()
    counts: dict[int, int] = {}
    token: str = ""
    asking: Asking = Asking()
    following: Following = Following()
    popular: tuple[str, ...] = ()
    log: bytes = b""

    @property
    def highest(self) -> int:
        """The highest sequence ever accepted, of any key."""
        return max(self.counts.values(), default=0)


def new_kept(secret: bytes) -> Kept:
    """Begin a device's life.

    Args:
        secret: 32 random bytes.

    Returns:
        what there is to keep: a key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Kept(secret, Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw())


def encode_kept(kept: Kept) -> bytes:
    """Write what is kept as the bytes of one file.

    Args:
        kept: what to write.

    Returns:
        37 bytes of head, and the body.
    """
    body = _ENCODER.encode(kept)
    return HEAD.pack(MAGIC, VERSION, hashlib.sha256(body).digest()) + body


def decode_kept(data: bytes, place: str) -> Kept:
    """Read what was kept.

    Args:
        data: a file's bytes.
        place: its name, for messages.

    Returns:
        what was kept.

    Raises:
        ArtifactError: another kind of file, another version, or damaged bytes.
    """
    if len(data) < HEAD.size:
        raise ArtifactError(f"{place}: expected at least {HEAD.size} bytes of a session, got {len(data)}")
    magic, version, digest = HEAD.unpack_from(data)
    if magic != MAGIC or not 1 <= version <= VERSION:
        raise ArtifactError(f"{place}: expected a session of version {VERSION} or older, got {magic!r} version {version}")
    if hashlib.sha256(data[HEAD.size :]).digest() != digest:
        raise ArtifactError(f"{place}: expected the bytes that were written, got others")
    try:
        return _DECODER.decode(data[HEAD.size :]) if version == VERSION else _read_first(data[HEAD.size :])
    except msgspec.MsgspecError as error:
        raise ArtifactError(f"{place}: expected a session, got: {error}") from error


def _read_first(body: bytes) -> Kept:
    """Read a session of the first version, which counted all keys as one: the count is that of its newest payload's key."""
    fields = msgspec.msgpack.decode(body)
    highest = fields.pop("highest", 0)
    kept = msgspec.convert(fields, Kept)
    key = HEADER.unpack_from(kept.payloads[0].data)[11] if kept.payloads else 0
    return msgspec.structs.replace(kept, counts={int(key): highest} if highest else {})


def exchanges(log: bytes) -> Iterator[Exchange]:
    """Read a log.

    Args:
        log: of `Kept`.

    Yields:
        its records, oldest first.
    """
    for at, kind, size, profile, norm in EXCHANGE.iter_unpack(log):
        yield Exchange(at, KINDS[kind], size, profile, norm)


def bytes_since(log: bytes, now: int, seconds: int) -> int:
    """Count what went over the wire lately.

    Args:
        log: of `Kept`.
        now: seconds since 1970.
        seconds: how far to look back.

    Returns:
        bytes of bodies, both ways; records of a time that is yet to be do not count.
    """
    return sum(size for at, _, size, _, _ in EXCHANGE.iter_unpack(log) if 0 <= now - at < seconds)


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Kept)
