"""Training a personalizer: what it may look at, what an interruption changes (nothing), and what is installed."""

from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from ossia.adaptation import Base, write_base
from ossia.adaptation.manifests import read_manifest
from ossia.adaptation.personalizer_manifest import PersonalizerManifest
from ossia.data import Dataset, Histories, item_counts, leave_one_out, synthetic
from ossia.errors import ArtifactError, DataError, UsageError
from ossia.service.personalizer import Personalizer
from ossia.training.code_choices import compare_choices, mean_importance
from ossia.training.frozen import FrozenBase
from ossia.training.personalizer import PersonalizerRecipe, choose_events, finished, make_personalizer, train_personalizer
from ossia.training.personalizer_checkpoint import PersonalizerEpoch, training_folder
from ossia.types import Slot

TINY = PersonalizerRecipe(hidden=8, epochs=2, patience=9, warm_steps=10, batch=60, lr=0.01)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(60, 30, 9, predictability=0.8, seed=0)


@pytest.fixture
def base(data: Dataset, tmp_path: Path) -> Base:
    return publish_random(data, tmp_path / "BASE")


def publish_random(data: Dataset, path: Path) -> Base:
    """Publish random weights as a base for these data; equal data give an equal base."""
    rng = np.random.default_rng(0)
    slots = [
        Slot(f"blocks.0.{part}", channels, inputs)
        for part, channels, inputs in (
            *((part, 8, 8) for part in ("query", "key", "value", "output")),
            ("expand", 16, 8),
            ("contract", 8, 16),
        )
    ]
    shapes = {"positions.weight": (6, 8), "norm.weight": (8,), "norm.bias": (8,)}
    shapes |= {f"{slot.name}.weight": (slot.channels, slot.inputs) for slot in slots}
    shapes |= {f"{slot.name}.bias": (slot.channels,) for slot in slots}
    shapes |= {f"blocks.0.{norm}_norm.{part}": (8,) for norm in ("attention", "feed_forward") for part in ("weight", "bias")}
    return write_base(
        path,
        backbone="sasrec",
        shape={"items": data.items, "dim": 8, "length": 6, "blocks": 1, "heads": 2, "hidden": 16},
        slots=slots,
        gates=["blocks.0.attention", "blocks.0.feed_forward"],
        weights={name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()},
        profile_clip=3.0,
        item_vectors=rng.standard_normal((data.items, 8)).astype(np.float32),
        item_ids=data.item_ids,
        item_counts=item_counts(leave_one_out(data.histories).train, data.items).astype(np.float32),
    )


def test_events_to_learn_and_to_choose_are_other_users_and_never_test_events(data: Dataset) -> None:
    learn, select = choose_events(data, TINY.resolve())
    assert set(learn.users.tolist()).isdisjoint(select.users.tolist())
    assert len(learn) + len(select) == 60
    for cases in (learn, select):
        for user, history, target in zip(cases.users.tolist(), cases.histories, cases.targets, strict=True):
            assert [*history, target] == data.histories[user][:-1].tolist()


def test_training_events_end_before_the_validation_event(data: Dataset) -> None:
    learn, select = choose_events(data, msgspec.structs.replace(TINY, events="training", cuts=3).resolve())
    assert len(learn) == 3 * 60
    assert len(select) == 60
    for user, history, target in zip(learn.users.tolist(), learn.histories, learn.targets, strict=True):
        whole = data.histories[user].tolist()
        assert [*history, target] == whole[: len(history) + 1]
        assert len(history) + 1 <= len(whole) - 2


def test_too_few_users_are_refused(base: Base) -> None:
    few = synthetic(4, 30, 9, predictability=0.8, seed=0)
    with pytest.raises(DataError, match="at least 10 users"):
        choose_events(few, TINY.resolve())


def results(base: Base) -> tuple[dict[str, bytes], list[dict[str, object]]]:
    """What a training leaves, but for how long it took."""
    folder = base.path / "personalizers" / "chord"
    lines = [msgspec.json.decode(line) for line in (folder / "history.jsonl").read_bytes().splitlines()]
    kept = [{name: value for name, value in line.items() if name != "seconds"} for line in lines]
    return {name: (folder / name).read_bytes() for name in ("model.onnx", "constant.safetensors")}, kept


def test_an_interrupted_and_resumed_training_is_bit_identical_and_a_finished_one_is_left_alone(
    data: Dataset, base: Base, tmp_path: Path
) -> None:
    assert [epoch.index for epoch in train_personalizer(data, base, TINY)] == [0, 1, 2]
    other = publish_random(data, tmp_path / "OTHER")
    assert len(list(islice(train_personalizer(data, other, TINY), 1))) == 1
    assert not (other.path / "personalizers" / "chord").exists()
    torch.rand(3)  # whatever else the process does
    assert [epoch.index for epoch in train_personalizer(data, other, TINY)] == [1, 2]
    assert results(base) == results(other)
    assert not training_folder(other.path, "chord").exists()

    before = results(base)
    assert list(train_personalizer(data, base, TINY)) == []
    assert results(base) == before
    with pytest.raises(UsageError, match=r"manifest.json: expected lr 0.01 .* got 0.02"):
        train_personalizer(data, base, msgspec.structs.replace(TINY, lr=0.02))

    loaded = Personalizer.load(Base.load(base.path), "chord")
    _, manifest = read_manifest(base.path / "personalizers" / "chord" / "manifest.json", PersonalizerManifest)
    assert manifest.data == data.hash
    assert manifest.base == base.id.hex()
    assert msgspec.convert(manifest.recipe, PersonalizerRecipe) == TINY.resolve()
    assert {"torch", "numpy", "ossia"} <= manifest.versions.keys()
    assert manifest.validation["own_log_likelihood"] == max(line["own"] for line in before[1])
    assert loaded.constant.channels is not None
    assert loaded.constant.rows is not None
    assert loaded.constant.channels.mean() == pytest.approx(1, abs=1e-4)
    assert loaded.constant.rows.sum() == pytest.approx(1, abs=1e-4)


def test_an_interrupted_training_with_other_settings_is_refused_by_name(data: Dataset, base: Base) -> None:
    list(islice(train_personalizer(data, base, TINY), 1))
    with pytest.raises(UsageError, match=r"checkpoint.safetensors: expected hidden 8 .* got 4"):
        list(train_personalizer(data, base, msgspec.structs.replace(TINY, hidden=4)))
    path = training_folder(base.path, "chord") / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match=r"checkpoint.safetensors: expected safetensors"):
        list(train_personalizer(data, base, TINY))
    assert [epoch.index for epoch in islice(train_personalizer(data, base, TINY, resume=False), 1)] == [0]


def test_data_of_other_items_are_refused(base: Base) -> None:
    with pytest.raises(UsageError, match="expected the 30 items"):
        train_personalizer(synthetic(60, 20, 9, predictability=0.8, seed=0), base, TINY)


def test_the_base_is_as_it_was_and_straight_through_alone_moves_the_hypernetworks(data: Dataset, base: Base) -> None:
    before = {path: path.read_bytes() for path in base.path.rglob("*") if path.is_file()}
    recipe = msgspec.structs.replace(TINY, learn="codes", epochs=1)
    (epoch,) = islice(train_personalizer(data, base, recipe), 1)
    assert np.isfinite([epoch.loss, epoch.own, epoch.another, epoch.constant]).all()
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_personalizer_that_says_the_same_of_everybody_gains_nothing_over_the_constant(data: Dataset, base: Base) -> None:
    recipe = TINY.resolve()
    frozen = FrozenBase.load(base, recipe.alphabet, torch.device("cpu"))
    learn, select = (frozen.events(cases) for cases in choose_events(data, recipe))
    chord = make_personalizer(base, recipe, {name: stacked[-1] for name, stacked in frozen.weights.items()}).eval()
    found = compare_choices(frozen, chord, learn, select, bits=3.0, seed=0)  # untrained: magnitudes, the same for all
    assert found.own == found.another == pytest.approx(found.constant, abs=1e-6)
    everybody = mean_importance(chord, learn.profiles)
    torch.testing.assert_close(everybody, chord.importance(select.profiles)[0].detach(), rtol=1e-4, atol=1e-5)


def test_own_widths_are_as_personal_as_those_who_choose_like_best(
    data: Dataset, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = msgspec.structs.replace(TINY, personalizer="ridge", learn="sensitivities")
    own = {}
    for lengths in ((0.0,), (1.0,), (0.0, 1.0)):
        monkeypatch.setattr("ossia.training.sensitivities.LENGTHS", lengths)
        (epoch,) = train_personalizer(data, base, recipe, resume=False)
        own[lengths] = epoch.own
    assert own[0.0,] != own[1.0,]
    assert own[0.0, 1.0] == max(own[0.0,], own[1.0,])


def test_training_ends_when_validation_has_not_improved() -> None:
    def epoch(index: int, best: bool) -> PersonalizerEpoch:
        return PersonalizerEpoch(index, 1.0, -1.0, -1.0, -1.0, 0.1, best, 1.0)

    recipe = PersonalizerRecipe(epochs=9, patience=2)
    assert not finished((), recipe)
    assert not finished((epoch(0, True), epoch(1, False)), recipe)
    assert finished((epoch(0, True), epoch(1, False), epoch(2, False)), recipe)
    assert finished(tuple(epoch(index, True) for index in range(10)), recipe)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"alphabet": (8, 2)}, "rising widths"),
        ({"alphabet": (2,)}, "two or more"),
        ({"alphabet": (2, 3)}, "rising widths out of"),
        ({"fewest_bits": 1.0}, "fewest_bits ≤ most_bits, from 2 upward"),
        ({"fewest_bits": 5.0, "most_bits": 3.0}, "fewest_bits ≤ most_bits"),
        ({"name": "../x"}, "name"),
        ({"temperature": 0.0}, "temperature"),
        ({"device": "cuda:99"}, "cuda"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        msgspec.structs.replace(PersonalizerRecipe(), **changes).resolve()


def test_users_without_validation_case_are_not_learned_from() -> None:
    lists = [[0, 1]] * 5 + [[0, 1, 2, 3]] * 12
    learn, select = choose_events_of(Histories.from_lists(lists))
    assert len(learn) + len(select) == 12


def choose_events_of(histories: Histories) -> tuple[object, object]:
    data = synthetic(20, 8, 4, predictability=1.0, seed=0)
    return choose_events(Dataset(histories, data.user_ids, data.item_ids, None, data.info), TINY.resolve())
