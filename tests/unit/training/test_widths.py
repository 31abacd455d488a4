"""One base for every width: its slices get better, its draws are what they say, and an interruption changes nothing."""

from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from ossia.adaptation import Adaptation, Base, apply
from ossia.backbones import BACKBONES, Backbone
from ossia.backbones.published import from_weights
from ossia.data import Dataset, synthetic
from ossia.errors import UsageError
from ossia.evaluation import ndcg_at_k
from ossia.quantization.fake import at_width
from ossia.training import BackboneRecipe, load_run, publish, refit_recipe, train_backbone
from ossia.training.batches import Batch, cut_windows, epoch_batches
from ossia.training.checkpoint import load_checkpoint
from ossia.training.losses import AS_TRAINED, Proposal, Reading, next_item_loss
from ossia.training.ranks import Ranks
from ossia.training.recipes import Widths
from ossia.training.validation import validation_ranks
from ossia.training.widths import WidthPath, at_one_width

TINY = BackboneRecipe(
    dim=8, length=6, blocks=1, heads=2, hidden=16, batch=128, epochs=3, lr=0.01, loss="sampled_softmax", negatives=16
)
KINDS = {
    "sasrec": {"length": 6, "blocks": 1, "heads": 2, "hidden": 16},
    "caser": {"length": 4, "vertical": 2, "horizontal": 3},
    "gru4rec": {"length": 6, "layers": 1, "hidden": 8},
}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(80, 30, 9, predictability=0.8, seed=0)


@pytest.fixture(scope="module")
def plain_run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in float32, hardly trained."""
    path = tmp_path_factory.mktemp("runs") / "RUN"
    for _ in train_backbone(data, msgspec.structs.replace(TINY, epochs=2), path):
        pass
    return path


def train(data: Dataset, path: Path, start: Path | None = None, **settings: object) -> Backbone:
    recipe = msgspec.structs.replace(TINY, **settings)
    for _ in train_backbone(data, recipe, path, start=load_run(start) if start else None):
        pass
    return load_run(path).backbone


def quality(backbone: Backbone, data: Dataset, bits: int) -> float:
    each = at_one_width(backbone, bits)
    return ndcg_at_k(validation_ranks(each.backbone, data.split().validation, each.rows), 10)


def a_batch(backbone: Backbone, data: Dataset) -> tuple[Batch, torch.Generator]:
    windows = cut_windows(data.split().train, backbone.shape["length"])
    return next(iter(epoch_batches(windows, 64, np.random.default_rng(0)))), torch.Generator().manual_seed(0)


def test_a_slice_is_what_a_device_holds_at_that_width(data: Dataset, plain_run: Path, tmp_path: Path) -> None:
    base: Base = publish(plain_run, data, tmp_path / "base")
    for code, bits in ((1, 2), (2, 4), (3, 8)):
        ours = at_one_width(load_run(plain_run).backbone, bits)
        codes, rows = (np.full(count, code, np.uint8) for count in (base.channels, data.items))
        held = apply(base, Adaptation(codes=codes, rows=rows))
        theirs = from_weights(held).state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.backbone.state_dict().items())
        assert np.array_equal(ours.rows.detach().numpy(), held.rows.dequantize())


@pytest.mark.parametrize("widths", [Widths(), Widths(draw="channel"), Widths(draw="search", delay=2), Widths(draw="all")])
def test_what_two_bits_lose_is_halved_when_they_are_trained_along(data: Dataset, widths: Widths) -> None:
    floats, every = memorize(data, None), memorize(data, widths)
    assert every[2] - floats[8] < 0.5 * (floats[2] - floats[8])
    assert every[8] < floats[8] + 0.5


def memorize(data: Dataset, widths: Widths | None) -> dict[int, float]:
    """Learn one batch by heart, and tell the loss at each width."""
    torch.manual_seed(0)
    backbone = BACKBONES["sasrec"](data.items, dim=8, **KINDS["sasrec"], dropout=0.0)
    batch, generator = a_batch(backbone, data)
    loss = next_item_loss("full_softmax", proposal=Proposal.from_counts(torch.ones(data.items).long(), 0.0), negatives=1)
    path, optimizer = WidthPath(widths or Widths()), torch.optim.Adam(backbone.parameters(), lr=0.01)
    minimized = path.along(loss) if widths else loss
    for _ in range(150):
        optimizer.zero_grad()
        minimized(backbone, batch, generator).backward()
        if widths and widths.delay > 1:
            path.hold_back(backbone)
        optimizer.step()
    return {bits: WidthPath(Widths(alphabet=(bits,))).along(loss)(backbone, batch, generator).item() for bits in (2, 8)}


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("loss", ["full_softmax", "sampled_softmax", "bce", "gbce"])
def test_a_loss_at_a_width_is_the_loss_of_the_backbone_with_rounded_weights(data: Dataset, kind: str, loss: str) -> None:
    torch.manual_seed(0)
    backbone = BACKBONES[kind](data.items, dim=8, **KINDS[kind]).eval()
    batch, _ = a_batch(backbone, data)
    counts = torch.ones(data.items, dtype=torch.int64)
    minimized = next_item_loss(loss, proposal=Proposal.from_counts(counts, 0.0), negatives=5)
    path = WidthPath(Widths(alphabet=(2,), rows=False))
    value = path.along(minimized)(backbone, batch, torch.Generator().manual_seed(3))
    rounded = at_one_width(backbone, 2).backbone
    rounded.items.load_state_dict(backbone.items.state_dict())
    again = torch.Generator().manual_seed(3)
    torch.randint(1, (1,), generator=again)  # the draw of the width
    assert value.item() == pytest.approx(minimized(rounded, batch, again).item(), abs=1e-6)
    assert value.item() != pytest.approx(minimized(backbone, batch, again).item(), abs=1e-6)


def test_all_at_once_is_the_mean_of_the_losses_at_every_width(data: Dataset) -> None:
    torch.manual_seed(0)
    backbone = BACKBONES["sasrec"](data.items, dim=8, **KINDS["sasrec"]).eval()
    batch, generator = a_batch(backbone, data)
    minimized = next_item_loss("full_softmax", proposal=Proposal.from_counts(torch.ones(data.items).long(), 0.0), negatives=1)

    def loss_at(*alphabet: int, draw: str) -> torch.Tensor:
        return WidthPath(Widths(alphabet=alphabet, draw=draw)).along(minimized)(backbone, batch, generator)

    each = [loss_at(bits, draw="step") for bits in (2, 4, 8)]
    assert len({round(loss.item(), 4) for loss in each}) == 3
    assert loss_at(2, 4, 8, draw="all").item() == pytest.approx(sum(each).item() / 3, abs=1e-6)


def test_rows_that_are_scored_are_rounded_and_rows_of_the_history_are_not(data: Dataset) -> None:
    torch.manual_seed(0)
    backbone = BACKBONES["sasrec"](data.items, dim=8, **KINDS["sasrec"]).eval()
    batch, generator = a_batch(backbone, data)
    read: list[torch.Tensor] = []

    def rows(x: torch.Tensor) -> torch.Tensor:
        read.append(x)
        return torch.zeros_like(x)

    minimized = next_item_loss("full_softmax", proposal=Proposal.from_counts(torch.ones(data.items).long(), 0.0), negatives=1)
    value = minimized(backbone, batch, generator, Reading(AS_TRAINED.slot, rows))
    assert value.item() == pytest.approx(np.log(data.items))  # all scores are zero
    assert [len(x) for x in read] == [data.items]


def test_widths_are_drawn_evenly_by_step_and_by_channel() -> None:
    generator, linear = torch.Generator().manual_seed(0), nn.Linear(8, 9_000, bias=False)
    by_step = WidthPath(Widths())
    drawn = []
    for _ in range(300):
        by_step._drawn(generator)
        drawn.append(by_step.bits)
    assert all(70 < drawn.count(bits) < 130 for bits in (2, 4, 8))
    reading = WidthPath(Widths(draw="channel"))._drawn(generator)
    at_all = [at_width(linear.weight.detach(), bits) for bits in (2, 4, 8)]
    levels = reading.slot("a", linear, torch.eye(8)[None])[0].T
    shares = [float(((reading_at - levels).abs().amax(1) == 0).float().mean()) for reading_at in at_all]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.02)
    assert torch.equal(reading.slot("a", linear, torch.eye(8)[None])[0].T, levels)  # once a step, however often it is applied


@pytest.mark.parametrize(("exploration", "most"), [(0.0, 98), (1.0, 95), (100.0, 40)])
def test_the_search_draws_most_where_most_is_left_to_gain(exploration: float, most: int) -> None:
    path, loss = WidthPath(Widths(draw="search", exploration=exploration)), {2: 3.0, 4: 1.1, 8: 1.0}
    for _ in range(100):
        path._drawn(torch.Generator())
        path._note(loss[path.bits])
    assert path.counts[2] >= path.counts[4] >= path.counts[8] >= 1
    assert path.counts[2] <= most
    assert exploration == 100.0 or path.counts[2] > 80


def test_a_delayed_update_is_one_step_with_the_mean_of_the_narrow_gradients() -> None:
    path, model = WidthPath(Widths(delay=3)), nn.Linear(2, 1)
    seen = []
    for step, bits in enumerate([2, 8, 2, 4, 2, 2]):
        path.bits = bits
        model.weight.grad, model.bias.grad = torch.full((1, 2), float(step)), None
        path.hold_back(model)
        seen.append(None if model.weight.grad is None else float(model.weight.grad[0, 0]))
    assert seen == [None, 1.0, None, 3.0, 2.0, None]  # (0 + 2 + 4) / 3 at the third narrow step; the next one waits again
    assert model.bias.grad is None


@pytest.mark.parametrize(
    "widths", [Widths(draw="channel"), Widths(draw="search"), Widths(delay=3), Widths(alphabet=(2,)), Widths(scales="exponent")]
)
@pytest.mark.parametrize("items", ["dense", "rows"])
def test_an_interrupted_training_is_bit_identical(data: Dataset, tmp_path: Path, widths: Widths, items: str) -> None:
    recipe = msgspec.structs.replace(TINY, widths=widths, item_optimizer=items)
    list(train_backbone(data, recipe, tmp_path / "whole"))
    list(islice(train_backbone(data, recipe, tmp_path / "torn"), 1))
    torch.rand(2)
    list(train_backbone(data, recipe, tmp_path / "torn"))
    whole, torn = (load_checkpoint(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "torn"))
    assert all(torch.equal(whole.model[name], torn.model[name]) for name in whole.model)
    assert all(torch.equal(whole.best[name], torn.best[name]) for name in whole.best)


def test_validation_is_the_mean_over_the_trained_widths(data: Dataset, tmp_path: Path) -> None:
    run = load_run(_trained(data, tmp_path / "RUN", Widths()))
    best = max((epoch for epoch in run.epochs if epoch.best), key=lambda epoch: epoch.index)
    assert best.validation_ndcg == pytest.approx(np.mean([quality(run.backbone, data, bits) for bits in (2, 4, 8)]))


def _trained(data: Dataset, path: Path, widths: Widths) -> Path:
    train(data, path, widths=widths)
    return path


def test_training_begins_at_another_runs_weights(data: Dataset, plain_run: Path, tmp_path: Path) -> None:
    start = load_run(plain_run)
    train(data, tmp_path / "RUN", plain_run, epochs=1, lr=1e-12)
    moved, before = load_run(tmp_path / "RUN").backbone.state_dict(), start.backbone.state_dict()
    assert all(torch.allclose(moved[name], before[name], atol=1e-8) for name in before)
    assert len(load_run(tmp_path / "RUN").recipe.start) == 64


def test_a_start_of_other_sizes_data_or_weights_is_refused(data: Dataset, plain_run: Path, tmp_path: Path) -> None:
    start = load_run(plain_run)
    with pytest.raises(UsageError, match="start: expected a run of"):
        train_backbone(data, msgspec.structs.replace(TINY, hidden=8), tmp_path / "RUN", start=start)
    with pytest.raises(UsageError, match="start: expected a run on data"):
        train_backbone(synthetic(80, 30, 9, predictability=0.8, seed=1), TINY, tmp_path / "RUN", start=start)
    train(data, tmp_path / "RUN", plain_run, epochs=1)
    with pytest.raises(UsageError, match="expected start"):
        train_backbone(data, msgspec.structs.replace(TINY, epochs=1), tmp_path / "RUN")
    with pytest.raises(UsageError, match="expected a training with validation, from its own first weights"):
        refit_recipe(load_run(tmp_path / "RUN"), data.hash)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"alphabet": [4, 2]}, "widths.alphabet rising"),
        ({"alphabet": []}, "length >= 1"),
        ({"alphabet": [3]}, "Invalid enum value 3"),
        ({"draw": "channel", "delay": 2}, "widths.delay 1"),
        ({"draw": "all", "delay": 2}, "widths.delay 1"),
    ],
)
def test_widths_that_make_no_sense_are_refused_by_name(widths: dict[str, object], message: str) -> None:
    with pytest.raises((UsageError, msgspec.ValidationError), match=message):
        msgspec.convert({"widths": widths}, BackboneRecipe).resolve(100)


def test_several_processes_do_not_search_for_each_sees_other_losses(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ossia.training.backbone.join_ranks", lambda _: Ranks(0, 2))
    with pytest.raises(UsageError, match=r"torchrun: expected widths\.draw step, all or channel"):
        train_backbone(data, msgspec.structs.replace(TINY, widths=Widths(draw="search")), tmp_path / "RUN")
