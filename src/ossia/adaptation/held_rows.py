"""Only the rows that a device does not hold: what a refresh costs, and how the whole is put together again.

A device that has rows says so by their lists, as they stand in a payload's table section (`encode_row_lists`): the service made
them, so they tell it nothing that it did not know. What is sent instead of all rows is, width by width (2, 4, 8 bits), and
within a width by the width that the device holds (none, 2, 4, 8), rows ascending:

    the planes above those held │ the float32 scale of the new width        nothing at all for a row that is held at its width

A row that is held wider needs its new scale alone, for the planes are nested. Whether all is right, the digest in the payload
tells: it is over all rows, held or sent. So a claim that is not true costs its author one exchange.

Before that, **a row that is held may stay** (`let_stay`): of n rows to be named, those held that are among the best 2 n for the
user of now come first, and the best of the others fill up. As many rows are named, at the same widths, and none is worse than
the 2 n-th; what is sent is about two fifths less (docs/chord.md, from studies on held-out users).
"""

import numpy as np
from jaxtyping import Float, UInt8

from ossia.adaptation.sections import encode_row_lists
from ossia.adaptation.table import ItemTable
from ossia.adaptation.wire import Reader, decode_sorted
from ossia.errors import PayloadError
from ossia.types import WIDTHS

MOST_BYTES = 16 * 1024
"""Of lists in an ask; who holds more says nothing, and gets all rows."""
SCALE = 4
DEEP = 2  # times as many rows as are named: so far down a row that is held may stay


def encode_held(codes: UInt8[np.ndarray, " rows"]) -> bytes:
    """Write which rows are held.

    Args:
        codes: one width code per row.

    Returns:
        the lists; nothing where they would take more than `MOST_BYTES`, or where no row is held.
    """
    lists = encode_row_lists(codes) if codes.any() else b""
    return lists if len(lists) <= MOST_BYTES else b""


def decode_held(data: bytes, rows: int) -> UInt8[np.ndarray, " rows"]:
    """Read which rows are held.

    Args:
        data: as `encode_held` wrote it; nothing: no row.
        rows: of the table.

    Returns:
        one width code per row.

    Raises:
        PayloadError: malformed lists, a row twice, or one that the table does not have.
    """
    reader, codes = Reader(data), np.zeros(rows, np.uint8)
    for code in (1, 2, 3) if data else ():
        listed = decode_sorted(reader, rows, "held")
        if codes[listed].any():
            raise PayloadError(f"held: expected each row once, got row {listed[codes[listed] > 0][0]} twice")
        codes[listed] = code
    if reader.left:
        raise PayloadError(f"held: expected its end, got {reader.left:,} more bytes")
    return codes


def let_stay(
    codes: UInt8[np.ndarray, " rows"], importance: Float[np.ndarray, " rows"], held: UInt8[np.ndarray, " rows"]
) -> UInt8[np.ndarray, " rows"]:
    """Name rows that are held rather than others that matter hardly more.

    Args:
        codes: a width code per row, as allocated.
        importance: of each row to the user of now.
        held: the width code of each row on the device; 0: it is not there.

    Returns:
        as many rows at the same widths, the wider ones for those that matter more; none beyond the best `DEEP` times as many.

    Example:
        >>> codes, held = np.array([3, 1, 0, 0, 0], np.uint8), np.array([0, 0, 2, 2, 2], np.uint8)
        >>> let_stay(codes, np.array([0.5, 0.3, 0.2, 0.1, 0.1]), held).tolist()
        [0, 0, 3, 1, 0]
    """
    count = np.count_nonzero(codes)
    best = np.argsort(-importance, kind="stable")[: DEEP * count]
    places = np.sort(np.argsort(held[best] == 0, kind="stable")[:count])  # those held, best first; then the best of the others
    staying = np.zeros_like(codes)
    staying[best[places]] = np.sort(codes)[::-1][:count]
    return staying


def missing_rows(table: ItemTable, wanted: UInt8[np.ndarray, " rows"], held: UInt8[np.ndarray, " rows"]) -> bytes:
    """Take from a table what a device lacks.

    Args:
        table: all rows.
        wanted: one width code per row.
        held: likewise.

    Returns:
        the bytes; with nothing held those of `ItemTable.row_bytes`.
    """
    parts = []
    for code, has in _pairs():
        rows = np.flatnonzero((wanted == code) & (held == has))
        planes = [table.planes[f"plane{bits}"][rows] for bits in WIDTHS[has + 1 : code + 1]]
        parts.append(np.hstack([*planes, table.grid.scales[code - 1, rows, None].astype("<f4").view(np.uint8)]).tobytes())
    return b"".join(parts)


def join_rows(
    widths: tuple[int, int, int],
    wanted: UInt8[np.ndarray, " rows"],
    held: UInt8[np.ndarray, " rows"],
    kept: bytes,
    sent: bytes,
) -> bytes:
    """Put held and sent together.

    Args:
        widths: bytes of a row in each plane.
        wanted: one width code per row.
        held: likewise.
        kept: the bytes of the rows held, as of `ItemTable.row_bytes`.
        sent: from `missing_rows`.

    Returns:
        the bytes of the rows wanted, as of `ItemTable.row_bytes`: not judged yet.

    Raises:
        PayloadError: other lengths than the lists say.
    """
    ends = np.cumsum((0, *widths))
    old = _tables(kept, [(int((held == code).sum()), int(ends[code]) + SCALE) for code in (1, 2, 3)])
    pairs = list(_pairs())
    counts = [int(((wanted == code) & (held == has)).sum()) for code, has in pairs]
    lengths = [int(ends[code] - ends[min(has, code)]) + SCALE for code, has in pairs]
    new = dict(zip(pairs, _tables(sent, list(zip(counts, lengths, strict=True))), strict=True))
    whole = []
    for code in (1, 2, 3):
        rows = np.flatnonzero(wanted == code)
        out = np.zeros((len(rows), int(ends[code]) + SCALE), np.uint8)
        for has in range(4):
            here = held[rows] == has
            if not has:
                out[here] = new[code, 0]
                continue
            mine, shared = old[has - 1][np.isin(np.flatnonzero(held == has), rows[here])], int(ends[min(has, code)])
            out[here] = mine if has == code else np.hstack([mine[:, :shared], new[code, has]])
        whole.append(out.tobytes())
    return b"".join(whole)


def _pairs() -> list[tuple[int, int]]:
    """List the width codes wanted and held for which something is sent."""
    return [(code, has) for code in (1, 2, 3) for has in range(4) if code != has]


def _tables(data: bytes, shapes: list[tuple[int, int]]) -> list[UInt8[np.ndarray, "_ _"]]:
    """Cut bytes into tables, one after the other."""
    expected = sum(rows * width for rows, width in shapes)
    if len(data) != expected:
        raise PayloadError(f"rows: expected {expected:,} bytes, got {len(data):,}", "other_rows")
    reader = Reader(data)
    return [np.frombuffer(reader.take(rows * width, "rows"), np.uint8).reshape(rows, width) for rows, width in shapes]
