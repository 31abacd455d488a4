"""The payload: an adaptation as bytes. Normative text and byte tables: `docs/payload-format.md`.

    header 80 bytes │ gates │ codes │ delta │ table │ signature 64 bytes, if flag 0 is set

Sizes follow from the base's manifest, there are no names on the wire, padding bits are zero and the length is exact, so that an
adaptation has one spelling: `encode(decode(x)) == x`, or a `PayloadError` that names the field. This module only reads and
writes; whether a payload is *wanted* (device, clock, sequence) is the session's business.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.base import Base
from ossia.adaptation.sections import (
    DIGEST_BYTES,
    decode_codes,
    decode_delta,
    decode_gates,
    decode_table,
    encode_codes,
    encode_delta,
    encode_gates,
    encode_table,
)
from ossia.adaptation.wire import MAX_VARINT, Reader
from ossia.errors import PayloadError

MAGIC = b"OSSA"
VERSION = 1
HEADER = struct.Struct("<4sBBHI16s16s16sQIII")
SIGNATURE_BYTES = 64
ANY_DEVICE = bytes(16)
GATES, CODES, DELTA, TABLE = 1, 2, 4, 8  # bits of "sections present"

Sign = Callable[[bytes], bytes]
"""Message → 64 bytes of signature."""


@dataclass(frozen=True)
class Header:
    """What a payload says of itself before its body.

    Attributes:
        base_id: the first 16 bytes of the base's id.
        table_id: the first 16 bytes of the table's id.
        device_id: whom it is for; sixteen zeros: any device.
        sequence: grows with every payload of a device; an older one is a replay.
        issued: seconds since 1970.
        expiry: seconds since 1970, not before `issued`.
        key_id: which key signed it; 0 for none.
        signed: whether a signature follows the body.
    """

    base_id: bytes
    table_id: bytes
    device_id: bytes
    sequence: int
    issued: int
    expiry: int
    key_id: int = 0
    signed: bool = False


Verify = Callable[[Header, bytes, bytes], None]
"""Header, message, signature → nothing, or `PayloadError` by name (`ossia.adaptation.keys.TrustedKeys.verify`)."""


@dataclass(frozen=True, eq=False)
class Payload:
    """A decoded payload: its header and the adaptation it carries."""

    header: Header
    adaptation: Adaptation


def encode_payload(
    base: Base,
    adaptation: Adaptation,
    *,
    issued: int,
    expiry: int,
    device_id: bytes = ANY_DEVICE,
    sequence: int = 1,
    key_id: int = 0,
    sign: Sign | None = None,
) -> bytes:
    """Write an adaptation as bytes.

    Args:
        base: the base that it is for, with the table whose rows it names.
        adaptation: what to send; only the terms that are not None are written.
        issued: seconds since 1970, below 2³².
        expiry: seconds since 1970, below 2³².
        device_id: 16 bytes; zeros: any device.
        sequence: below 2⁶⁴.
        key_id: below 2³²; which key `sign` uses.
        sign: signs the bytes before it; None leaves the payload unsigned.

    Returns:
        80 bytes, the body, and 64 bytes of signature where `sign` is given.

    Raises:
        PayloadError: a number does not fit its field.
    """
    sections = (
        (GATES, adaptation.gates is not None, encode_gates),
        (CODES, adaptation.codes is not None, encode_codes),
        (DELTA, bool(adaptation.deltas), encode_delta),
        (TABLE, adaptation.rows is not None, encode_table),
    )
    present = sum(bit for bit, there, _ in sections if there)
    body = b"".join(encode(base, adaptation) for _, there, encode in sections if there)
    ids = (base.id[:16], base.table.id[:16], device_id)
    if len(device_id) != 16 or expiry < issued:
        raise PayloadError(
            f"header: expected 16 bytes of device id and expiry ≥ issued, got {len(device_id)}, {issued} … {expiry}"
        )
    try:
        header = HEADER.pack(MAGIC, VERSION, sign is not None, present, len(body), *ids, sequence, issued, expiry, key_id)
    except struct.error as error:
        raise PayloadError(f"header: expected numbers that fit their fields, got: {error}") from error
    signature = sign(header + body) if sign is not None else b""
    assert len(signature) == (SIGNATURE_BYTES if sign is not None else 0), "a signature is 64 bytes"
    return header + body + signature


def decode_payload(base: Base, data: bytes, *, allow_unsigned: bool = False, verify: Verify | None = None) -> Payload:
    """Read and check a payload; whatever is accepted encodes to the very same bytes again.

    Args:
        base: the base at hand, with its table.
        data: the payload as it came.
        allow_unsigned: accept a payload without signature.
        verify: raises for a signature that does not hold; without it a signed payload is refused, for nothing vouches for it.

    Returns:
        the header and the adaptation.

    Raises:
        PayloadError: anything that is not the one right spelling of an adaptation for this base; names the field.
    """
    header, present = _decode_header(base, data)
    _check_identity(base, header)
    end = len(data) - (SIGNATURE_BYTES if header.signed else 0)
    _check_signature(header, data[:end], data[end:], allow_unsigned, verify)
    reader = Reader(data[HEADER.size : end])
    adaptation = Adaptation(
        gates=decode_gates(base, reader) if present & GATES else None,
        codes=decode_codes(base, reader) if present & CODES else None,
        deltas=decode_delta(base, reader) if present & DELTA else (),
        rows=decode_table(base, header.table_id, reader) if present & TABLE else None,
    )
    if reader.left:
        raise PayloadError(f"body: expected its end, got {reader.left:,} more bytes")
    return Payload(header, adaptation)


def largest_payload(base: Base) -> int:
    """Bound what any payload for a base can take, so that whoever fetches one knows when to stop reading.

    Args:
        base: the base at hand, with its table.

    Returns:
        bytes: every section at its largest. A delta of rank 255 can be longer than a dense one, a row at most
        `MAX_VARINT` bytes.
    """
    slots = base.manifest.slots
    low_rank = sum(255 * (slot.channels + slot.inputs) for slot in slots)
    dense = sum(slot.channels * slot.inputs for slot in slots)
    sections = len(base.manifest.gates) + base.channels + 2 + len(slots) + 2 * max(low_rank, dense)
    rows = 1 + MAX_VARINT * (3 + len(base.table)) + DIGEST_BYTES
    return HEADER.size + sections + rows + SIGNATURE_BYTES


def _decode_header(base: Base, data: bytes) -> tuple[Header, int]:
    """Read the 80 bytes and hold them to the base at hand and to the length of the whole."""
    if len(data) < HEADER.size:
        raise PayloadError(f"payload: expected at least {HEADER.size} bytes, got {len(data)}", "truncated")
    magic, version, flags, present, length, base_id, table_id, device_id, *numbers = HEADER.unpack_from(data)
    sequence, issued, expiry, key_id = numbers
    expected = HEADER.size + length + (SIGNATURE_BYTES if flags & 1 else 0)
    if (magic, version) != (MAGIC, VERSION):
        raise PayloadError(f"header: expected {MAGIC!r} version {VERSION}, got {magic!r} version {version}")
    if flags > 1 or present > 15:
        raise PayloadError(f"header: expected known flags and sections, got flags {flags:#x}, sections {present:#x}")
    if len(data) > min(expected, largest := largest_payload(base)):
        bound = f"{expected:,} bytes by its header" if expected <= largest else f"at most {largest:,} bytes"
        raise PayloadError(f"payload: expected {bound}, got {len(data):,}", "oversized")
    if len(data) < expected:
        raise PayloadError(f"payload: expected {expected:,} bytes by its header, got {len(data):,}", "truncated")
    if expiry < issued:
        raise PayloadError(f"expiry: expected no time before issued ({issued}), got {expiry}")
    return Header(base_id, table_id, device_id, sequence, issued, expiry, key_id, bool(flags & 1)), present


def _check_identity(base: Base, header: Header) -> None:
    """Refuse what was made for another base, or for a table that the one at hand is no successor of."""
    if header.base_id != base.id[:16]:
        raise PayloadError(
            f"base: expected a payload for base {base.id[:16].hex()}, got one for {header.base_id.hex()}", "another_base"
        )
    if base.table.rows_at(header.table_id) is None:
        raise PayloadError(
            f"table: expected a payload for table {base.table.id[:16].hex()}, got one for {header.table_id.hex()}",
            "another_table",
        )


def _check_signature(header: Header, message: bytes, signature: bytes, allow_unsigned: bool, verify: Verify | None) -> None:
    """Refuse what nobody vouches for, before a byte of the body is read."""
    if header.signed:
        if verify is None:
            raise PayloadError(f"signature: signed with key {header.key_id:08x}, and no key is trusted here", "unknown_key")
        verify(header, message, signature)
    elif not allow_unsigned:
        raise PayloadError("signature: expected a signed payload, got an unsigned one", "unsigned")
