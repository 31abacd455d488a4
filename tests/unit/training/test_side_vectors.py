"""Rows that begin at side vectors keep who is near whom, and have the spread that rows begin with anyway."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from ossia.backbones.backbone import INIT_STD
from ossia.data import Dataset, synthetic
from ossia.errors import DataError, UsageError
from ossia.training import BackboneRecipe, train_backbone
from ossia.training.checkpoint import load_checkpoint
from ossia.training.side_vectors import read_side_vectors, start_rows

IDS = [f"item-{row}" for row in range(12)]
TINY = BackboneRecipe(dim=8, length=6, blocks=1, heads=2, hidden=16, batch=128, epochs=2, lr=0.01)


def low_rank(width: int = 20, rank: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((len(IDS), rank)) @ rng.standard_normal((rank, width)) + 5).astype(np.float32)


def test_distances_are_kept_up_to_one_scale_where_the_width_suffices() -> None:
    vectors, table = low_rank(), torch.zeros(len(IDS), 4)
    assert start_rows(table, IDS, dict(zip(IDS, vectors, strict=True))) == len(IDS)
    ours, theirs = torch.cdist(table, table), torch.cdist(torch.from_numpy(vectors), torch.from_numpy(vectors))
    ratio = ours[0, 1] / theirs[0, 1]
    assert torch.allclose(ours, ratio * theirs, atol=1e-4)
    assert float(table.square().mean().sqrt()) == pytest.approx(INIT_STD, rel=1e-5)


def test_no_other_axes_of_that_number_would_keep_more() -> None:
    vectors, table = low_rank(rank=9), torch.zeros(len(IDS), 3)
    start_rows(table, IDS, dict(zip(IDS, vectors, strict=True)))
    singular = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
    shares = np.linalg.svd(table.numpy(), compute_uv=False) / singular[:3]
    assert shares == pytest.approx([shares[0]] * 3, rel=1e-4)


def test_items_without_a_vector_and_axes_beyond_the_width_begin_as_ever() -> None:
    table = torch.randn(len(IDS), 6)
    before = table.clone()
    start_rows(table, IDS, dict(zip(IDS[:5], low_rank(width=3)[:5], strict=True)) | {"unknown": np.zeros(3, np.float32)})
    assert torch.equal(table[5:], before[5:])
    assert torch.equal(table[:, 3:], before[:, 3:])
    assert not torch.equal(table[:5, :3], before[:5, :3])


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_both_files_read_alike_and_others_are_refused(tmp_path: Path, kind: str) -> None:
    path, vectors = tmp_path / f"v.{kind}", low_rank()

    def write(ids: list[str], values: np.ndarray) -> None:
        if kind == "npy":
            np.save(path, values)
            path.with_suffix(".json").write_text(json.dumps(ids))
        else:
            save_file({"vectors": values}, path, {"ids": json.dumps(ids)})

    with pytest.raises(DataError, match="expected vectors"):
        read_side_vectors(path)
    write(IDS, vectors)
    read = read_side_vectors(path)
    assert list(read) == IDS
    assert np.array_equal(np.stack(list(read.values())), vectors)
    for ids, values in ((IDS[:-1], vectors), ([*IDS[:-1], IDS[0]], vectors), (IDS, np.full_like(vectors, np.nan))):
        write(ids, values)
        with pytest.raises(DataError, match="expected"):
            read_side_vectors(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="expected vectors"):
        read_side_vectors(path)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_vectors_that_say_nothing_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="expected vectors that differ"):
        start_rows(torch.zeros(len(IDS), 4), IDS, dict.fromkeys(IDS, np.full(5, value, np.float32)))
    with pytest.raises(DataError, match="found none"):
        start_rows(torch.zeros(len(IDS), 4), IDS, {"else": np.ones(5, np.float32)})


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(60, 30, 9, predictability=0.8, seed=0)


def test_a_run_begins_at_the_vectors_goes_on_after_a_stop_and_holds_to_its_file(data: Dataset, tmp_path: Path) -> None:
    file, other = tmp_path / "v.npy", tmp_path / "w.npy"
    for path, seed in ((file, 0), (other, 1)):
        np.save(path, np.random.default_rng(seed).standard_normal((data.items, 16)).astype(np.float32))
        path.with_suffix(".json").write_text(json.dumps(data.item_ids))
    list(train_backbone(data, TINY, tmp_path / "plain"))
    list(train_backbone(data, TINY, tmp_path / "whole", item_vectors=file))
    list(islice(train_backbone(data, TINY, tmp_path / "broken", item_vectors=file), 1))
    with pytest.raises(UsageError, match="expected item_vectors"):
        train_backbone(data, TINY, tmp_path / "broken", item_vectors=other)
    list(train_backbone(data, TINY, tmp_path / "broken", item_vectors=file))
    plain, whole, broken = (
        load_checkpoint(tmp_path / name / "checkpoint.safetensors").model["items.weight"]
        for name in ("plain", "whole", "broken")
    )
    assert torch.equal(whole, broken)
    assert not torch.equal(whole, plain)
