"""A recipe is checked and completed before anything is trained."""

import msgspec
import pytest
import torch

from ossia.errors import UsageError
from ossia.training.recipes import BackboneRecipe, check_device


@pytest.mark.parametrize(("items", "loss"), [(1_349, "full_softmax"), (5_000, "full_softmax"), (5_001, "sampled_softmax")])
def test_the_loss_follows_the_size_of_the_catalog(items: int, loss: str) -> None:
    assert BackboneRecipe().resolve(items).loss == loss


def test_a_loss_that_was_chosen_stays() -> None:
    assert BackboneRecipe(loss="bce").resolve(100_000).loss == "bce"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 0.0),
        ("lr", float("nan")),
        ("dropout", 1.0),
        ("dim", 0),
        ("negatives", -1),
        ("epochs", 0),
        ("batch", 0),
        ("alpha", -0.5),
        ("seed", -1),
        ("device", "tpu"),
        ("device", "cuda:x"),
        ("loss", "hinge"),
        ("backbone", "narm"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"recipe: .*{field}"):
        msgspec.structs.replace(BackboneRecipe(), **{field: value}).resolve(10)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UsageError, match="heads that divide dim 64, got 3"):
        BackboneRecipe(heads=3).resolve(10)


def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(UsageError, match="device"):
        check_device(f"cuda:{torch.cuda.device_count()}")
    assert check_device("cpu").type == "cpu"


def test_a_resolved_recipe_can_be_written_and_read_and_resolves_to_itself() -> None:
    recipe = BackboneRecipe(seed=7, lr=0.003).resolve(100)
    assert msgspec.json.decode(msgspec.json.encode(recipe), type=BackboneRecipe) == recipe
    assert recipe.resolve(100) == recipe
