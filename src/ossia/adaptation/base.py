"""The base: a published backbone that every device holds, content-addressed, never changed.

    BASE/manifest.json                  backbone, shape, slots and gates in wire order, digests; its SHA-256 is the base's id
    BASE/base/plane2 · plane4 · plane8 .safetensors     each slot's master by bit plane, under the slot's name
    BASE/base/floats.safetensors        biases, norms, positions in float32, and each slot's `….scales`, 3 × channels; where the
                                        base has a basis, each slot's `….left` and `….right` in float16
    BASE/table/…                        the item table (`table.py`)
    BASE/personalizers/NAME/…           added later, each with its own manifest; not part of the id

Names are those of the backbone's own parameters, so that torch, numpy and C speak of one thing by one name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from msgspec import UNSET

from ossia.adaptation.basis import Basis
from ossia.adaptation.manifests import (
    BaseManifest,
    read_files,
    read_manifest,
    read_tensors,
    tensor_bytes,
    write_files,
    write_manifest,
)
from ossia.adaptation.table import PLANES, ItemTable, load_table, write_table
from ossia.adaptation.tail import Tail
from ossia.errors import ArtifactError
from ossia.files import folder_whole
from ossia.quantization.grid import Grid, join_planes, quantize, split_planes
from ossia.types import Slot


@dataclass(frozen=True, eq=False)
class Base:
    """A published backbone with its item table.

    Attributes:
        id: SHA-256 of the manifest, 32 bytes; 16 go on the wire.
        manifest: what decides how bytes are read.
        grids: the nested master of each slot, by name, in wire order.
        floats: everything that is not a slot: biases, norms, positions.
        table: the catalog.
        path: where it was loaded from.
        basis: each slot's directions for deltas that are coordinates; empty where the base has none.

    Example:
        `Base.load(Path("BASE"))` reads and checks every byte below the folder.
    """

    id: bytes
    manifest: BaseManifest
    grids: Mapping[str, Grid]
    floats: Mapping[str, Float32[np.ndarray, "..."]]
    table: ItemTable
    path: Path
    basis: Mapping[str, Basis] = field(default_factory=dict)

    @staticmethod
    def load(path: Path) -> "Base":
        """Read a base, every file held to its digest.

        Args:
            path: the base's folder.

        Returns:
            the base.

        Raises:
            ArtifactError: a file is missing, changed, or does not fit the manifest; names it.
        """
        base_id, manifest = read_manifest(path / "manifest.json", BaseManifest)
        content = read_files(path, manifest.files)
        table = load_table(path / "table")
        if table.rows_at(bytes.fromhex(manifest.table)[:16]) is None:
            raise ArtifactError(
                f"{path / 'table'}: expected table {manifest.table[:12]}… or one that extends it, got {table.id.hex()[:12]}…"
            )
        try:
            floats = read_tensors(path / FLOATS, content[FLOATS])
            basis = _take_basis(floats, manifest)
            planes = {name: read_tensors(path / _plane(name), content[_plane(name)]) for name in PLANES}
            grids = {slot.name: _join(slot, planes, floats.pop(f"{slot.name}.scales")) for slot in manifest.slots}
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"{path}: expected the tensors that the manifest names, got: {error}") from error
        return Base(base_id, manifest, grids, floats, table, path, basis)

    @cached_property
    def channels(self) -> int:
        """Return how many channels all slots have together: the number of codes."""
        return sum(slot.channels for slot in self.manifest.slots)

    @cached_property
    def spans(self) -> dict[str, slice]:
        """Return each slot's place in the list of codes, in wire order."""
        ends = np.cumsum([slot.channels for slot in self.manifest.slots]).tolist()
        return {slot.name: slice(end - slot.channels, end) for slot, end in zip(self.manifest.slots, ends, strict=True)}


FLOATS = "base/floats.safetensors"


def write_base(
    path: Path,
    *,
    backbone: str,
    shape: Mapping[str, int],
    slots: Sequence[Slot],
    gates: Sequence[str],
    weights: Mapping[str, Float32[np.ndarray, "..."]],
    profile_clip: float,
    item_vectors: Float32[np.ndarray, "items dim"],
    item_ids: Sequence[str],
    item_counts: Float32[np.ndarray, " items"],
    titles: Sequence[str] | None = None,
    tail: Tail | None = None,
    basis: Mapping[str, Basis] | None = None,
) -> Base:
    """Quantize a trained backbone and publish it as a folder that appears whole or not at all.

    Args:
        path: the base's folder, new or empty.
        backbone: the architecture's name.
        shape: its sizes.
        slots: what may be adapted, in wire order; slot `a` is the matrix `weights["a.weight"]`.
        gates: what may be skipped, in wire order.
        weights: every parameter but the item vectors, float32, by name.
        profile_clip: user states are clipped to ± this.
        item_vectors: one float32 row per item.
        item_ids: the user's own id of each row.
        item_counts: events of each row in the training part of the log.
        titles: what to show of each row.
        tail: a coarse version of every row; None: none.
        basis: directions of every slot, as many for each; None: none.

    Returns:
        the base, as loaded back from the disk.

    Raises:
        UsageError: the folder is not empty, or ids and rows do not fit.
    """
    grids = {slot.name: quantize(weights[f"{slot.name}.weight"]) for slot in slots}
    matrices = {f"{slot.name}.weight" for slot in slots}
    floats = {name: array for name, array in weights.items() if name not in matrices}
    floats |= {f"{name}.scales": grid.scales for name, grid in grids.items()}
    directions = {} if basis is None else {slot.name: basis[slot.name] for slot in slots}
    floats |= {f"{name}.{side}": getattr(each, side) for name, each in directions.items() for side in ("left", "right")}
    ranks = {each.left.shape[1] for each in directions.values()}
    split = {name: split_planes(grid.q) for name, grid in grids.items()}
    planes = {_plane(plane): tensor_bytes({name: split[name][plane] for name in split}) for plane in PLANES}
    with folder_whole(path) as fresh:
        table = write_table(fresh / "table", item_vectors, item_ids, item_counts, titles=titles, tail=tail)
        files = write_files(fresh, {**planes, FLOATS: tensor_bytes(floats)})
        manifest = BaseManifest(
            backbone,
            dict(shape),
            tuple(slots),
            tuple(gates),
            profile_clip,
            table.hex(),
            files,
            basis=ranks.pop() if ranks else UNSET,
        )
        write_manifest(fresh / "manifest.json", manifest)
    return Base.load(path)


def _plane(name: str) -> str:
    """Return the file of one bit plane."""
    return f"base/{name}.safetensors"


def _join(slot: Slot, planes: Mapping[str, Mapping[str, np.ndarray]], scales: np.ndarray) -> Grid:
    """Put one slot's planes together again, and check that they are its size."""
    q = join_planes({name: planes[name][slot.name] for name in PLANES}, slot.inputs)
    if q.shape != (slot.channels, slot.inputs) or scales.shape != (3, slot.channels):
        raise ValueError(f"{slot.name} of {slot.channels} × {slot.inputs}, found {q.shape} with scales {scales.shape}")
    return Grid(q, scales)


def _take_basis(floats: dict[str, np.ndarray], manifest: BaseManifest) -> dict[str, Basis]:
    """Take the directions out of the floats, and check that they are the slots' sizes; none, where the manifest names none."""
    basis, rank = {}, manifest.basis
    for slot in manifest.slots if rank is not UNSET else ():
        left, right = floats.pop(f"{slot.name}.left"), floats.pop(f"{slot.name}.right")
        if (left.shape, right.shape) != ((slot.channels, rank), (rank, slot.inputs)) or {left.dtype, right.dtype} != {
            np.dtype("f2")
        }:
            raise ValueError(f"{slot.name}: {rank} directions in float16, found {left.dtype} {left.shape} and {right.shape}")
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            raise ValueError(f"{slot.name}: directions of finite numbers")
        basis[slot.name] = Basis(left, right)
    return basis
