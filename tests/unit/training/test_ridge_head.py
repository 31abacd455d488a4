"""A ridge head: readers that read one, a step that helps those who were not learned from, and a payload of rank 1."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from ossia.adaptation import Base, LowRank, decode_payload, encode_payload
from ossia.adaptation.personalizer_manifest import Generated
from ossia.backbones.backbone import plain
from ossia.data import Dataset, synthetic
from ossia.device.runtimes import RUNTIMES
from ossia.errors import UsageError
from ossia.personalizers.ridge_head import RidgeHead
from ossia.service.generator import load_personalizer
from ossia.service.rankers import make_profiles
from ossia.training import BackboneRecipe, publish, train_backbone
from ossia.training.generator import GeneratorCourse
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.personalizer import choose_events, train_personalizer
from ossia.training.ridge_head import fit_readers, search_length
from ossia.types import Budget

HEAD = GeneratorRecipe(personalizer="ridge-head", batch=400).resolve()
END = "blocks.0.contract"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(300, 40, 9, predictability=0.9, seed=0)


@pytest.fixture(scope="module")
def base(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("trained")
    recipe = BackboneRecipe(dim=8, length=6, blocks=1, heads=2, hidden=16, dropout=0.0, batch=200, epochs=2, lr=0.01)
    for _ in train_backbone(data, recipe, folder / "run"):
        pass
    return publish(folder / "run", data, folder / "base", basis=3)


def course_of(data: Dataset, base: Base, recipe: GeneratorRecipe = HEAD) -> GeneratorCourse:
    return GeneratorCourse.prepare(data, base, recipe, base.path, *choose_events(data, recipe))


def learned(data: Dataset, base: Base, recipe: GeneratorRecipe = HEAD) -> GeneratorCourse:
    course = course_of(data, base, recipe)
    list(course.learn(torch.optim.Adam(course.network.parameters()), 0))
    return course


def head_of(course: GeneratorCourse) -> RidgeHead:
    assert isinstance(course.network, RidgeHead)
    return course.network


def test_readers_read_as_nearly_one_as_can_be_at_the_present_event(data: Dataset, base: Base) -> None:
    course = course_of(data, base)
    fit_readers(course.frozen, head_of(course), course.learned, size=400)
    seen: list[torch.Tensor] = []

    def watch(name: str, linear: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        if name == END:
            seen.append(x[:, -1].detach().double())
        return plain(name, linear, x)

    for batch in course.learned.batches(400, np.random.default_rng(0)):
        course.frozen.backbone(batch.histories, slot=watch)
    x, reader = torch.cat(seen), head_of(course).readers[0].detach().double()
    missed = x @ reader - 1
    assert float(missed.square().mean()) < 0.25  # reading nothing misses by 1
    slope = (x * missed[:, None]).mean(dim=0)  # of the mean square, at its least: 0 but for the damping
    assert float(slope.norm()) < 0.01 * float(x.mean(dim=0).norm())


def test_a_step_makes_the_next_items_of_others_likelier_and_is_ones_own(data: Dataset, base: Base) -> None:
    course = learned(data, base)
    before = course.frozen.judge(course.select).mean_likelihood
    choices = course.compare()
    assert choices.own > before + 0.01
    assert choices.own > choices.another + 0.01
    assert choices.own > choices.constant


def test_the_anchor_shortens_the_step(data: Dataset, base: Base) -> None:
    free, held, nailed = (
        head_of(learned(data, base, msgspec.structs.replace(HEAD, anchor=anchor))).coefficients for anchor in (0.0, 1.0, 1e6)
    )
    assert float(free.detach().norm()) > float(held.detach().norm()) > float(nailed.detach().norm())


def test_a_step_that_helps_nobody_is_not_taken() -> None:
    coefficients, step = torch.ones(2), torch.ones(2)
    assert search_length(coefficients, step, lambda: -float(coefficients.norm())) == 0
    assert not coefficients.any()
    assert search_length(coefficients, step, lambda: -abs(float(coefficients[0]) - 0.2)) == 0.25
    assert coefficients.tolist() == [0.25, 0.25]


@pytest.mark.parametrize("coordinates", [False, True])
def test_from_training_to_a_ranking(data: Dataset, base: Base, coordinates: bool) -> None:
    recipe = msgspec.structs.replace(HEAD, coordinates=coordinates, name="c" if coordinates else "ridge-head")
    epochs = list(train_personalizer(data, base, recipe))
    assert [epoch.index for epoch in epochs] == [0]
    served = load_personalizer(base, str(recipe.name))
    rank = 3 if coordinates else 1
    assert served.manifest.generated == Generated((END,), rank, gates=False, coordinates=coordinates)
    histories = [data.split().test.histories[user] for user in range(8)]
    answers = served.personalize_many(make_profiles(base, histories), [Budget()] * 8)
    payloads = [encode_payload(base, answer, issued=0, expiry=1) for answer in answers]
    assert len(set(payloads)) == 8
    arrived = decode_payload(base, payloads[0], allow_unsigned=True).adaptation
    moved, plainly = (RUNTIMES["numpy"](base, each).state(histories[0]) for each in (arrived, type(arrived)()))
    assert np.abs(moved - plainly).max() > 0
    if not coordinates:
        (first,), (second,) = answers[0].deltas, answers[1].deltas
        assert isinstance(first, LowRank) and isinstance(second, LowRank)
        np.testing.assert_array_equal(first.right, second.right)  # the reader is everybody's
        assert (first.left != second.left).any()


def test_each_slot_has_its_own_move_and_reader(data: Dataset, base: Base) -> None:
    course = learned(data, base, msgspec.structs.replace(HEAD, slots=(END, "blocks.0.expand")))
    head, profiles = head_of(course), course.select.profiles[:1]
    moves = (head.features(profiles) @ head.coefficients)[0].detach().numpy()
    expand, end = head.layout.read(head(profiles)[0].detach().numpy())
    assert isinstance(expand, LowRank) and isinstance(end, LowRank)
    assert (expand.slot, end.slot) == ("blocks.0.expand", END)  # in wire order, however they were asked for
    np.testing.assert_allclose(np.concatenate([expand.left[:, 0], end.left[:, 0]]), moves, rtol=2e-3, atol=1e-6)
    for delta, reader in zip((expand, end), head.readers, strict=True):
        np.testing.assert_allclose(delta.right[0], reader.detach().numpy(), rtol=2e-3, atol=1e-6)


def test_another_rank_is_refused(data: Dataset, base: Base) -> None:
    with pytest.raises(UsageError, match="expected rank=1 or coordinates, got rank=2"):
        list(train_personalizer(data, base, msgspec.structs.replace(HEAD, rank=2, name="two")))


def test_an_installed_one_is_not_trained_again(data: Dataset, base: Base, tmp_path: Path) -> None:
    assert len(list(train_personalizer(data, base, HEAD, tmp_path))) == 1
    assert list(train_personalizer(data, base, HEAD, tmp_path)) == []
