"""What is known of items beside the log, as a start for their rows: text embeddings, or any other vectors.

    FILE.safetensors     a tensor `vectors`, items × width, and in the header under `ids` a JSON list of the log's item ids
    FILE.npy             the same array, with the list in FILE.json beside it

The vectors are centered, turned onto their principal axes, cut to the recipe's width and scaled to the spread that rows have
at first anyway:

    X = U S Vᵀ,     row_i = std · √(items · dim / Σ_{k≤dim} S_k²) · (U S)_{i, 1…dim}

so that items alike begin alike, and training goes on from there as ever. An item without a vector begins at random, and so do
axes beyond the vectors' width. The start is a setting of the run: its digest stands in the recipe.

What this does not do: make vectors from text, or keep them frozen.
"""

from pathlib import Path

import msgspec
import numpy as np
import torch
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ossia.backbones.backbone import INIT_STD
from ossia.errors import DataError


def read_side_vectors(path: Path) -> dict[str, Float32[np.ndarray, " width"]]:
    """Read vectors by item id.

    Args:
        path: `.safetensors`, or `.npy` with a `.json` beside it.

    Returns:
        a vector for each id.

    Raises:
        DataError: a file is missing or damaged, ids and vectors don't fit together, or a value is no number.
    """
    try:
        vectors, listed = _read_npy(path) if path.suffix == ".npy" else _read_safetensors(path)
        ids = msgspec.json.decode(listed, type=list[str])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, msgspec.MsgspecError) as error:
        raise DataError(f"{path}: expected vectors and the ids of their items, got: {error}") from error
    if vectors.ndim != 2 or len(vectors) != len(ids) or len(set(ids)) != len(ids):
        raise DataError(f"{path}: expected a vector for each id, once, got {vectors.shape} for {len(set(ids)):,} ids")
    if not np.isfinite(vectors).all():
        raise DataError(f"{path}: expected finite numbers, got others")
    return dict(zip(ids, vectors.astype(np.float32), strict=True))


@torch.no_grad()
def start_rows(
    table: Float32[Tensor, "items dim"], item_ids: list[str], vectors: dict[str, Float32[np.ndarray, " width"]]
) -> int:
    """Let the rows of items that have a vector begin at its place on the principal axes, in place.

    Args:
        table: the item table as it begins at random.
        item_ids: the item of each row.
        vectors: by item id; ids that the log does not know are passed over.

    Returns:
        how many rows have a vector.

    Raises:
        DataError: no row has one, or all are equal.
    """
    rows = [row for row, item in enumerate(item_ids) if item in vectors]
    if not rows:
        raise DataError("item vectors: expected some of the log's item ids, found none of them")
    known = torch.from_numpy(np.stack([vectors[item_ids[row]] for row in rows])).double()
    centered = known - known.mean(0)
    # Through the small Gram matrix: the width is hundreds, the items may be a million.
    spread, axes = torch.linalg.eigh(centered.T @ centered)
    places = centered @ axes.flip(1)[:, : table.shape[1]]
    size = float(places.square().mean().sqrt())
    if not size > 1e-9 * float(known.abs().max()) or float(spread[-1]) <= 0:
        raise DataError("item vectors: expected vectors that differ, got equal ones")
    table[torch.tensor(rows), : places.shape[1]] = (places * (INIT_STD / size)).to(table)
    return len(rows)


def _read_safetensors(path: Path) -> tuple[np.ndarray, bytes]:
    """Read the tensor `vectors` and the header's `ids`."""
    with safe_open(path, framework="np") as file:
        return file.get_tensor("vectors"), (file.metadata() or {})["ids"].encode()


def _read_npy(path: Path) -> tuple[np.ndarray, bytes]:
    """Read an array and the list beside it."""
    return np.load(path, allow_pickle=False), path.with_suffix(".json").read_bytes()
