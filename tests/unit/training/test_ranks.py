"""Two processes take the steps of one; when one is killed both stop, and the next start goes on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ossia.backbones import SASRec
from ossia.data import Dataset, Histories, synthetic
from ossia.training import BackboneRecipe, load_run, train_backbone
from ossia.training.batches import cut_windows, epoch_batches
from ossia.training.losses import Proposal, next_item_loss
from ossia.training.ranks import Ranks, parts, weighted
from ossia.training.run import read_history

RECIPE = BackboneRecipe(
    dim=8, length=6, blocks=1, heads=2, hidden=16, batch=200, epochs=3, lr=0.01, negatives=16, loss="sampled_softmax",
    dropout=0.0, item_optimizer="rows",
)  # fmt: skip

CHILD = """
import os, signal, sys
import msgspec
from ossia.data import Dataset
from ossia.training import BackboneRecipe, backbone, train_backbone

data, recipe, out, deadly = sys.argv[1:]
take_step, steps = backbone.fit, []

def die_in_time(*arguments, **named):
    for step in take_step(*arguments, **named):
        steps.append(step)
        if os.environ["RANK"] == "1" and len(steps) == int(deadly):
            os.kill(os.getpid(), signal.SIGKILL)
        yield step

backbone.fit = die_in_time
for epoch in train_backbone(Dataset.load(data), msgspec.json.decode(recipe, type=BackboneRecipe), out):
    pass
"""


def material() -> Dataset:
    return synthetic(120, 30, 9, predictability=0.8, seed=0)


def torchrun(data: Path, out: Path, script: Path, deadly: int) -> subprocess.CompletedProcess[str]:
    import msgspec

    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [str(data), msgspec.json.encode(RECIPE).decode(), str(out), str(deadly)]
    return subprocess.run([*start, *arguments], env=environment, timeout=200, capture_output=True, text=True)


def test_two_processes_one_of_them_killed_on_the_way_train_what_one_process_trains(tmp_path: Path) -> None:
    data = material()
    data.save(tmp_path / "data")
    (tmp_path / "child.py").write_text(CHILD)
    one = list(train_backbone(data, RECIPE, tmp_path / "one"))

    killed = torchrun(tmp_path / "data", tmp_path / "two", tmp_path / "child.py", one[0].steps + 2)
    assert killed.returncode != 0
    assert [epoch.index for epoch in read_history(tmp_path / "two" / "history.jsonl")] == [0]

    again = torchrun(tmp_path / "data", tmp_path / "two", tmp_path / "child.py", -1)
    assert again.returncode == 0, again.stderr[-3000:]
    two = read_history(tmp_path / "two" / "history.jsonl")
    assert [epoch.index for epoch in two] == [0, 1, 2]
    assert [epoch.loss for epoch in two] == pytest.approx([epoch.loss for epoch in one], rel=1e-5)
    assert [epoch.validation_ndcg for epoch in two] == pytest.approx([epoch.validation_ndcg for epoch in one], abs=0.01)
    ours, theirs = (load_run(tmp_path / name).backbone.state_dict() for name in ("two", "one"))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in ours)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_parts_of_a_batch_add_up_to_its_loss_and_gradient(size: int) -> None:
    torch.manual_seed(0)
    model = SASRec(20, dim=4, length=5, blocks=1, heads=1, hidden=8, dropout=0.0)
    loss = next_item_loss("sampled_softmax", proposal=Proposal.from_counts(torch.ones(20, dtype=torch.int64), 1.0), negatives=9)
    rng = np.random.default_rng(0)
    windows = cut_windows(Histories.from_lists([rng.integers(0, 20, 2 + user % 5).tolist() for user in range(9)]), 5)
    (batch,) = epoch_batches(windows, 1_000, np.random.default_rng(0))

    def gradients(value: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(value, list(model.parameters())))

    whole = loss(model, batch, torch.Generator().manual_seed(1))
    pieces = []
    for rank in range(size):
        (part,) = parts(iter([batch]), Ranks(rank, size))
        pieces.append(weighted(loss, Ranks(rank, size))(model, part, torch.Generator().manual_seed(1)))
    assert float(sum(pieces).detach()) == pytest.approx(float(whole.detach()), rel=1e-5)
    for one, other in zip(gradients(sum(pieces)), gradients(whole), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
