"""One base for every depth: what is drawn, what comes of it, and that nothing else is disturbed."""

from itertools import islice
from pathlib import Path

import msgspec
import pytest
import torch

from ossia.backbones import Backbone
from ossia.backbones.backbone import GateJoint
from ossia.backbones.sasrec import SASRec
from ossia.data import Dataset, synthetic
from ossia.errors import UsageError
from ossia.training import BackboneRecipe, load_run, train_backbone
from ossia.training.batches import Batch, cut_windows
from ossia.training.depth import at_drawn_depth, close_branches
from ossia.training.losses import AS_TRAINED, Proposal, Reading, next_item_loss
from ossia.training.recipes import Distillation

TINY = BackboneRecipe(dim=16, length=8, blocks=2, heads=1, hidden=16, batch=128, epochs=6, lr=0.01, averaging=0.5)
ROWS = 6000


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(200, 30, 9, predictability=0.9, seed=0)


def train(data: Dataset, path: Path, **settings: object) -> Backbone:
    for _ in train_backbone(data, msgspec.structs.replace(TINY, **settings), path):
        pass
    return load_run(path).backbone


def drawn_gate(backbone: Backbone, rows: int) -> GateJoint:
    """What `at_drawn_depth` hands to a loss."""
    seen: list[Reading] = []

    def loss(backbone: Backbone, batch: Batch, generator: torch.Generator, reading: Reading = AS_TRAINED) -> torch.Tensor:
        seen.append(reading)
        return torch.zeros(())

    empty = torch.zeros(rows, 1, dtype=torch.int64)
    at_drawn_depth(loss)(backbone, Batch(empty, empty, empty, empty), torch.Generator().manual_seed(0))
    return seen[0].gate


def test_each_row_runs_the_first_branches_and_every_depth_is_as_likely() -> None:
    backbone = SASRec(items=9, dim=8, length=5, blocks=2, heads=1, hidden=8)
    gate = drawn_gate(backbone, ROWS)
    runs = torch.stack([gate(name, torch.ones(ROWS, 1, 1)).flatten() for name in backbone.gates()], dim=1)
    assert set(runs.unique().tolist()) == {0.0, 1.0}  # nothing is rescaled
    assert (runs.diff(dim=1) <= 0).all()
    share = runs.sum(dim=1).long().bincount(minlength=5) / ROWS
    assert share[0] == 0
    assert (share[1:] - 0.25).abs().max() < 0.03


def test_a_loss_at_a_drawn_depth_is_that_of_the_rows_cut_there(data: Dataset) -> None:
    windows = cut_windows(data.split().train, 8)
    batch = windows.padded(torch.arange(12).numpy(), 8)
    torch.manual_seed(0)
    backbone = SASRec(items=data.items, dim=8, length=8, blocks=2, heads=1, hidden=8).eval()
    loss = next_item_loss("full_softmax", proposal=Proposal.from_counts(torch.ones(data.items).int(), 0.5), negatives=4)
    gate = drawn_gate(backbone, 12)
    depths = torch.stack([gate(name, torch.ones(12, 1, 1)).flatten() for name in backbone.gates()]).sum(dim=0).long().tolist()
    assert len(set(depths)) > 1

    def alone(row: int) -> torch.Tensor:
        kept = backbone.gates()[: depths[row]]
        one = Batch(*(part[row : row + 1] for part in (batch.inputs, batch.targets, batch.positions, batch.pieces)))
        reading = Reading(gate=lambda name, branch: branch * float(name in kept))
        return loss(backbone, one, torch.Generator(), reading) * (one.inputs >= 0).sum()

    whole = at_drawn_depth(loss)(backbone, batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(whole * (batch.inputs >= 0).sum(), torch.stack([alone(row) for row in range(12)]).sum())


def test_the_first_branches_are_better_when_every_depth_was_trained(data: Dataset, tmp_path: Path) -> None:
    loss = next_item_loss("full_softmax", proposal=Proposal.from_counts(torch.ones(data.items).int(), 0.5), negatives=4)
    windows = cut_windows(data.split().train, 8)
    batch = windows.padded(torch.arange(len(windows)).numpy(), 8)

    def missed(backbone: Backbone, depth: int) -> float:
        kept = backbone.gates()[:depth]
        reading = Reading(gate=lambda name, branch: branch * float(name in kept))
        return loss(backbone, batch, torch.Generator(), reading).item()

    whole, drawn = (train(data, tmp_path / depth, depth=depth).eval() for depth in ("whole", "drawn"))
    with torch.no_grad():
        assert missed(drawn, 1) < missed(whole, 1) - 0.1
        assert missed(drawn, 2) < missed(whole, 2) - 0.1


def test_branches_begin_at_nothing_and_leave_it(data: Dataset, tmp_path: Path) -> None:
    backbone = SASRec(items=9, dim=8, length=5, blocks=2, heads=2, hidden=8, valves=1).eval()
    histories = torch.randint(9, (4, 5), generator=torch.Generator().manual_seed(0))
    close_branches(backbone)
    nothing = backbone(histories, gate=lambda _, branch: branch * 0)
    torch.testing.assert_close(backbone(histories), nothing, rtol=0, atol=0)
    trained = train(data, tmp_path / "run", depth="drawn", epochs=1)
    ends = {slot.gate: slot.name for slot in trained.slots()}.values()
    assert all(trained.get_submodule(name).weight.abs().max() > 1e-3 for name in ends)


def test_an_interrupted_training_at_drawn_depths_ends_alike(data: Dataset, tmp_path: Path) -> None:
    through = train(data, tmp_path / "through", depth="drawn", epochs=2)
    recipe = msgspec.structs.replace(TINY, depth="drawn", epochs=2)
    list(islice(train_backbone(data, recipe, tmp_path / "broken"), 1))
    broken = train(data, tmp_path / "broken", depth="drawn", epochs=2)
    assert all(torch.equal(one, other) for one, other in zip(through.parameters(), broken.parameters(), strict=True))


def test_a_teacher_and_other_backbones_are_refused_at_drawn_depths() -> None:
    with pytest.raises(UsageError, match="expected depth drawn for sasrec"):
        BackboneRecipe(backbone="caser", depth="drawn").resolve(items=30)
    with pytest.raises(UsageError, match="without a distillation"):
        msgspec.structs.replace(TINY, depth="drawn", distillation=Distillation(teacher="0" * 64)).resolve(items=30)
