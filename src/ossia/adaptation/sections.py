"""The four sections of a payload's body, each a pair: value → bytes, bytes → value.

    gates   one bit per gate, first lowest
    codes   two bits per channel, first lowest
    delta   kind, rank, a bit per slot that has one, then float16 numbers slot by slot
    table   kind, the rows at 2, 4 and 8 bits as sorted lists, one SHA-256 over the exact bytes of those rows

The rows themselves arrive beside the payload or are on the device already; the digest says whether they are the right ones.
"""

import numpy as np
from jaxtyping import UInt8

from ossia.adaptation.adaptation import Adaptation, Coordinates, Delta, Dense, LowRank
from ossia.adaptation.base import Base
from ossia.adaptation.wire import Reader, decode_sorted, encode_sorted
from ossia.errors import PayloadError
from ossia.quantization.codes import pack_bits, pack_codes, unpack_bits, unpack_codes
from ossia.types import Slot

DENSE, LOW_RANK, COORDINATES = 1, 2, 3
ROWS = 1
DIGEST_BYTES = 32


def encode_gates(_base: Base, adaptation: Adaptation) -> bytes:
    """Write the gates, eight to a byte.

    Args:
        _base: unused; all encoders are called alike.
        adaptation: with gates.

    Returns:
        ceil(gates / 8) bytes.
    """
    assert adaptation.gates is not None, "no gates to encode"
    return pack_bits(adaptation.gates)


def decode_gates(base: Base, reader: Reader) -> UInt8[np.ndarray, " gates"]:
    """Read one bit per gate of the base.

    Args:
        base: says how many gates there are.
        reader: where to read.

    Returns:
        zeros and ones.

    Raises:
        PayloadError: too short, or padding is set.
    """
    count = len(base.manifest.gates)
    return unpack_bits(reader.take(-(-count // 8), "gates"), count)


def encode_codes(_base: Base, adaptation: Adaptation) -> bytes:
    """Write the channels' codes, four to a byte.

    Args:
        _base: unused; all encoders are called alike.
        adaptation: with codes.

    Returns:
        ceil(channels / 4) bytes.
    """
    assert adaptation.codes is not None, "no codes to encode"
    return pack_codes(adaptation.codes)


def decode_codes(base: Base, reader: Reader) -> UInt8[np.ndarray, " channels"]:
    """Read one code per channel of the base.

    Args:
        base: says how many channels there are.
        reader: where to read.

    Returns:
        codes 0 … 3.

    Raises:
        PayloadError: too short, or padding is set.
    """
    return unpack_codes(reader.take(-(-base.channels // 4), "codes"), base.channels)


def encode_delta(base: Base, adaptation: Adaptation) -> bytes:
    """Write the deltas: all dense, all of one rank, or all coordinates.

    Args:
        base: gives the slots' wire order.
        adaptation: with at least one delta.

    Returns:
        kind, rank (0 for dense), a bit per slot, then little-endian float16 numbers.

    Raises:
        PayloadError: the deltas are of several kinds or ranks, out of wire order, or of another size than their slots or basis.
    """
    deltas = {delta.slot: delta for delta in adaptation.deltas}
    slots = [slot for slot in base.manifest.slots if slot.name in deltas]
    forms = {_form(delta) for delta in adaptation.deltas}
    if [slot.name for slot in slots] != [delta.slot for delta in adaptation.deltas] or len(forms) != 1:
        raise PayloadError("delta: expected deltas of one kind and rank, at most one per slot, in wire order")
    kind, rank = forms.pop()
    if kind == COORDINATES and rank != base.manifest.basis:
        raise PayloadError(f"delta: expected as many coordinates as the base's basis has directions, got {rank}")
    there = np.array([slot.name in deltas for slot in base.manifest.slots], np.uint8)
    parts = [array for slot in slots for array in _arrays(deltas[slot.name])]
    shapes = [shape for slot in slots for shape in delta_shapes(slot, rank, coordinates=kind == COORDINATES)]
    if [part.shape for part in parts] != shapes or not all(np.isfinite(part).all() for part in parts):
        raise PayloadError(f"delta: expected finite numbers of shapes {shapes}, got {[part.shape for part in parts]}")
    numbers = b"".join(part.astype("<f2").tobytes() for part in parts)
    return bytes([kind, rank]) + pack_bits(there) + numbers


def decode_delta(base: Base, reader: Reader) -> tuple[Delta, ...]:
    """Read the deltas.

    Args:
        base: gives the slots and their sizes.
        reader: where to read.

    Returns:
        the deltas, in wire order.

    Raises:
        PayloadError: an unknown kind, a rank that does not go with it, no slot, too short, or a number that is not finite.
    """
    kind, rank = reader.take(2, "delta")
    if (kind, rank > 0) not in ((DENSE, False), (LOW_RANK, True), (COORDINATES, True)):
        raise PayloadError(f"delta: expected kind 1 with rank 0 or kind 2 or 3 with a rank above, got kind {kind}, rank {rank}")
    if kind == COORDINATES and rank != base.manifest.basis:
        raise PayloadError(f"delta: expected as many coordinates as the base's basis has directions, got {rank}")
    slots = base.manifest.slots
    there = unpack_bits(reader.take(-(-len(slots) // 8), "delta"), len(slots))
    if not there.any():
        raise PayloadError("delta: expected at least one slot, got none")
    return tuple(_read_delta(slot, kind, rank, reader) for slot, is_there in zip(slots, there, strict=True) if is_there)


def encode_table(base: Base, adaptation: Adaptation) -> bytes:
    """Write which rows the device holds, at which widths, and the digest of their bytes.

    Args:
        base: with the table that the rows belong to.
        adaptation: with rows, one code per row of that table.

    Returns:
        kind, three sorted lists (2, 4, 8 bits), 32 bytes of SHA-256.
    """
    rows = adaptation.rows
    assert rows is not None, "no rows to encode"
    assert len(rows) == len(base.table), "one code per row of the table"
    return bytes([ROWS]) + encode_row_lists(rows) + base.table.digest_rows(rows)


def encode_row_lists(rows: UInt8[np.ndarray, " rows"]) -> bytes:
    """Write the rows at 2, at 4 and at 8 bits as three sorted lists.

    Args:
        rows: one code per row.

    Returns:
        the lists' varints.
    """
    return b"".join(encode_sorted(np.flatnonzero(rows == code)) for code in (1, 2, 3))


def decode_table(base: Base, table_id: bytes, reader: Reader) -> UInt8[np.ndarray, " rows"]:
    """Read which rows the device holds, and hold the rows at hand to the digest.

    Args:
        base: with its table.
        table_id: the payload's table, this one or an older one that it extends.
        reader: where to read.

    Returns:
        one code per row of the payload's table.

    Raises:
        PayloadError: an unknown kind, a malformed list, a row named twice, or a digest of other bytes.
    """
    kind = reader.take(1, "table")[0]
    if kind != ROWS:
        raise PayloadError(f"table: expected kind {ROWS} (rows), got {kind}")
    count = base.table.rows_at(table_id)
    assert count is not None, "the header was checked before the body"
    codes = np.zeros(count, np.uint8)
    for code in (1, 2, 3):
        rows = decode_sorted(reader, count, "table")
        if codes[rows].any():
            raise PayloadError(f"table: expected each row once, got row {rows[codes[rows] > 0][0]} twice")
        codes[rows] = code
    if reader.take(DIGEST_BYTES, "table") != base.table.digest_rows(codes):
        raise PayloadError(
            "table: expected the digest of the rows at hand, got another: the rows named are not the ones here", "other_rows"
        )
    return codes


def delta_shapes(slot: Slot, rank: int, *, coordinates: bool = False) -> list[tuple[int, int]]:
    """Return the shapes that a slot's delta has on the wire.

    Args:
        slot: the slot.
        rank: of the delta; 0: dense.
        coordinates: whether it is so many coordinates in the base's basis.

    Returns:
        rows and columns of each of its arrays.
    """
    if coordinates:
        return [(1, rank)]
    return [(slot.channels, rank), (rank, slot.inputs)] if rank else [(slot.channels, slot.inputs)]


def _form(delta: Delta) -> tuple[int, int]:
    """Return a delta's kind and rank, 0 for a dense one."""
    if isinstance(delta, Coordinates):
        return COORDINATES, len(delta.weights)
    return (LOW_RANK, delta.left.shape[1]) if isinstance(delta, LowRank) else (DENSE, 0)


def _arrays(delta: Delta) -> tuple[np.ndarray, ...]:
    """Return a delta's arrays in wire order."""
    if isinstance(delta, Coordinates):
        return (delta.weights[None],)
    return (delta.left, delta.right) if isinstance(delta, LowRank) else (delta.matrix,)


def _read_delta(slot: Slot, kind: int, rank: int, reader: Reader) -> Delta:
    """Read one slot's numbers."""
    parts = []
    for shape in delta_shapes(slot, rank, coordinates=kind == COORDINATES):
        numbers = np.frombuffer(reader.take(2 * shape[0] * shape[1], f"delta {slot.name}"), "<f2").astype(np.float16)
        if not np.isfinite(numbers).all():
            raise PayloadError(f"delta {slot.name}: expected finite numbers, got one that is not")
        parts.append(numbers.reshape(shape))
    if kind == COORDINATES:
        return Coordinates(slot.name, parts[0][0])
    return LowRank(slot.name, *parts) if rank else Dense(slot.name, *parts)
