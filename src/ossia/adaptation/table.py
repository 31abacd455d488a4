"""The item table: the catalog's vectors on the nested grid, apart from the base.

Most of a recommender's bytes are here (97 % at 50,000 items), so rows have widths of their own: a device holds the rows that
are worth most to its user, at 8, 4 or 2 bits. Rows are stored by bit plane, so that a device fetches only the planes it uses
and can sharpen a row later. A table is released by itself when items are added; rows that exist keep number and bytes.

    table/manifest.json     rows, dim, which older tables it extends, digests
    table/items.json        ids by row, and titles if the log had them
    table/plane2 · plane4 · plane8 .safetensors     `rows`: the top 2 bits, 2 more, 4 more
    table/scales.safetensors    `scales` 3 × rows · `popularity` rows, most popular first · `counts` events in training
    table/tail.safetensors      optional: a coarse version of every row (`tail.py`): `codes`, `codewords`, `rotation`
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from ossia.adaptation.manifests import (
    OlderTable,
    TableManifest,
    TailShape,
    read_files,
    read_manifest,
    read_tensors,
    tensor_bytes,
    write_files,
    write_manifest,
)
from ossia.adaptation.tail import Tail, read_tail, tail_tensors
from ossia.errors import ArtifactError, UsageError
from ossia.quantization.grid import Grid, Panel, join_planes, quantize, split_planes
from ossia.types import WIDTHS

PLANES = ("plane2", "plane4", "plane8")
TAIL = "tail.safetensors"


class Items(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`table/items.json`: the user's own item ids by row, and their titles."""

    ids: tuple[str, ...]
    titles: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class ItemTable:
    """A published catalog.

    Attributes:
        id: SHA-256 of its manifest.
        ids: the user's own item id of each row.
        titles: what to show of each row, if known.
        popularity: row numbers, most popular first.
        counts: events of each row in the training part of the log.
        grid: the rows' nested master.
        extends: older tables, payloads for which go on working: rows held then, by the first 16 bytes of the id.
        tail: a coarse version of every row, for those that a device does not hold; None: there is none.
    """

    id: bytes
    ids: tuple[str, ...]
    titles: tuple[str, ...] | None
    popularity: Int32[np.ndarray, " rows"]
    counts: Float32[np.ndarray, " rows"]
    grid: Grid
    extends: Mapping[bytes, int]
    tail: Tail | None = None

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.ids)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Return the row of each item id."""
        return {item: row for row, item in enumerate(self.ids)}

    @cached_property
    def whole(self) -> Panel:
        """Return every row at 8 bits."""
        return Panel(self.grid.q, self.grid.scales[-1])

    @cached_property
    def planes(self) -> dict[str, UInt8[np.ndarray, "rows _"]]:
        """Return the rows by bit plane, as they are stored and fetched."""
        return split_planes(self.grid.q)

    def rows_at(self, table_id: bytes) -> int | None:
        """Tell how many rows the table of this short id has: this one's, or an older one's that it extends.

        Args:
            table_id: the first 16 bytes of a table id.

        Returns:
            its rows, or None for a table that has nothing to do with this one.
        """
        return len(self) if table_id == self.id[:16] else self.extends.get(table_id)

    def digest_rows(self, codes: UInt8[np.ndarray, " rows"]) -> bytes:
        """Hash `row_bytes`.

        Args:
            codes: one width code per row, for this table or for the first rows of it.

        Returns:
            the SHA-256 digest, 32 bytes.
        """
        return hashlib.sha256(self.row_bytes(codes)).digest()

    def row_bytes(self, codes: UInt8[np.ndarray, " rows"]) -> bytes:
        """Return the exact bytes of the rows that `codes` names, as they travel beside a payload.

        Args:
            codes: one width code per row, for this table or for the first rows of it.

        Returns:
            width by width (2, 4, 8 bits), rows ascending, each row: its planes up to that width, then its float32 scale.
        """
        parts = []
        for code, bits in enumerate(WIDTHS[1:], start=1):
            rows = np.flatnonzero(codes == code)
            planes = [self.planes[f"plane{width}"][rows] for width in WIDTHS[1:] if width <= bits]
            scales = self.grid.scales[code - 1, rows, None].astype("<f4").view(np.uint8)
            parts.append(np.hstack([*planes, scales]).tobytes())
        return b"".join(parts)


def write_table(
    folder: Path,
    vectors: Float32[np.ndarray, "rows dim"],
    ids: Sequence[str],
    counts: Float32[np.ndarray, " rows"],
    *,
    titles: Sequence[str] | None = None,
    extends: ItemTable | None = None,
    tail: Tail | None = None,
) -> bytes:
    """Quantize and write an item table.

    Args:
        folder: the table's folder; the caller makes it appear whole.
        vectors: one float32 row per item.
        ids: the user's own id of each row, without repeats.
        counts: events of each row in the training part of the log.
        titles: what to show of each row.
        extends: the table whose rows come first here; their bytes are kept as they are, and its tail goes on.
        tail: a coarse version of every row; None: the older table's, or none.

    Returns:
        the table's id, 32 bytes.

    Raises:
        UsageError: ids repeat, lengths differ, or the older table's ids do not come first.
    """
    lengths = {len(vectors), len(ids), len(counts), len(titles) if titles is not None else len(ids)}
    if len(lengths) != 1 or len(set(ids)) != len(ids):
        raise UsageError(f"items: expected one id without repeats per row, got {len(set(ids)):,} ids for {len(vectors):,} rows")
    grid = quantize(vectors)
    older: tuple[OlderTable, ...] = ()
    if extends is not None:
        grid, older = _keep_rows(grid, extends, ids), _ancestors(extends)
        if tail is None and extends.tail is not None:
            tail = extends.tail.extend(vectors[len(extends) :])
    popularity = np.argsort(-counts, kind="stable").astype(np.int32)
    planes = {f"{name}.safetensors": tensor_bytes({"rows": plane}) for name, plane in split_planes(grid.q).items()}
    scales = tensor_bytes({"scales": grid.scales, "popularity": popularity, "counts": counts})
    items = msgspec.json.encode(Items(tuple(ids), tuple(titles) if titles is not None else None))
    coarse = {} if tail is None else {TAIL: tensor_bytes(tail_tensors(tail))}
    entries = write_files(folder, {"items.json": items, **planes, "scales.safetensors": scales, **coarse})
    shape = msgspec.UNSET if tail is None else TailShape(*tail.codewords.shape[:2])
    return write_manifest(folder / "manifest.json", TableManifest(len(vectors), vectors.shape[1], older, entries, tail=shape))


def load_table(folder: Path) -> ItemTable:
    """Read a table, every file held to its digest.

    Args:
        folder: the table's folder.

    Returns:
        the table.

    Raises:
        ArtifactError: a file is missing, changed, or does not fit the manifest; names it.
    """
    table_id, manifest = read_manifest(folder / "manifest.json", TableManifest)
    content = read_files(folder, manifest.files)
    try:
        items = msgspec.json.decode(content["items.json"], type=Items)
        planes = {name: read_tensors(folder / name, content[f"{name}.safetensors"])["rows"] for name in PLANES}
        scales = read_tensors(folder / "scales.safetensors", content["scales.safetensors"])
        grid = Grid(join_planes(planes, manifest.dim), scales["scales"])
        table = ItemTable(
            table_id, items.ids, items.titles, scales["popularity"], scales["counts"], grid,
            {bytes.fromhex(older.table)[:16]: older.rows for older in manifest.extends},
            _read_tail(folder, content, manifest),
        )  # fmt: skip
        _check_shapes(table, manifest)
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{folder}: expected the files of an item table, got: {error}") from error
    return table


def _check_shapes(table: ItemTable, manifest: TableManifest) -> None:
    """Raise ValueError where tensors that are all intact do not belong together."""
    rows, dim = manifest.rows, manifest.dim
    found = (table.grid.q.shape, table.grid.scales.shape, table.popularity.shape, table.counts.shape, len(table.ids))
    if found != ((rows, dim), (3, rows), (rows,), (rows,), rows):
        raise ValueError(f"tensors for {rows:,} rows of {dim}, found shapes {found}")
    if not np.array_equal(np.sort(table.popularity), np.arange(rows)):
        raise ValueError("popularity is not an order of the rows")
    if table.titles is not None and len(table.titles) != rows:
        raise ValueError(f"{len(table.titles):,} titles for {rows:,} rows")


def _read_tail(folder: Path, content: Mapping[str, bytes], manifest: TableManifest) -> Tail | None:
    """Read the tail, if the table has one; ValueError where it does not fit."""
    if manifest.tail is msgspec.UNSET:
        return None
    shape = (manifest.rows, manifest.dim, manifest.tail.parts, manifest.tail.words)
    return read_tail(read_tensors(folder / TAIL, content[TAIL]), shape)


def _keep_rows(grid: Grid, older: ItemTable, ids: Sequence[str]) -> Grid:
    """Put the older table's rows in front, byte for byte."""
    if tuple(ids[: len(older)]) != older.ids:
        raise UsageError(f"items: expected the {len(older):,} ids of the older table first, in their order")
    q, scales = grid.q.copy(), grid.scales.copy()
    q[: len(older)], scales[:, : len(older)] = older.grid.q, older.grid.scales
    return Grid(q, scales)


def _ancestors(table: ItemTable) -> tuple[OlderTable, ...]:
    """List a table and everything that it extends; a short id is enough to recognize one."""
    older = tuple(OlderTable(short.hex(), rows) for short, rows in table.extends.items())
    return (OlderTable(table.id[:16].hex(), len(table)), *older)
