"""A row lives through dense Adam, and dense averaging, on its own steps; and a large table is never moved as a whole."""

from itertools import islice
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from ossia.data import Dataset, synthetic
from ossia.errors import UsageError
from ossia.training import BackboneRecipe, train_backbone
from ossia.training.averaging import blend, keep_at
from ossia.training.backbone import make_optimizer
from ossia.training.checkpoint import load_checkpoint
from ossia.training.rows import RowAdam, RowMean
from ossia.training.run import build

ITEMS, DIM, STEPS = 7, 3, 12
TINY = BackboneRecipe(
    dim=8, length=6, blocks=1, heads=2, hidden=16, batch=64, epochs=3, lr=0.01, loss="sampled_softmax", negatives=8
)


def touched(step: int) -> torch.Tensor:
    """Two to five rows a step, one of them twice; row 6 never."""
    generator = torch.Generator().manual_seed(step)
    rows = torch.randperm(ITEMS - 1, generator=generator)[: 2 + step % 4]
    return torch.cat([rows, rows[:1]])


def pull(table: nn.Embedding, rows: torch.Tensor, step: int) -> torch.Tensor:
    """Return a loss that depends on the rows and on the step."""
    return ((table(rows) - 0.1 * step) ** 2).sum() * (1 + step)


def train_rows(steps: int = STEPS) -> tuple[torch.Tensor, nn.Embedding]:
    torch.manual_seed(0)
    table = nn.Embedding(ITEMS, DIM, sparse=True)
    start, optimizer = table.weight.detach().clone(), RowAdam(table.parameters(), lr=0.05)
    for step in range(steps):
        optimizer.zero_grad()
        pull(table, touched(step), step).backward()
        optimizer.step()
    return start, table


def test_a_row_moves_as_dense_adam_would_on_the_steps_that_touch_it() -> None:
    start, table = train_rows()
    for row in range(ITEMS):
        alone = nn.Embedding.from_pretrained(start[row : row + 1].clone(), freeze=False)
        optimizer = torch.optim.Adam(alone.parameters(), lr=0.05)
        for step in range(STEPS):
            times = int((touched(step) == row).sum())
            if times:
                optimizer.zero_grad()
                pull(alone, torch.zeros(times, dtype=torch.long), step).backward()
                optimizer.step()
        assert torch.allclose(table.weight[row], alone.weight[0], atol=1e-6)


def test_where_every_row_is_touched_it_is_dense_adam() -> None:
    torch.manual_seed(0)
    rare, dense = nn.Embedding(ITEMS, DIM, sparse=True), nn.Embedding(ITEMS, DIM)
    dense.load_state_dict(rare.state_dict())
    for table, optimizer in ((rare, RowAdam(rare.parameters(), 0.05)), (dense, torch.optim.Adam(dense.parameters(), 0.05))):
        for step in range(STEPS):
            optimizer.zero_grad()
            pull(table, torch.arange(ITEMS), step).backward()
            optimizer.step()
    assert torch.allclose(rare.weight, dense.weight, atol=1e-6)


def test_a_row_that_nothing_touches_stays_as_it_is() -> None:
    start, table = train_rows()
    assert torch.equal(table.weight[6], start[6])
    assert not torch.equal(table.weight[5], start[5])


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_mean_of_rows_that_catch_up_is_the_mean_blended_at_every_step(decay: float) -> None:
    torch.manual_seed(0)
    latest, every, lazy = (nn.ModuleList([nn.Embedding(ITEMS, DIM), nn.Linear(2, 2)]) for _ in range(3))
    table, wanted, got = (module[0].weight for module in (latest, every, lazy))
    every.load_state_dict(latest.state_dict())
    lazy.load_state_dict(latest.state_dict())
    rows = RowMean(got, table)
    for epoch in range(2):
        for step in range(STEPS):
            moved = touched(step).unique()
            rows.catch_up(moved)
            with torch.no_grad():
                table[moved] += torch.randn(len(moved), DIM)
                latest[1].weight += 0.1
            keep = keep_at(decay, epoch * STEPS + step)
            blend(every, latest, keep)
            blend(lazy, latest, keep, rows)
        assert not torch.allclose(wanted, got)  # it has waited
        rows.catch_up_all()
        assert torch.allclose(wanted, got, atol=1e-5)
        assert torch.equal(every[1].weight, lazy[1].weight)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(60, 200, 9, predictability=0.8, seed=0)


def test_training_moves_only_the_rows_it_reads_or_draws(data: Dataset) -> None:
    recipe = msgspec.structs.replace(TINY, item_optimizer="rows").resolve(data.items)
    model = build(recipe, data.items)
    optimizer = make_optimizer(model, recipe)
    before = model.items.weight.detach().clone()
    model.items(torch.tensor([3, 5, 3])).sum().backward()
    optimizer.step()
    moved = (model.items.weight != before).any(1).nonzero()[:, 0]
    assert moved.tolist() == [3, 5]


def test_an_interrupted_run_with_rows_is_bit_identical(data: Dataset, tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(TINY, item_optimizer="rows")
    list(train_backbone(data, recipe, tmp_path / "whole"))
    list(islice(train_backbone(data, recipe, tmp_path / "broken"), 1))
    list(train_backbone(data, recipe, tmp_path / "broken"))
    whole, broken = (load_checkpoint(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "broken"))
    for group in ("model", "average", "best", "optimizer"):
        one, other = getattr(whole, group), getattr(broken, group)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_rows_learn_what_there_is_to_learn(tmp_path: Path) -> None:
    rule = synthetic(200, 15, 9, predictability=1.0, seed=0, rules=1)
    recipe = msgspec.structs.replace(TINY, item_optimizer="rows", epochs=8, patience=8, lr=0.03)
    assert list(train_backbone(rule, recipe, tmp_path / "RUN"))[-1].validation_ndcg > 0.9


def test_the_optimizer_is_chosen_by_the_size_of_the_catalog() -> None:
    assert BackboneRecipe().resolve(100_000).item_optimizer == "dense"
    assert BackboneRecipe().resolve(100_001).item_optimizer == "rows"
    assert BackboneRecipe(loss="full_softmax").resolve(1_000_000).item_optimizer == "dense"
    with pytest.raises(UsageError, match="expected item_optimizer dense for full_softmax"):
        BackboneRecipe(loss="full_softmax", item_optimizer="rows").resolve(10)
