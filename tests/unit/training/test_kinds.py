"""Every backbone through the same training: it learns what can be learned, resumes to the bit, and becomes a base."""

from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from ossia.adaptation import Adaptation, Base
from ossia.backbones import BACKBONES, TorchRanker
from ossia.data import Dataset, Histories, item_counts, leave_one_out, synthetic
from ossia.device.runtimes import NUMPY
from ossia.errors import UsageError
from ossia.evaluation import Popularity, judge
from ossia.training import BackboneRecipe, load_run, publish, train_backbone
from ossia.training.batches import cut_windows
from ossia.training.frozen import FrozenBase
from ossia.training.personalizer import PersonalizerRecipe, codes_loss, make_personalizer
from ossia.training.run import build
from ossia.training.sensitivities import sensitivities

SMALL = {
    "sasrec": BackboneRecipe(dim=16, length=6, blocks=1, heads=2, hidden=16),
    "caser": BackboneRecipe(backbone="caser", dim=16, length=3, vertical=2, horizontal=4),
    "gru4rec": BackboneRecipe(backbone="gru4rec", dim=16, length=6, hidden=16),
    "sasrec with valves": BackboneRecipe(dim=16, length=6, blocks=1, heads=2, hidden=16, valves=1),
}


def recipe_of(kind: str, **settings: object) -> BackboneRecipe:
    small = {"batch": 128, "epochs": 8, "lr": 0.03, "loss": "full_softmax"}
    return msgspec.structs.replace(SMALL[kind], **{**small, **settings})


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(200, 30, 9, predictability=0.9, seed=0, rules=1)


@pytest.fixture(scope="module", params=SMALL)
def run(request: pytest.FixtureRequest, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "RUN"
    list(train_backbone(data, recipe_of(request.param), path))
    return path


@pytest.fixture(scope="module")
def base(run: Path, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return publish(run, data, tmp_path_factory.mktemp("bases") / "BASE")


def test_predictable_users_are_predicted_far_better_than_by_popularity(run: Path, data: Dataset) -> None:
    split = leave_one_out(data.histories)
    rankers = (TorchRanker(load_run(run).backbone), Popularity(item_counts(split.train, data.items)))
    trained, popular = (judge("x", ranker, split.test, data.items).ndcg(10) for ranker in rankers)
    assert trained > 1.5 * popular


@pytest.mark.parametrize("kind", ["caser", "gru4rec"])
def test_an_interrupted_and_resumed_run_is_bit_identical(kind: str, data: Dataset, tmp_path: Path) -> None:
    recipe = recipe_of(kind, epochs=3)
    list(train_backbone(data, recipe, tmp_path / "whole"))
    list(islice(train_backbone(data, recipe, tmp_path / "parts"), 1))
    torch.rand(3)  # whatever else the process does
    list(train_backbone(data, recipe, tmp_path / "parts"))
    whole, parts = ((tmp_path / name / "best.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_a_published_base_ranks_as_it_was_trained_in_both_arithmetics(run: Path, base: Base, data: Dataset) -> None:
    cases, trained = leave_one_out(data.histories).test, load_run(run)
    assert (base.manifest.backbone, base.manifest.shape) == (trained.recipe.backbone, trained.backbone.shape)
    assert base.manifest.shape.get("valves") == trained.recipe.valves
    in_torch = judge("torch", TorchRanker(trained.backbone), cases, data.items).ndcg(10)
    for name, runtime in NUMPY.items():
        on_device = judge(name, runtime(base, Adaptation()), cases, data.items).ndcg(10)
        assert on_device == pytest.approx(in_torch, abs=0.05)


def test_a_personalizer_can_learn_on_any_base(base: Base, data: Dataset) -> None:
    frozen, cases = FrozenBase.load(base, (2, 4, 8), torch.device("cpu")), leave_one_out(data.histories).validation
    chord = make_personalizer(base, PersonalizerRecipe(hidden=8).resolve(), {n: w[-1] for n, w in frozen.weights.items()})
    batch = frozen.events(cases).batch(np.arange(20))
    codes_loss(frozen, PersonalizerRecipe().resolve())(chord, batch, torch.Generator().manual_seed(0)).backward()
    assert all(parameter.grad is not None for parameter in chord.parameters())
    found = sensitivities(frozen, batch, 2)
    assert found.shape == (20, base.channels)
    assert (found != 0).any(dim=0).float().mean() > 0.5  # a filter that never speaks has none


@pytest.mark.parametrize(
    ("kind", "size"),
    [("caser", "heads"), ("caser", "layers"), ("gru4rec", "blocks"), ("gru4rec", "valves"), ("sasrec", "vertical")],
)
def test_a_size_that_the_backbone_does_not_have_is_refused_by_name(kind: str, size: str) -> None:
    with pytest.raises(UsageError, match=rf"recipe: expected a size that {kind} has \(dim, length, .*\), got {size}"):
        msgspec.structs.replace(BackboneRecipe(backbone=kind), **{size: 1}).resolve(10)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_recipe_that_says_nothing_makes_the_backbone_as_it_makes_itself(kind: str) -> None:
    recipe = BackboneRecipe(backbone=kind).resolve(10)  # type: ignore[arg-type]
    assert build(recipe, 10).shape == BACKBONES[kind](10).shape == {"items": 10, "dim": 64, **recipe.sizes}


def test_a_sasrec_without_valves_is_what_it_was_and_never_names_them() -> None:
    plain, valved = (build(BackboneRecipe(blocks=1, valves=valves).resolve(10), 10) for valves in (None, 1))
    assert "valves" not in plain.shape
    assert valved.shape == {**plain.shape, "valves": 1}
    extra = {"up", "attention_valve", "feed_forward_valve"}
    assert {name.split(".")[2] for name in set(valved.state_dict()) - set(plain.state_dict())} == extra


def test_valves_are_there_or_not() -> None:
    with pytest.raises(UsageError, match="recipe: Invalid enum value 2"):
        BackboneRecipe(valves=2).resolve(10)  # type: ignore[arg-type]


def test_what_a_backbone_reads_does_not_cut_what_it_trains_on() -> None:
    histories = Histories.from_lists([list(range(40))])
    assert [len(cut_windows(histories, SMALL[kind].window)) for kind in ("caser", "gru4rec")] == [1, 7]
