"""Training a backbone: it learns what there is to learn, stops in time, and an interruption changes nothing."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from ossia.backbones import TorchRanker
from ossia.data import Dataset, Histories, item_counts, leave_one_out, synthetic
from ossia.data.dataset import data_hash
from ossia.errors import ArtifactError, DataError, UsageError
from ossia.evaluation import Popularity, judge
from ossia.training import BackboneRecipe, Epoch, Step, load_run, publish, refit_recipe, train_backbone
from ossia.training.backbone import finished
from ossia.training.checkpoint import load_checkpoint
from ossia.training.personalizer import PersonalizerRecipe, train_personalizer
from ossia.training.run import build, read_history

TINY = BackboneRecipe(
    dim=8, length=6, blocks=1, heads=2, hidden=16, batch=128, epochs=4, lr=0.01, loss="sampled_softmax", negatives=16
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(60, 30, 9, predictability=0.8, seed=0)


@pytest.fixture(scope="module")
def whole(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    path = tmp_path_factory.mktemp("runs") / "RUN"
    assert len(list(train_backbone(data, TINY, path))) == 4
    return path


def same_results(one: Path, other: Path) -> bool:
    checkpoints = (load_checkpoint(path / "checkpoint.safetensors") for path in (one, other))
    groups = [(c.model, c.average, c.best, c.optimizer) for c in checkpoints]
    best = [(path / "best.safetensors").read_bytes() for path in (one, other)]
    return best[0] == best[1] and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in zip(*groups, strict=True)
    )


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_and_resumed_run_is_bit_identical(data: Dataset, whole: Path, tmp_path: Path, after: int) -> None:
    first = list(islice(train_backbone(data, TINY, tmp_path / "RUN"), after))
    torch.rand(3)  # whatever else the process does
    rest = list(train_backbone(data, TINY, tmp_path / "RUN"))
    assert [epoch.index for epoch in first + rest] == [0, 1, 2, 3]
    assert same_results(whole, tmp_path / "RUN")
    without_time = [
        [(e.loss, e.validation_ndcg, e.best) for e in read_history(path / "history.jsonl")]
        for path in (whole, tmp_path / "RUN")
    ]
    assert without_time[0] == without_time[1]


def test_a_run_from_before_a_setting_was_added_goes_on(data: Dataset, whole: Path, tmp_path: Path) -> None:
    list(islice(train_backbone(data, TINY, tmp_path / "RUN"), 1))
    recipe = msgspec.json.decode((tmp_path / "RUN" / "recipe.json").read_bytes())
    del recipe["item_optimizer"], recipe["calibration"]
    (tmp_path / "RUN" / "recipe.json").write_bytes(msgspec.json.encode(recipe))
    list(train_backbone(data, TINY, tmp_path / "RUN"))
    assert same_results(whole, tmp_path / "RUN")


class Killed(BaseException):
    """Stands for a kill: nothing that the code could catch and tidy up after."""


@pytest.mark.parametrize("moment", ["save_checkpoint", "write_whole", "write_history", "validation_quality", "add_session"])
def test_a_kill_at_any_moment_is_made_good(
    data: Dataset, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    import ossia.training.backbone as module

    original, calls = getattr(module, moment), []

    def die_in_time(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == (1 if moment == "add_session" else 2):
            raise Killed
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, moment, die_in_time)
        with pytest.raises(Killed):
            list(train_backbone(data, TINY, tmp_path / "RUN"))
    list(train_backbone(data, TINY, tmp_path / "RUN"))
    assert same_results(whole, tmp_path / "RUN")
    assert [epoch.index for epoch in read_history(tmp_path / "RUN" / "history.jsonl")] == [0, 1, 2, 3]


def test_a_finished_run_yields_nothing_and_stays_as_it_is(data: Dataset, whole: Path) -> None:
    before = {file.name: file.read_bytes() for file in whole.iterdir()}
    assert list(train_backbone(data, TINY, whole)) == []
    assert {file.name: file.read_bytes() for file in whole.iterdir()} == before


@pytest.mark.parametrize("field", ["seed", "lr", "dim", "epochs", "loss"])
def test_another_setting_is_refused_by_name(data: Dataset, whole: Path, field: str) -> None:
    values = {"seed": 3, "lr": 0.02, "dim": 16, "epochs": 9, "loss": "bce"}
    with pytest.raises(UsageError, match=f"expected {field} .* as in the run so far, got"):
        train_backbone(data, msgspec.structs.replace(TINY, **{field: values[field]}), whole)


def test_other_data_are_refused(whole: Path) -> None:
    with pytest.raises(UsageError, match="expected data with hash"):
        train_backbone(synthetic(60, 30, 9, predictability=0.8, seed=1), TINY, whole)


def test_a_folder_that_is_something_else_is_left_alone(data: Dataset, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="a run's folder"):
        train_backbone(data, TINY, tmp_path)
    with pytest.raises(UsageError, match="new or empty"):
        train_backbone(data, TINY, whole, resume=False)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_checkpoint_is_an_error_and_not_a_new_start(data: Dataset, tmp_path: Path) -> None:
    list(islice(train_backbone(data, TINY, tmp_path / "RUN"), 1))
    path = tmp_path / "RUN" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"checkpoint\.safetensors"):
        list(train_backbone(data, TINY, tmp_path / "RUN"))


@pytest.mark.parametrize("lists", [[], [[0], [1]], [[0, 1], [1, 0]], [[0, 1, 0]]])
def test_a_log_with_nothing_to_train_on_or_to_validate_with_is_refused(
    data: Dataset, tmp_path: Path, lists: list[list[int]]
) -> None:
    histories = Histories.from_lists(lists)
    users, items = [f"u{user}" for user in range(len(lists))], ["a", "b"]
    info = msgspec.structs.replace(data.info, hash=data_hash(histories, users, items))
    with pytest.raises(DataError, match="expected a user"):
        train_backbone(Dataset(histories, users, items, None, info), TINY, tmp_path / "RUN")
    assert not (tmp_path / "RUN").exists()


def test_a_step_too_long_is_an_error_that_names_it(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ossia.training.backbone as module

    monkeypatch.setattr(module, "fit", lambda *_, **__: iter([Step(0, float("nan"))]))
    with pytest.raises(UsageError, match=r"expected a finite loss, got nan; a smaller lr than 0\.01"):
        list(train_backbone(data, TINY, tmp_path / "RUN"))


def test_the_best_epoch_is_kept_and_not_the_last(data: Dataset, tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(TINY, epochs=60, patience=3, lr=0.1)  # rough, so that it gets worse again
    epochs = list(train_backbone(data, recipe, tmp_path / "RUN"))
    best = max(epochs, key=lambda epoch: epoch.validation_ndcg)
    assert [epoch.index for epoch in epochs if epoch.best][-1] == best.index
    assert len(epochs) - 1 - best.index == 3 or len(epochs) == 60
    run = load_run(tmp_path / "RUN")
    cases = leave_one_out(data.histories).validation
    assert judge("best", TorchRanker(run.backbone), cases, data.items).ndcg(10) == pytest.approx(best.validation_ndcg)


def learns(predictability: float, path: Path) -> tuple[float, float]:
    data = synthetic(300, 30, 9, predictability=predictability, seed=0, rules=1)
    recipe = msgspec.structs.replace(TINY, epochs=12, lr=0.03, loss="full_softmax", patience=12)
    list(train_backbone(data, recipe, path))
    split = leave_one_out(data.histories)
    rankers = (TorchRanker(load_run(path).backbone), Popularity(item_counts(split.train, data.items)))
    ours, popular = (judge("x", ranker, split.test, data.items).ndcg(10) for ranker in rankers)
    return ours, popular


def test_users_who_follow_a_rule_are_learned(tmp_path: Path) -> None:
    ours, popular = learns(1.0, tmp_path / "RUN")
    assert ours > 2 * popular


def test_random_users_teach_nothing(tmp_path: Path) -> None:
    ours, popular = learns(0.0, tmp_path / "RUN")
    assert not ours > 1.3 * popular


@pytest.mark.parametrize("loss", ["full_softmax", "sampled_softmax", "bce", "gbce"])
def test_every_loss_trains(tmp_path: Path, loss: str) -> None:
    rule = synthetic(200, 15, 9, predictability=1.0, seed=0, rules=1)
    most = 30 if loss == "gbce" else 8  # its many negatives outweigh the positive at first
    recipe = msgspec.structs.replace(TINY, loss=loss, epochs=most, patience=most, lr=0.03)
    epochs = list(train_backbone(rule, recipe, tmp_path / "RUN"))
    assert epochs[-1].loss < 0.8 * epochs[0].loss
    assert epochs[-1].validation_ndcg > 0.9


def test_every_parameter_moves(data: Dataset, whole: Path) -> None:
    from ossia.training.run import build

    before, after = build(TINY, data.items).state_dict(), load_checkpoint(whole / "checkpoint.safetensors").model
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("optimizer", ["dense", "rows"])
def test_where_only_items_move_the_encoder_stays_as_the_seed_drew_it(data: Dataset, tmp_path: Path, optimizer: str) -> None:
    recipe = msgspec.structs.replace(TINY, moving="items", item_optimizer=optimizer, epochs=2)
    first = build(recipe, data.items).state_dict()
    assert len(list(islice(train_backbone(data, recipe, tmp_path / "run"), 1))) == 1
    assert len(list(train_backbone(data, recipe, tmp_path / "run"))) == 1  # the optimizer's one state is taken up
    after = load_run(tmp_path / "run").backbone.state_dict()
    assert {name for name in first if not torch.equal(first[name], after[name])} == {"items.weight"}


def test_equal_seeds_train_alike_and_others_do_not(data: Dataset, whole: Path, tmp_path: Path) -> None:
    list(train_backbone(data, TINY, tmp_path / "same"))
    list(train_backbone(data, msgspec.structs.replace(TINY, seed=1), tmp_path / "other"))
    assert same_results(whole, tmp_path / "same")
    assert not same_results(whole, tmp_path / "other")


def test_training_never_reads_test_events(data: Dataset, whole: Path, tmp_path: Path) -> None:
    rng, items = np.random.default_rng(0), data.histories.items.copy()
    items[data.histories.offsets[1:] - 1] = rng.integers(0, data.items, data.users)
    changed = Histories(items, data.histories.offsets)
    info = msgspec.structs.replace(data.info, hash=data_hash(changed, data.user_ids, data.item_ids))
    list(train_backbone(Dataset(changed, data.user_ids, data.item_ids, None, info), TINY, tmp_path / "RUN"))
    assert same_results(whole, tmp_path / "RUN")


def changed(data: Dataset, back: int) -> Dataset:
    """Another log in which one user's event so many places from the end is another item."""
    items = data.histories.items.copy()
    place = data.histories.offsets[1] - back
    items[place] = (items[place] + 1) % data.items
    return replace(data, histories=Histories(items, data.histories.offsets))


def test_a_refit_learns_from_validation_events_and_never_from_test_events(data: Dataset, whole: Path, tmp_path: Path) -> None:
    recipe = refit_recipe(load_run(whole), data.hash)
    best = max(epoch.index for epoch in load_run(whole).epochs if epoch.best)
    assert (recipe.refit, recipe.epochs) == (True, best + 1)
    logs = {"same": data, "validation": changed(data, back=2), "test": changed(data, back=1)}
    for name, log in logs.items():
        epochs = list(train_backbone(log, recipe, tmp_path / name))
        assert len(epochs) == best + 1
        assert {epoch.validation_ndcg for epoch in epochs} == {None}
    same, validation, test = ((tmp_path / name / "best.safetensors").read_bytes() for name in logs)
    assert same == test != validation


def test_a_refit_base_counts_what_it_learned_and_takes_no_personalizer(data: Dataset, whole: Path, tmp_path: Path) -> None:
    list(train_backbone(data, refit_recipe(load_run(whole), data.hash), tmp_path / "RUN"))
    base = publish(tmp_path / "RUN", data, tmp_path / "BASE")
    assert base.table.counts.sum() == len(data.histories.items) - len(leave_one_out(data.histories).test)
    with pytest.raises(UsageError, match="was it refit"):
        train_personalizer(data, base, PersonalizerRecipe())


def test_what_cannot_be_refit_is_refused(data: Dataset, whole: Path, tmp_path: Path) -> None:
    list(train_backbone(data, refit_recipe(load_run(whole), data.hash), tmp_path / "RUN"))
    with pytest.raises(UsageError, match="expected a training with validation"):
        refit_recipe(load_run(tmp_path / "RUN"), data.hash)
    with pytest.raises(UsageError, match="expected data with hash"):
        refit_recipe(load_run(whole), "0" * 64)


def epochs(*best: bool) -> tuple[Epoch, ...]:
    return tuple(Epoch(index, 1, 1.0, 0.0, mark, 0.0) for index, mark in enumerate(best))


def test_patience_counts_epochs_since_the_best() -> None:
    recipe = BackboneRecipe(epochs=5, patience=2)
    assert not finished((), recipe)
    assert not finished(epochs(True, False), recipe)
    assert finished(epochs(True, False, False), recipe)
    assert not finished(epochs(True, False, True, False), recipe)
    assert finished(epochs(True, True, True, True, True), recipe)
