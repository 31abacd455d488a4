"""What a device asks of the service and what it gets back, as bytes: the hot path. Normative text: `docs/service-protocol.md`.

    ask     magic OSSQ │ version │ flags │ candidates wanted │ base id │ table id │ three budgets │ profile │ rows held
    reply   three lengths │ payload │ candidates │ rows

The device is named by its token, beside the ask; the history is nowhere. A budget of zero is no limit. Rows are asked for by
flag 0: the reply then carries the exact bytes that the digest in the payload's table section is over, so that the payload
vouches for them; with flag 1 only what is missing to the rows that the ask says are held (`held_rows`). Candidates are the
base's own best rows for the profile, from which the device ranks with its own version.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int32

from ossia.adaptation.held_rows import MOST_BYTES
from ossia.adaptation.profile import decode_profile, encode_profile
from ossia.errors import PayloadError, Refusal
from ossia.types import Budget, Profile

ASK = struct.Struct("<4sBBH16s16sIII")
REPLY = struct.Struct("<III")
MAGIC = b"OSSQ"
VERSION = 1
MOST_CANDIDATES = 1_000
HOLDS = 2
"""The flag of an ask that says which rows are held; it goes with flag 0."""
LIMITS = ("download_bytes", "weight_bytes", "table_bytes")


@dataclass(frozen=True, eq=False)
class Ask:
    """What a device asks.

    Attributes:
        base_id: the first 16 bytes of the id of the base that it holds.
        table_id: likewise of its table.
        budget: what it can afford, in whole bytes; not `latency_us`, for which the service would need its cost table.
        profile: its user's state.
        rows: whether it wants the bytes of the rows that the payload names.
        candidates: how many candidates it wants.
        held: lists of the rows that it holds, from `encode_held`; nothing: it wants all of them.
    """

    base_id: bytes
    table_id: bytes
    budget: Budget
    profile: Profile
    rows: bool = False
    candidates: int = 0
    held: bytes = b""


@dataclass(frozen=True, eq=False)
class Reply:
    """What a device gets: a signed payload, and what it asked for beside it."""

    payload: bytes
    candidates: Int32[np.ndarray, " candidates"]
    rows: bytes = b""


def encode_ask(ask: Ask) -> bytes:
    """Write an ask.

    Args:
        ask: what to ask.

    Returns:
        52 bytes, the profile, and the lists of rows held.

    Raises:
        PayloadError: a number does not fit its field.
    """
    limits = (int(getattr(ask.budget, name) or 0) for name in LIMITS)
    try:
        flags = ask.rows | HOLDS * bool(ask.held)
        head = ASK.pack(MAGIC, VERSION, flags, ask.candidates, ask.base_id, ask.table_id, *limits)
    except struct.error as error:
        raise PayloadError(f"ask: expected numbers that fit their fields, got: {error}") from error
    return head + encode_profile(ask.profile) + ask.held


def decode_ask(data: bytes, dim: int) -> Ask:
    """Read an ask; what is accepted encodes to the same bytes again.

    Args:
        data: as it came.
        dim: values of the base's profile.

    Returns:
        the ask.

    Raises:
        PayloadError: another length, magic, version or flag, too many candidates, or no profile.
    """
    end = ASK.size + dim + 4
    most = end + (MOST_BYTES if len(data) > 5 and data[5] & HOLDS else 0)
    if not end <= len(data) <= most:
        raise PayloadError(f"ask: expected {end} … {most} bytes, got {len(data):,}", _cut(len(data), end))
    magic, version, flags, candidates, base_id, table_id, *limits = ASK.unpack_from(data)
    if (magic, version) != (MAGIC, VERSION) or flags not in (0, 1, 1 | HOLDS):
        raise PayloadError(f"ask: expected {MAGIC!r} version {VERSION}, flags 0, 1 or 3, got {magic!r}, {version}, {flags}")
    if flags & HOLDS and len(data) == end:
        raise PayloadError("ask: expected lists of rows held, got none")
    if candidates > MOST_CANDIDATES:
        raise PayloadError(f"ask: expected at most {MOST_CANDIDATES:,} candidates, got {candidates:,}")
    profile = decode_profile(data[ASK.size : end], dim)
    return Ask(base_id, table_id, _budget(*limits), profile, flags > 0, candidates, data[end:])


def encode_reply(reply: Reply) -> bytes:
    """Write a reply.

    Args:
        reply: what to send.

    Returns:
        three lengths in bytes, and the three parts.
    """
    candidates = reply.candidates.astype("<i4").tobytes()
    return REPLY.pack(len(reply.payload), len(candidates), len(reply.rows)) + reply.payload + candidates + reply.rows


def decode_reply(data: bytes) -> Reply:
    """Read a reply; its parts are judged by whoever uses them.

    Args:
        data: as it came.

    Returns:
        the reply.

    Raises:
        PayloadError: the lengths do not add up.
    """
    if len(data) < REPLY.size:
        raise PayloadError(f"reply: expected at least {REPLY.size} bytes, got {len(data)}", "truncated")
    payload, candidates, rows = REPLY.unpack_from(data)
    expected = REPLY.size + payload + candidates + rows
    if len(data) != expected or candidates % 4:
        raise PayloadError(f"reply: expected {expected:,} bytes by its head, got {len(data):,}", _cut(len(data), expected))
    middle = REPLY.size + payload
    listed = np.frombuffer(data[middle : middle + candidates], "<i4").astype(np.int32)
    return Reply(data[REPLY.size : middle], listed, data[middle + candidates :])


@lru_cache(maxsize=256)
def _budget(*limits: int) -> Budget:
    """Read the limits; devices come in a few kinds, so most have been read before."""
    return Budget(**{name: limit or None for name, limit in zip(LIMITS, limits, strict=True)})


def _cut(found: int, expected: int) -> Refusal:
    """Name a wrong length."""
    return "truncated" if found < expected else "oversized" if found > expected else "malformed"
