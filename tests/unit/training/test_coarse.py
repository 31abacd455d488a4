"""Product codes that are trained along begin as they were fitted, move with the model, and go into the base as they are."""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from ossia.backbones import BACKBONES, Backbone
from ossia.data import Dataset, synthetic
from ossia.errors import UsageError
from ossia.evaluation import ndcg_at_k
from ossia.training import BackboneRecipe, load_run, product_codes, publish, train_backbone
from ossia.training.batches import Batch, cut_windows, epoch_batches
from ossia.training.checkpoint import load_checkpoint
from ossia.training.coarse import CoarseRows, attach, coarse_rows, every_row, steps_of, with_coarse
from ossia.training.losses import Proposal, next_item_loss
from ossia.training.product_codes import fit_product_codes
from ossia.training.publish import tail_of, user_states
from ossia.training.ranks import Ranks
from ossia.training.recipes import Coarse, Distillation, Widths
from ossia.training.validation import validation_ranks

TINY = BackboneRecipe(
    dim=16, length=6, blocks=1, heads=2, hidden=32, dropout=0.0, batch=256, epochs=4, lr=0.01, averaging=0.9,
    loss="sampled_softmax", negatives=64, coarse=Coarse(parts=2, lr=0.01),
)  # fmt: skip
LOSSES = ["full_softmax", "sampled_softmax", "bce", "gbce"]


@pytest.fixture(scope="module", autouse=True)
def few_words() -> Iterator[None]:
    """Codebooks of eight words, so that a small table is coarse, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product_codes, "_k_means", partial(product_codes._k_means, words=8))
        yield


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(400, 80, 9, predictability=0.9, seed=0)


@pytest.fixture(scope="module")
def start(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "START"
    list(train_backbone(data, msgspec.structs.replace(TINY, epochs=15, patience=15, coarse=None), path))
    return path


@pytest.fixture(scope="module")
def trained(data: Dataset, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(data, tmp_path_factory.mktemp("runs") / "RUN", start)


def train(data: Dataset, path: Path, start: Path, **settings: object) -> Path:
    recipe = msgspec.structs.replace(TINY, **settings)
    list(train_backbone(data, recipe, path, start=load_run(start)))
    return path


def tailed(data: Dataset, seed: int = 0) -> Backbone:
    """A small backbone with a tail that was fitted to it."""
    torch.manual_seed(seed)
    backbone = BACKBONES["sasrec"](data.items, dim=16, length=6, blocks=1, heads=2, hidden=32, dropout=0.0)
    with torch.no_grad():
        backbone.items.weight.mul_(30)
    attach(backbone, fit_product_codes(backbone.items.weight.detach(), user_states(backbone, data.split().train), 2))
    return backbone


def a_batch(data: Dataset) -> Batch:
    return next(iter(epoch_batches(cut_windows(data.split().train, 6), 64, np.random.default_rng(0))))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_what_is_not_trained_yet_scores_as_the_fitted_tail_does(data: Dataset) -> None:
    torch.manual_seed(0)
    vectors, states = torch.randn(400, 8), torch.randn(50, 8)
    tail = fit_product_codes(vectors, states, 4)
    rows: Tensor = CoarseRows(tail)(torch.tensor([7, 3, 399]))
    expected = tail.scores_of_all(states.numpy())[:, [7, 3, 399]]
    assert (states @ rows.T).detach().numpy() == pytest.approx(expected, abs=1e-5)


def with_coarse_table(backbone: Backbone, batch: Batch) -> Backbone:
    """The same backbone with its coarse rows for a table; the batch's histories are encoded from the fine ones."""
    coarse, fine = deepcopy(backbone), backbone.items(batch.inputs.clamp_min(0))
    with torch.no_grad():
        coarse.items.weight.copy_(every_row(backbone))
    encode = coarse.encode
    coarse.encode = lambda _, *where, **joints: encode(fine, *where, **joints)
    return coarse


@pytest.mark.parametrize("kind", LOSSES)
def test_the_loss_is_that_over_the_rows_and_w_times_that_over_coarse_rows(data: Dataset, kind: str) -> None:
    backbone, batch = tailed(data), a_batch(data)
    proposal = Proposal.from_counts(torch.ones(data.items).long(), 0.0)
    loss = next_item_loss(kind, proposal=proposal, negatives=20)
    both = with_coarse(loss, 0.7)(backbone, batch, generator()).item()
    fine = loss(backbone, batch, generator()).item()
    coarse = loss(with_coarse_table(backbone, batch), batch, generator()).item()
    assert coarse != pytest.approx(fine, rel=1e-3)
    assert both == pytest.approx(fine + 0.7 * coarse, rel=1e-5)


@pytest.mark.parametrize("kind", ["full_softmax", "sampled_softmax"])
def test_the_coarse_part_moves_codewords_rotation_histories_and_encoder_but_no_code(data: Dataset, kind: str) -> None:
    backbone, batch = tailed(data), a_batch(data)
    loss = next_item_loss(kind, proposal=Proposal.from_counts(torch.ones(data.items).long(), 0.0), negatives=20)
    value = with_coarse(loss, 1.0)(backbone, batch, generator()) - loss(backbone, batch, generator())
    value.backward()
    assert all(each.grad.abs().max() > 1e-6 for each in backbone.parameters() if each.ndim > 1)  # a key's bias never moves
    read, scored = set(batch.inputs[batch.inputs >= 0].tolist()), backbone.items.weight.grad.abs().amax(1)
    assert set((scored > 1e-6).nonzero().flatten().tolist()) <= read
    assert [name for name, _ in coarse_rows(backbone).named_parameters()] == ["codewords", "rotation"]


def test_codewords_step_in_their_own_spread_and_the_rest_as_the_optimizer_says(data: Dataset) -> None:
    backbone = tailed(data)
    rest, words, turn = steps_of(backbone, 0.1)
    tail = coarse_rows(backbone)
    assert words["params"][0] is tail.codewords
    assert turn["params"][0] is tail.rotation
    assert words["lr"] == pytest.approx(0.1 * tail.codewords.std().item())
    assert turn["lr"] == pytest.approx(0.03 * tail.rotation.std().item())
    assert "lr" not in rest
    assert len(rest["params"]) + 2 == len(list(backbone.parameters()))


def test_training_along_ranks_better_by_the_tail_than_learning_the_order_afterwards(
    data: Dataset, start: Path, trained: Path, tmp_path: Path
) -> None:
    plain = load_run(train(data, tmp_path / "plain", start, coarse=None))
    after = tail_of(plain, user_states(plain.backbone, data.split().train), 2)
    attach(plain.backbone, after)
    assert coarse_quality(trained, data) > ndcg(plain.backbone, data, every_row(plain.backbone)) + 0.02


def coarse_quality(path: Path, data: Dataset) -> float:
    run = load_run(path)
    attach(run.backbone, run.tail)
    return ndcg(run.backbone, data, every_row(run.backbone))


def ndcg(backbone: Backbone, data: Dataset, rows: Tensor | None = None) -> float:
    return ndcg_at_k(validation_ranks(backbone, data.split().validation, rows), 10)


def test_an_epoch_is_as_good_as_the_mean_of_table_and_tail(data: Dataset, trained: Path) -> None:
    run = load_run(trained)
    best = max((epoch for epoch in run.epochs if epoch.best), key=lambda epoch: epoch.index)
    mean = np.mean([ndcg(run.backbone, data), coarse_quality(trained, data)])
    assert best.validation_ndcg == pytest.approx(mean, abs=2e-3)  # the run's tail is float32, the base's float16


@pytest.mark.parametrize("items", ["dense", "rows"])
def test_an_interrupted_training_is_bit_identical(data: Dataset, start: Path, tmp_path: Path, items: str) -> None:
    recipe = msgspec.structs.replace(TINY, item_optimizer=items, epochs=2)
    for name, epochs in (("whole", 2), ("torn", 1), ("torn", 2)):
        list(islice(train_backbone(data, recipe, tmp_path / name, start=load_run(start)), epochs))
    whole, torn = (load_checkpoint(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "torn"))
    for group in ("model", "average", "best", "optimizer"):
        one, other = getattr(whole, group), getattr(torn, group)
        assert all(torch.equal(one[name], other[name]) for name in one)
    fitted = tail_of(load_run(start), user_states(load_run(start).backbone, data.split().train), 2)
    assert np.array_equal(whole.best["coarse.codes"].numpy(), fitted.codes)
    assert not np.array_equal(whole.best["coarse.codewords"].half().numpy(), fitted.codewords)


def test_the_base_has_the_trained_tail_to_the_byte(data: Dataset, trained: Path, tmp_path: Path) -> None:
    base, run = publish(trained, data, tmp_path / "base", tail=2), load_run(trained)
    assert base.table.tail is not None
    best = load_checkpoint(trained / "checkpoint.safetensors").best
    assert np.array_equal(base.table.tail.codes, best["coarse.codes"].numpy())
    assert np.array_equal(base.table.tail.codewords, best["coarse.codewords"].half().numpy())
    assert np.array_equal(base.table.tail.rotation, best["coarse.rotation"].half().numpy())
    assert not [name for name in (*base.floats, *run.backbone.state_dict()) if "coarse" in name]
    assert publish(trained, data, tmp_path / "without").table.tail is None
    with pytest.raises(UsageError, match="tail: expected 2 parts, as they were trained with the run, got 4"):
        publish(trained, data, tmp_path / "other", tail=4)


def test_a_training_goes_on_from_a_tail_that_was_trained(data: Dataset, trained: Path, tmp_path: Path) -> None:
    again = load_run(train(data, tmp_path / "again", trained, epochs=1, lr=1e-12, coarse=Coarse(parts=2, lr=0.0))).tail
    before = load_run(trained).tail
    assert np.array_equal(again.codes, before.codes)
    assert np.array_equal(again.codewords, before.codewords)
    assert np.array_equal(again.rotation, before.rotation)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coarse": Coarse(parts=3)}, "coarse.parts that divide dim 16, got 3"),
        ({"widths": Widths()}, "coarse without widths"),
        ({"depth": "drawn"}, "coarse without widths, a distillation or depth drawn"),
        ({"distillation": Distillation(teacher="0" * 64)}, "coarse without widths, a distillation"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        msgspec.structs.replace(TINY, **settings).resolve(100)


def test_it_takes_a_run_to_start_at_and_one_process(
    data: Dataset, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="coarse: expected a run to start at"):
        train_backbone(data, TINY, tmp_path / "RUN")
    monkeypatch.setattr("ossia.training.backbone.join_ranks", lambda _: Ranks(0, 2))
    with pytest.raises(UsageError, match="torchrun: expected one process for coarse"):
        train_backbone(data, TINY, tmp_path / "RUN", start=load_run(start))
