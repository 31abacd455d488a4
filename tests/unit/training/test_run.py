"""The run folder tells everything about a training, and a damaged one is named."""

import json
from pathlib import Path

import msgspec
import pytest
import torch

from ossia.data import Dataset, synthetic
from ossia.errors import ArtifactError
from ossia.training import BackboneRecipe, load_run, train_backbone
from ossia.training.run import build

TINY = BackboneRecipe(dim=8, length=6, blocks=1, heads=2, hidden=16, batch=64, epochs=2)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(30, 20, 8, predictability=0.8, seed=0)


@pytest.fixture
def run(data: Dataset, tmp_path: Path) -> Path:
    list(train_backbone(data, TINY, tmp_path / "RUN"))
    return tmp_path / "RUN"


def test_a_run_keeps_settings_seeds_versions_and_the_datas_identity(run: Path, data: Dataset) -> None:
    recipe, record = (json.loads((run / name).read_bytes()) for name in ("recipe.json", "run.json"))
    assert recipe["loss"] == "full_softmax"  # resolved
    assert recipe["seed"] == 0
    assert record["data_hash"] == data.hash
    assert record["sessions"][0]["versions"]["torch"] == torch.__version__
    assert {file.name for file in run.iterdir()} == {
        "recipe.json",
        "run.json",
        "history.jsonl",
        "best.safetensors",
        "checkpoint.safetensors",
    }


def test_a_run_reads_back_what_was_trained(run: Path, data: Dataset) -> None:
    loaded = load_run(run)
    assert loaded.recipe == TINY.resolve(data.items)
    assert loaded.data_hash == data.hash
    assert [epoch.index for epoch in loaded.epochs] == [0, 1]
    assert not loaded.backbone.training
    assert loaded.backbone.shape["items"] == data.items


def test_every_session_is_noted(data: Dataset, tmp_path: Path) -> None:
    next(train_backbone(data, TINY, tmp_path / "RUN"))
    list(train_backbone(data, TINY, tmp_path / "RUN"))
    record = json.loads((tmp_path / "RUN" / "run.json").read_bytes())
    assert [session["first_epoch"] for session in record["sessions"]] == [0, 1]


@pytest.mark.parametrize("name", ["recipe.json", "run.json", "history.jsonl", "best.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe"])
def test_a_file_that_is_missing_or_damaged_is_named(run: Path, name: str, content: bytes | None) -> None:
    if content == b"" and name == "history.jsonl":
        pytest.skip("no line is no epoch")
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        load_run(run)


def test_weights_of_another_shape_are_refused(run: Path) -> None:
    path = run / "recipe.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(load_run(run).recipe, hidden=32)))
    with pytest.raises(ArtifactError, match=r"best\.safetensors"):
        load_run(run)


def test_the_first_weights_are_a_function_of_the_recipe() -> None:
    first, again, other = (build(msgspec.structs.replace(TINY, seed=seed), 10).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["items.weight"], other["items.weight"])
