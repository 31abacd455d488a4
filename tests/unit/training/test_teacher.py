"""The cached lists are the teacher's ranking, event by event; and a pass that was killed goes on."""

from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

import ossia.training.teacher as module
from ossia.backbones import Caser, SASRec, TorchRanker
from ossia.data import Dataset, Histories, leave_one_out, synthetic
from ossia.errors import ArtifactError, UsageError
from ossia.training import BackboneRecipe, Run, load_run, train_backbone
from ossia.training.batches import Windows, cut_windows, epoch_batches
from ossia.training.recipes import Distillation
from ossia.training.teacher import taught_batches, teacher_lists

ITEMS, LENGTH, TOP = 40, 4, 5
TINY = BackboneRecipe(dim=8, length=6, blocks=1, heads=2, hidden=16, batch=128, epochs=3, lr=0.01, loss="sampled_softmax")


@pytest.fixture(scope="module")
def teacher() -> SASRec:
    torch.manual_seed(1)
    model = SASRec(ITEMS, dim=8, length=LENGTH + 2, blocks=1, heads=2, hidden=16).eval()
    with torch.no_grad():
        model.items.weight.mul_(20)
    return model


@pytest.fixture(scope="module")
def windows() -> Windows:
    rng = np.random.default_rng(0)
    return cut_windows(Histories.from_lists([rng.integers(0, ITEMS, n).tolist() for n in (1, 2, 7, 3, 12, 4)]), LENGTH)


def test_a_list_is_what_the_teacher_ranks_first_in_the_whole_catalog(teacher: SASRec, windows: Windows, tmp_path: Path) -> None:
    lists, row = teacher_lists(teacher, windows, TOP, tmp_path), 0
    for start, size in zip(windows.starts, windows.sizes, strict=True):
        inputs = windows.events[start : start + size].astype(np.int64)
        states = teacher(torch.from_numpy(inputs)[None])[0].detach()
        for step in range(size):
            best = (states[step] @ teacher.items.weight.T.detach()).topk(TOP)
            assert lists[row]["items"].tolist() == best.indices.tolist()
            assert lists[row]["scores"] == pytest.approx(best.values.numpy(), abs=0.01)
            row += 1
    assert row == len(lists)


def test_batches_are_those_without_a_teacher_each_event_with_its_own_list(
    teacher: SASRec, windows: Windows, tmp_path: Path
) -> None:
    lists = np.array(teacher_lists(teacher, windows, TOP, tmp_path))
    target = np.concatenate([windows.events[s + 1 : s + n + 1] for s, n in zip(windows.starts, windows.sizes, strict=True)])
    lists["items"][:, 0] = target  # mark each list with the event that it belongs to
    taught = list(taught_batches(windows, lists, 8, np.random.default_rng(3)))
    plain = list(epoch_batches(windows, 8, np.random.default_rng(3)))
    assert len(taught) == len(plain) > 2
    for one, other in zip(taught, plain, strict=True):
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("inputs", "targets", "pieces"))
        assert torch.equal(one.lists[:, 0], one.targets[one.inputs >= 0])


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("torn", [0, 7])
def test_a_pass_that_was_killed_goes_on_to_the_same_bytes(
    teacher: SASRec, windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, torn: int
) -> None:
    monkeypatch.setattr(module, "CHUNK_SCORES", ITEMS * 8)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    teacher_lists(teacher, windows, TOP, whole)
    original, calls = module._records, []

    def die_in_time(*arguments: object) -> np.ndarray:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_records", die_in_time)
        with pytest.raises(KeyboardInterrupt):
            teacher_lists(teacher, windows, TOP, broken)
    assert not (broken / "teacher.npy").exists()
    part = broken / "teacher.npy.part"
    part.write_bytes(part.read_bytes() + bytes(torn))
    teacher_lists(teacher, windows, TOP, broken)
    assert (broken / "teacher.npy").read_bytes() == (whole / "teacher.npy").read_bytes()


def test_lists_that_are_something_else_are_refused(teacher: SASRec, windows: Windows, tmp_path: Path) -> None:
    teacher_lists(teacher, windows, TOP, tmp_path)
    with pytest.raises(ArtifactError, match=r"teacher\.npy: expected lists of 6"):
        teacher_lists(teacher, windows, TOP + 1, tmp_path)
    with pytest.raises(UsageError, match="expected top of at most"):
        teacher_lists(teacher, windows, ITEMS + 1, tmp_path)
    longer = cut_windows(Histories.from_lists([list(range(20))]), 10)
    with pytest.raises(UsageError, match="expected to read at least 10 events"):
        teacher_lists(teacher, longer, TOP, tmp_path)


def test_a_teacher_whose_states_pick_their_own_events_reads_windows_of_any_length(tmp_path: Path) -> None:
    caser, longer = (
        Caser(ITEMS, dim=8, length=3, vertical=1, horizontal=2),
        cut_windows(Histories.from_lists([[*range(12)]]), 10),
    )
    lists = teacher_lists(caser, longer, TOP, tmp_path)
    with torch.no_grad():
        last = caser.eval()(torch.arange(8, 11)[None])[0, -1] @ caser.items.weight.T
    assert lists["items"][9].tolist() == last.topk(TOP).indices.tolist()


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(150, 40, 9, predictability=0.9, seed=0, rules=1)


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A teacher who knows the rule."""
    path = tmp_path_factory.mktemp("teacher") / "RUN"
    recipe = msgspec.structs.replace(TINY, dim=16, loss="full_softmax", epochs=12, patience=12, lr=0.03)
    list(train_backbone(data, recipe, path))
    return load_run(path)


def agreement(one: SASRec, other: SASRec, data: Dataset) -> float:
    """Share of the first five items that two models have in common, over all users."""
    histories = list(leave_one_out(data.histories).validation.histories)
    tops = [TorchRanker(model).scores_many(histories).argsort(1)[:, -5:] for model in (one, other)]
    return float(np.mean([len(set(a) & set(b)) / 5 for a, b in zip(*tops, strict=True)]))


@pytest.mark.parametrize("loss", ["temperature", "rrd", "rce"])
def test_a_student_ranks_more_like_its_teacher_than_one_trained_alone(
    data: Dataset, run: Run, tmp_path: Path, loss: str
) -> None:
    recipe = msgspec.structs.replace(TINY, epochs=6, patience=6, negatives=32)
    taught = msgspec.structs.replace(recipe, distillation=Distillation(loss=loss, top=10, weight=0.7))
    list(train_backbone(data, recipe, tmp_path / "alone"))
    list(train_backbone(data, taught, tmp_path / "taught", teacher=run))
    alone, distilled = (agreement(load_run(tmp_path / name).backbone, run.backbone, data) for name in ("alone", "taught"))
    assert distilled > 1.05 * alone


def test_an_interrupted_student_goes_on_to_the_same_weights(data: Dataset, run: Run, tmp_path: Path) -> None:
    list(train_backbone(data, TINY, tmp_path / "whole", teacher=run))
    list(islice(train_backbone(data, TINY, tmp_path / "broken", teacher=run), 1))
    list(train_backbone(data, TINY, tmp_path / "broken", teacher=run))
    whole, broken = ((tmp_path / name / "best.safetensors").read_bytes() for name in ("whole", "broken"))
    assert whole == broken


def test_a_teacher_must_be_there_of_the_same_data_and_stay_the_same(data: Dataset, run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a teacher's run"):
        train_backbone(data, msgspec.structs.replace(TINY, distillation=Distillation()), tmp_path / "RUN")
    with pytest.raises(UsageError, match="teacher: expected data with hash"):
        train_backbone(synthetic(60, 30, 9, predictability=0.8, seed=1), TINY, tmp_path / "RUN", teacher=run)
    with pytest.raises(UsageError, match="expected a softmax loss"):
        train_backbone(data, msgspec.structs.replace(TINY, loss="bce"), tmp_path / "RUN", teacher=run)
    list(islice(train_backbone(data, TINY, tmp_path / "RUN", teacher=run), 1))
    with pytest.raises(UsageError, match="expected distillation"):
        train_backbone(data, TINY, tmp_path / "RUN")
